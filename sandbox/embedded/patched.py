# SPDX-License-Identifier: Apache-2.0
"""Import this before anything else to use eventlet, as cinder-volume does."""

import eventlet

try:
    from cinder import monkey_patch
except ImportError:
    # Before Cinder 29 each of its programs did this itself.
    eventlet.monkey_patch()
else:
    monkey_patch.patch()
