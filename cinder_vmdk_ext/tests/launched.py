# SPDX-License-Identifier: Apache-2.0
"""Runs a driver in a service process, started and ended like cinder-volume.

    python -m cinder_vmdk_ext.tests.launched OPTIONS_AS_JSON

The driver is created in the launching process, as Cinder creates it with its
manager, and set up in a child process. When this is done, it prints "ready".
SIGTERM ends it.
"""
from sandbox.embedded import patched  # noqa

import json
import sys

from oslo_config import cfg
from oslo_service import service

from cinder import context

from cinder_vmdk_ext import driver
from sandbox.embedded import section


class Service(service.ServiceBase):
    """Sets the driver up, and does nothing else."""

    def __init__(self, options):
        self.driver = driver.VmdkExtDriver(
            configuration=section.read(**options), host='cinder-1@vmdk')

    def start(self):
        self.driver.do_setup(context.RequestContext(is_admin=True))
        print('ready', flush=True)

    def stop(self):
        pass

    def wait(self):
        pass

    def reset(self):
        pass


def main():
    launcher = service.ProcessLauncher(cfg.CONF, restart_method='mutate')
    launcher.launch_service(Service(json.loads(sys.argv[1])))
    launcher.wait()


if __name__ == '__main__':
    main()
