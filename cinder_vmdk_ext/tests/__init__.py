# SPDX-License-Identifier: Apache-2.0
"""Tests of the plugin.

- `unit`: one module at a time, without a vCenter and without a network.
- `contract`: Cinder's code that we depend on, and the rules of our own code.
- `functional`: against the simulated vCenter, over SOAP.
"""

import logging

# A test that looks at log lines catches them; the others print none.
logging.getLogger('cinder_vmdk_ext').addHandler(logging.NullHandler())
