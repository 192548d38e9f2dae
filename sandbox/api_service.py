# SPDX-License-Identifier: Apache-2.0
"""Serves Cinder's API in a separate process, on either runtime. Run as

    python -m sandbox.api_service READY_FILE --config-file cinder.conf

When it answers, it writes {"port": ...} to the ready file. Cinder's program
cinder-api does not support native threads, and does not report its port.
"""
# First, since it patches the standard library for eventlet.
from sandbox import cinder_services  # noqa: I100, I202

import os
import pathlib
import sys


def main() -> None:
    cinder_services.configure(sys.argv[2:])
    api = cinder_services.start_api()
    cinder_services.write_ready_file(pathlib.Path(sys.argv[1]), port=api.port)
    cinder_services.wait_for_signal()
    api.stop()
    os._exit(0)


if __name__ == '__main__':
    main()
