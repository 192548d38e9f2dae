# SPDX-License-Identifier: Apache-2.0
"""Configures Sphinx, which builds this folder (make docs)."""

import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTSIDE = re.compile(r'\[([^]]*)\]\((\.\./[^)#\s]+)[^)\s]*\)')
sys.path.insert(0, str(ROOT))

from docutils import nodes  # noqa: E402
from docutils import statemachine  # noqa: E402
from docutils.parsers import rst  # noqa: E402
from sphinx.util.nodes import nested_parse_with_titles  # noqa: E402

from tools import release_notes  # noqa: E402

project = 'cinder_vmdk_ext'
author = 'The cinder_vmdk_ext authors'
version = release = release_notes.version()

extensions = ['myst_parser']
source_suffix = {'.md': 'markdown'}
exclude_patterns = ['requirements.txt']
# Links to a heading, as Git hosts make them.
myst_heading_anchors = 3
# What has no language is no Python.
highlight_language = 'none'
# Quotes in text are often part of a name or a message.
smartquotes = False
html_theme = 'alabaster'
html_theme_options = {
    'description': f'{release} · Cinder on VMware vCenter, one pool per '
                   'datastore',
    # Narrower windows get the layout for small screens.
    'page_width': '60rem',
    'body_max_width': '88rem',
    'sidebar_width': '17rem',
    'fixed_sidebar': True,
}
html_static_path = ['_static']
html_sidebars = {'**': ['about.html', 'searchfield.html', 'navigation.html']}
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False


class ReleaseNotes(rst.Directive):
    """The directive ``notes``: the release notes."""

    def run(self):
        lines = statemachine.StringList(
            release_notes.text().splitlines(), source='release notes')
        node = nodes.section()
        node.document = self.state.document
        nested_parse_with_titles(self.state, lines, node)
        return node.children


def name_files_outside(app, docname, source):
    """Name a file beside docs/ instead of linking to it.

    Git hosts show such a file; Sphinx has no page for it.
    """
    folder = (pathlib.Path(app.srcdir) / docname).parent

    def named(found):
        target = os.path.relpath(folder / found[2], ROOT)
        if target.startswith('docs/'):
            return found[0]
        return f'`{target}`' if found[1] == target else (
            f'{found[1]} (`{target}`)')

    source[0] = OUTSIDE.sub(named, source[0])


def setup(app):
    app.connect('source-read', name_files_outside)
    app.add_directive('notes', ReleaseNotes)
    return {'parallel_read_safe': True}
