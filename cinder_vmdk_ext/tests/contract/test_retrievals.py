# SPDX-License-Identifier: Apache-2.0
"""Properties are retrieved in one place, which follows all pages."""

import ast
import unittest

from cinder_vmdk_ext.tests.contract import seams
from tools import structure

RETRIEVES = 'cinder_vmdk_ext.vsphere.property_collector'
CALLS = frozenset({
    'RetrieveProperties', 'RetrievePropertiesEx',
    'ContinueRetrievePropertiesEx', 'CancelRetrievePropertiesEx',
    # of oslo.vmware, for callers that follow pages themselves
    'get_objects', 'continue_retrieval', 'cancel_retrieval',
    'WithRetrieval'})


def words(tree):
    """Names and texts in a module, but for its docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {id(node.body[0].value) for node in structure.nodes(tree)
                  if isinstance(node, documented) and node.body
                  and isinstance(node.body[0], ast.Expr)}
    for node in structure.nodes(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif (isinstance(node, ast.Constant) and isinstance(node.value, str)
              and id(node) not in docstrings):
            yield node.value


class RetrievalsTestCase(unittest.TestCase):

    def test_no_other_module_retrieves_properties(self):
        for name, tree in seams.our_modules().items():
            if name != RETRIEVES:
                self.assertEqual(set(), CALLS & set(words(tree)), name)

    def test_the_module_above_does(self):
        self.assertTrue(CALLS & set(words(seams.our_modules()[RETRIEVES])))


if __name__ == '__main__':
    unittest.main()
