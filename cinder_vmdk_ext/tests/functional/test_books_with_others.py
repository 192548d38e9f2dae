# SPDX-License-Identifier: Apache-2.0
"""A small part of ``make books``."""

from cinder_vmdk_ext.tests.functional import books_with_others

EXAMPLES, STEPS = 1, 25


class BooksWithOthersTestCase(books_with_others.BooksCase):

    def test_books_balance_beside_others(self):
        self.run_books(books_with_others.Books, EXAMPLES, STEPS)
