# SPDX-License-Identifier: Apache-2.0
"""A datastore that fills up raises an alarm, as a vCenter's definition "Datastore usage on disk" says."""

from pyVmomi import vim

from simulator.conformance import vcenter_case

MIB = vcenter_case.MIB


class AlarmTestCase(vcenter_case.VCenterCase):

    flags = {**vcenter_case.VCenterCase.flags, 'ds': 2, 'ds_capacity': '1000MiB'}

    def fill(self, path, size_mib):
        self.wait(self.content.virtualDiskManager.CreateVirtualDisk_Task(path, self.datacenter, (
            vim.VirtualDiskManager.FileBackedVirtualDiskSpec(
                diskType='preallocated', adapterType='lsiLogic', capacityKb=size_mib << 10))))
        self.refreshed(path[1:].split(']')[0])

    def empty(self, path):
        self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task(path, self.datacenter))
        self.refreshed(path[1:].split(']')[0])

    @property
    def alarm(self):
        return next(each for each in self.content.alarmManager.GetAlarm(None)
                    if each.info.systemName == 'alarm.DatastoreDiskUsageAlarm')

    def states(self, entity):
        return [(each.entity.name, each.alarm, each.overallStatus) for each in entity.triggeredAlarmState]

    def test_the_definition_is_a_vCenters(self):
        info = self.alarm.info
        self.assertEqual(('Datastore usage on disk', True), (info.name, info.enabled))
        expression = info.expression.expression[0]
        self.assertIsInstance(expression, vim.alarm.MetricAlarmExpression)
        self.assertEqual((7500, 8500, 'isAbove'), (expression.yellow, expression.red, expression.operator))

    def test_yellow_above_75_percent_and_red_above_85_and_cleared_when_space_is_back(self):
        datastore, other = self.datastore('LocalDS_0'), self.datastore('LocalDS_1')
        self.fill('[LocalDS_0] most.vmdk', 700)
        self.assertEqual([], self.states(datastore))

        self.fill('[LocalDS_0] more.vmdk', 100)
        yellow = [('LocalDS_0', self.alarm, 'yellow')]
        self.until(lambda: self.states(datastore) == yellow, message=lambda: self.states(datastore))
        self.assertEqual('yellow', datastore.overallStatus)
        self.assertEqual(yellow, self.states(self.datacenter))
        self.assertEqual(yellow, self.states(self.content.rootFolder))
        self.assertEqual([], self.states(other))

        self.fill('[LocalDS_0] last.vmdk', 100)
        self.until(lambda: self.states(datastore) == [('LocalDS_0', self.alarm, 'red')])
        self.assertEqual('red', datastore.overallStatus)
        self.content.alarmManager.AcknowledgeAlarm(self.alarm, datastore)
        self.assertTrue(datastore.triggeredAlarmState[0].acknowledged)

        for name in 'most', 'more', 'last':
            self.empty(f'[LocalDS_0] {name}.vmdk')
        self.until(lambda: self.states(datastore) == [])
        self.assertEqual('green', datastore.overallStatus)
        self.until(lambda: self.states(self.content.rootFolder) == [])

    def test_ReconfigureAlarm_moves_the_thresholds(self):
        datastore, alarm = self.datastore('LocalDS_1'), self.alarm
        spec = vim.alarm.AlarmSpec(**{name: getattr(alarm.info, name) for name in (
            'name', 'systemName', 'description', 'enabled', 'expression', 'setting')})
        spec.expression.expression[0].yellow = 2000
        alarm.ReconfigureAlarm(spec)
        self.fill('[LocalDS_1] some.vmdk', 300)
        self.until(lambda: [state for _, _, state in self.states(datastore)] == ['yellow'])
        spec.expression.expression[0].yellow = 7500
        alarm.ReconfigureAlarm(spec)
        self.empty('[LocalDS_1] some.vmdk')
        self.until(lambda: self.states(datastore) == [])
