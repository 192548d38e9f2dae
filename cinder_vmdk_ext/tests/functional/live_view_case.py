# SPDX-License-Identifier: Apache-2.0
"""Tests with a view of a simulated vCenter in memory, and a reader."""

import threading

from cinder_vmdk_ext.inventory import cache
from cinder_vmdk_ext.inventory import reader
from cinder_vmdk_ext.vsphere import session
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import updates
from sandbox import service_user
from simulator.conformance import vcenter_case
from simulator import control

POLLED = ('WaitForUpdatesEx',)
POLLER = 'vmdk-ext-updates'


class LiveViewCase(vcenter_case.VCenterCase):
    """One view of a simulated vCenter, and a reader beside it."""

    flags = {'ds': 5, 'host': 3, 'cluster': 2, 'vm': 0, 'pod': 1}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.login = service_user.of(cls.vcenter)
        cls.session = session.Session(
            cls.vcenter.host, cls.login.user, cls.login.password, 3, 0.5,
            port=cls.vcenter.port, cacert=cls.vcenter.cacert, insecure=False)
        cls.addClassCleanup(cls.session.logout)

    def setUp(self):
        super().setUp()
        self.others = set(threading.enumerate())
        self.sim = control.Control(self.vcenter.control_url)
        self.addCleanup(self.sim.reset_faults)
        self.http = soap.Client(self.session.https)
        self.addCleanup(self.http.close)
        self.stream = updates.Stream(self.session, self.http)
        # The next test counts calls, of which the thread makes some more.
        self.addCleanup(self.until, lambda: POLLER not in self.threads())
        self.addCleanup(self.stream.stop)
        self.reader = reader.InventoryReader(self.session, self.http)
        self.view = cache.LiveView(self.stream, self.reader)

    def threads(self):
        """Names of the threads that were started since the test began."""
        return [each.name for each in threading.enumerate()
                if each not in self.others]

    def synced(self):
        """What memory holds, as soon as it is to be trusted."""
        self.until(lambda: self.view.known() is not None)
        return self.view.known()

    def assertFollows(self, what=''):
        """Memory becomes what a fresh read returns, with no further change."""
        self.until(lambda: self.view.known() == self.reader.read(),
                   message=lambda: f'{what}: {self.differences()}')

    def differences(self):
        known, fresh = self.view.known(), self.reader.read()
        if known is None:
            return 'the view is not live'
        return [(name, moref, getattr(known, name).get(moref),
                 getattr(fresh, name).get(moref))
                for name in ('datastores', 'hosts', 'clusters', 'datacenters',
                             'storage_pods')
                for moref in {*getattr(known, name), *getattr(fresh, name)}
                if getattr(known, name).get(moref)
                != getattr(fresh, name).get(moref)]

    def calls(self):
        """Calls since the last reset, but for the poll itself."""
        return {name: each['calls'] for name, each
                in self.sim.journal()['methods'].items()
                if name not in POLLED}
