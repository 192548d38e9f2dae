# SPDX-License-Identifier: Apache-2.0
"""The release notes as reStructuredText, for the documentation.

reno assigns notes to versions by the tags of Git. Before the first tag, and
in a tree without Git, the notes in the tree belong to the version in
setup.cfg.
"""

import configparser
import contextlib
import logging
import pathlib
from typing import Any

import yaml
from dulwich import errors
from reno import config
from reno import formatter
from reno import loader

ROOT = pathlib.Path(__file__).resolve().parent.parent
# reno's name for notes before the first tag.
UNTAGGED = '0.0.0'


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


def text() -> str:
    """All notes, the latest version first."""
    conf = config.Config(str(ROOT))
    # Messages for reno's own command line.
    logging.getLogger('reno').setLevel(logging.WARNING)
    with contextlib.ExitStack() as stack:
        notes: Any = InTree(conf, version())
        with contextlib.suppress(errors.NotGitRepository):
            tagged = stack.enter_context(loader.Loader(conf))
            if tagged.versions and UNTAGGED not in tagged.versions:
                notes = tagged
        report: str = formatter.format_report(
            notes, conf, notes.versions, show_source=False)
    return report
