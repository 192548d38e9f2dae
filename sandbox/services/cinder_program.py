# SPDX-License-Identifier: Apache-2.0
"""cinder-volume or cinder-backup without a way to become root. Run as

    python -m sandbox.services.cinder_program volume|backup ARGUMENTS
"""
# First, since it patches the standard library for eventlet.
from sandbox import cinder_services  # noqa: I100, I202

import importlib
import sys

from os_brick import privileged


def main() -> None:
    name = sys.argv[1]
    program = importlib.import_module('cinder.cmd.%s' % name)
    sys.argv[:2] = ['cinder-%s' % name]
    cinder_services.do_without_privileges()
    privileged.default.set_client_mode(False)
    program.main()


if __name__ == '__main__':
    main()
