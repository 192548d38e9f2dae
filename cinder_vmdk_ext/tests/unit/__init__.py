# SPDX-License-Identifier: Apache-2.0
"""Tests without a vCenter, one file for each module of the plugin."""

import logging

from cinder import objects

# Else Python prints to the terminal what has no handler.
logging.getLogger().addHandler(logging.NullHandler())

# As each of Cinder's services does first; its scheduler cannot be imported
# without.
objects.register_all()
