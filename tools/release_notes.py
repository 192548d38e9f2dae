# SPDX-License-Identifier: Apache-2.0
"""The release notes as reStructuredText, for the documentation.

reno assigns notes to versions by the tags of Git. Before the first tag, and
in a tree without Git, all notes belong to the version in setup.cfg.
"""

import configparser
import contextlib
import pathlib
from typing import Any

import yaml
from dulwich import errors
from dulwich import repo
from reno import config
from reno import formatter
from reno import loader

ROOT = pathlib.Path(__file__).resolve().parent.parent


def version() -> str:
    """The version in setup.cfg."""
    found = configparser.ConfigParser()
    found.read(ROOT / 'setup.cfg', 'utf-8')
    return found['metadata']['version']


class InTree:
    """The notes in the tree, with the interface of reno's Loader."""

    def __init__(self, conf: Any, title: str) -> None:
        self._title = title
        self._conf = conf
        self.versions = [title]

    def __getitem__(self, name: str) -> list[tuple[str, None]]:
        folder = pathlib.Path(self._conf.reporoot, self._conf.notespath)
        return [(str(path), None) for path in sorted(folder.glob('*.yaml'))]

    def parse_note_file(self, name: str, sha: None) -> Any:
        """The sections of a note."""
        return yaml.safe_load(pathlib.Path(name).read_text('utf-8'))


def _is_tagged() -> bool:
    try:
        with repo.Repo(str(ROOT)) as found:
            return any(name.startswith(b'refs/tags/')
                       for name in found.refs.allkeys())
    except errors.NotGitRepository:
        return False


def text() -> str:
    """All notes, the latest version first."""
    conf = config.Config(str(ROOT))
    with contextlib.ExitStack() as stack:
        notes: Any = (stack.enter_context(loader.Loader(conf))
                      if _is_tagged() else InTree(conf, version()))
        report: str = formatter.format_report(
            notes, conf, notes.versions, show_source=False)
    return report
