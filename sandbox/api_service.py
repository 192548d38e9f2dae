# SPDX-License-Identifier: Apache-2.0
"""Cinder's API in a process of its own, on either runtime. Run as

    python -m sandbox.api_service READY_FILE --config-file cinder.conf

Into the ready file goes {"port": ...} once it answers. Cinder's own program
cinder-api knows no native threads, and tells nobody which port it was given.
"""
# First, since it patches the standard library for eventlet.
from sandbox import cinder_services  # noqa: I100, I202

import os
import pathlib
import sys


def main() -> None:
    cinder_services.configure(sys.argv[2:])
    api = cinder_services.start_api()
    cinder_services.tell(pathlib.Path(sys.argv[1]), port=api.port)
    cinder_services.wait_for_signal()
    api.stop()
    os._exit(0)


if __name__ == '__main__':
    main()
