# SPDX-License-Identifier: Apache-2.0
"""`check --takeover` foretells what a switch from upstream's driver does.

The volumes are made by upstream's driver; then the switch is made, and the
records are compared with what was foretold.
"""

from oslo_utils import units
from oslo_utils import uuidutils
from pyVmomi import vim

from cinder import context as cinder_context
from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext.backings import state
from cinder_vmdk_ext.tests.functional import backend_case
from cinder_vmdk_ext.tests.functional import check_case
from sandbox.embedded import section
from simulator.conformance import wsdl_once

HOST = backend_case.HOST
CONTENT = b'kept on the way back' * 100


class TakeoverTestCase(check_case.CheckCase):

    OPTIONS = {'vmware_datastore_regex': 'LocalDS_[012]'}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.enterClassContext(wsdl_once.shared())
        cls.upstream = cls.upstream_driver()

    @classmethod
    def upstream_driver(cls):
        """It may use every datastore; ours will not."""
        made = vmdk.VMwareVcVmdkDriver(
            configuration=section.read(**section.of_vcenter(
                cls.vcenter, vmware_datastore_regex='LocalDS_.')),
            host=HOST)
        made.do_setup(cinder_context.get_admin_context())
        cls.addClassCleanup(made.session.logout)
        section.read(**section.of_vcenter(cls.vcenter, **cls.OPTIONS))
        return made

    def old(self, datastore=None, **fields):
        """A volume of upstream's; with a disk, on a datastore."""
        volume = self.new_volume(section.NAME, status='available', **fields)
        if datastore:
            self.upstream.create_volume(volume)
            vm = self.truth(volume).vm
            self.wait(vm.RelocateVM_Task(vim.vm.RelocateSpec(
                datastore=self.datastore(datastore))))
        return volume

    def forecast(self):
        self.catch_up()
        return {each['volume']: each for each in self.listed(
            'check', '--takeover', status=3) if each['volume']}

    def test_what_is_foretold_is_what_the_switch_does(self):
        volumes = {
            'made': self.old('LocalDS_1'), 'outside': self.old('LocalDS_3'),
            'lazy': self.old(), 'no disk': self.old('LocalDS_2'),
            'busy': self.old('LocalDS_0'), 'stray': self.old('LocalDS_0')}
        bare = self.truth(volumes['no disk'])
        self.wait(bare.vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[
            vim.vm.device.VirtualDeviceSpec(operation='remove',
                                            device=bare.disk)])))
        self.wait(self.truth(volumes['stray']).vm.ReconfigVM_Task(
            vim.vm.ConfigSpec(name='mine', extraConfig=[
                vim.option.OptionValue(key='cinder.volume.id', value='')],
                instanceUuid=uuidutils.generate_uuid())))
        volumes['busy'].status = 'extending'
        volumes['busy'].save()
        before = {name: self.record(each) for name, each in volumes.items()}
        self.assertEqual({''}, {each['volume'] for each
                                in self.listed('check')})
        forecast = self.forecast()
        forecast = {name: forecast[each.id] for name, each in volumes.items()}
        self.assertEqual(before, {name: self.record(each)
                                  for name, each in volumes.items()})
        self.assertEqual(
            {'made': ('success', 'LocalDS_1'),
             'outside': ('warning', 'LocalDS_3'),
             'no disk': ('failure', 'LocalDS_2'),
             'busy': ('warning', section.NAME)},
            {name: (forecast[name]['result'], forecast[name]['pool'])
             for name in (
                'made', 'outside', 'no disk', 'busy')})
        self.assertIn('does not match vmware_datastore_regex',
                      forecast['outside']['detail'])
        self.assertIn('has no disk', forecast['no disk']['detail'])
        self.assertIn('it is extending', forecast['busy']['detail'])
        self.assertIn('chosen by free space', forecast['lazy']['detail'])
        self.assertIn(forecast['lazy']['pool'],
                      ('LocalDS_0', 'LocalDS_1', 'LocalDS_2'))
        # The switch.
        self.driver.update_provider_info(
            [self.fresh(each) for each in volumes.values()], [])
        for name, volume in volumes.items():
            found = self.fresh(volume)
            if name in ('lazy', 'stray'):  # equals are chosen by lot
                self.assertRegex(found.host, r'#LocalDS_[012]$')
                continue
            changes = [f'{field} becomes {value}' for field, value in (
                ('host', found.host), ('provider_id', found.provider_id))
                if value != dict(zip(('host', 'provider_id'),
                                     before[name]))[field]]
            self.assertEqual(changes, forecast[name]['changes'], name)
        self.assertEqual(state.BACKED, self.fresh(volumes['made']).provider_id)

    def test_upstream_serves_what_this_driver_made(self):
        """The way back: one pool first, then the other driver."""
        made = self.create('LocalDS_1', content=CONTENT)
        snapshot = self.snapshot(made)
        lazy = self.new_volume('LocalDS_2')
        one_pool = self.make_driver(vmdk_ext_datastore_pools=False,
                                    vmware_lazy_create=True)
        self.made(lazy, one_pool.create_volume(lazy))
        one_pool.update_provider_info([self.fresh(made), self.fresh(lazy)],
                                      [])
        self.assertEqual({f'{HOST}#{section.NAME}'}, {
            self.fresh(each).host for each in (made, lazy)})
        upstream = self.upstream
        made, lazy = self.fresh(made), self.fresh(lazy)
        info = upstream.initialize_connection(lazy, {
            'instance': self.instances()[0]._moId})
        self.assertEqual(self.truth(lazy).vm._moId, info['data']['volume'])
        copies = [self.new_volume(section.NAME) for _each in range(2)]
        upstream.create_cloned_volume(copies[0], made)
        upstream.create_volume_from_snapshot(copies[1], snapshot)
        for copy in copies:
            self.assertEqual(CONTENT, self.read(copy, len(CONTENT)))
        upstream.extend_volume(made, 2)
        self.assertEqual(2 * units.Mi, self.truth(made).disk.capacityInKB)
        upstream.delete_snapshot(snapshot)
        for volume in (made, lazy, *copies):
            upstream.delete_volume(volume)
        self.assertEqual({}, self.shadow_vms())

    def record(self, volume):
        found = self.fresh(volume)
        return found.host, found.provider_id
