# SPDX-License-Identifier: Apache-2.0
"""Ports of loopback that no other process takes before a test's server does.
"""

import socket
from collections.abc import Callable
from typing import Any


def reserved(add_cleanup: Callable[..., Any]) -> int:
    """A port on which only a server with SO_REUSEADDR can listen.

    Until the test ends, the kernel gives it to no other process. As long as
    no server listens, connections to it are refused.

    :param add_cleanup: of the test
    """
    held = socket.socket()
    add_cleanup(held.close)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(('127.0.0.1', 0))
    port: int = held.getsockname()[1]
    return port
