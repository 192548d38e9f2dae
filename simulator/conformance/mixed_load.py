# SPDX-License-Identifier: Apache-2.0
"""Everything at once: threads that each pick one operation after the other, for a given time.

``make simulator-races`` runs it against a simulator that Go's race detector watches, and prints what it found. The operations may
fail (two threads want the same thing); the simulator may neither end nor hang, and its figures are right in the end.
"""

import argparse
import base64
import collections
import contextlib
import os
import pathlib
import random
import re
import ssl
import sys
import tempfile
import threading
import time
import traceback

import requests

from pyVmomi import pbm
from pyVmomi import SoapStubAdapter
from pyVmomi import vim
from pyVmomi import vmodl

from simulator import client
from simulator import control as control_endpoint

PC = vmodl.query.PropertyCollector
MIB = 1 << 20
ENDED = ('success', 'error')
OURS = 'vcenter-sim/internal/'


class Worker(threading.Thread):
    """One client, with a session of its own, that does one thing after the other."""

    def __init__(self, vcenter, number, deadline, outcomes, least=0):
        super().__init__(name=f'client-{number}', daemon=True)
        self.vcenter, self.number, self.deadline, self.outcomes = vcenter, number, deadline, outcomes
        self.least = least
        self.random = random.Random(number)
        self.control = control_endpoint.Control(vcenter.control_url)
        self.machines = []
        self.made = 0
        self.broken = None

    def run(self):
        try:
            self.enter()
            actions = [getattr(self, name) for name in sorted(dir(self)) if name.startswith('do_')]
            while time.monotonic() < self.deadline or sum(list(self.outcomes.values())) < self.least:
                action = self.random.choice(actions) if len(self.machines) > 1 else self.do_create
                self.one(action)
            for vm in self.machines:
                self.one(lambda vm=vm: self.wait(vm.Destroy_Task()), 'destroy')
        except Exception:  # a client that cannot go on
            self.broken = traceback.format_exc()

    def one(self, action, name=None):
        name = name or action.__name__[3:]
        try:
            action()
            self.outcomes[name, 'done'] += 1
        except (vmodl.MethodFault, control_endpoint.ControlError, requests.HTTPError) as refused:
            self.outcomes[name, type(refused).__name__.rsplit('.', 1)[-1]] += 1
            if isinstance(refused, vmodl.fault.SystemError):
                raise

    def enter(self):
        self.client = self.vcenter.connect()
        self.content = self.client.content
        datacenter = self.content.rootFolder.childEntity[0]
        self.datacenter = datacenter
        self.cluster = datacenter.hostFolder.childEntity[0]
        self.pool = self.cluster.resourcePool
        self.datastores = [each for each in datacenter.datastore]
        self.folder = datacenter.vmFolder.CreateFolder(f'client-{self.number}')
        self.collector = self.content.propertyCollector.CreatePropertyCollector()
        self.version = ''
        for kind, paths in ((vim.Datastore, ('name', 'summary', 'vm', 'info', 'triggeredAlarmState')),
                            (vim.VirtualMachine, ('name', 'config', 'layoutEx', 'datastore', 'runtime')),
                            (vim.Folder, ('name', 'childEntity', 'overallStatus'))):
            view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [kind], True)
            self.collector.CreateFilter(PC.FilterSpec(
                objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[
                    PC.TraversalSpec(type=vim.view.ContainerView, path='view', skip=False)])],
                propSet=[PC.PropertySpec(type=kind, pathSet=list(paths))]), self.number % 2 == 0)
        cookie = self.client._stub.cookie.split(';')[0]
        stub = SoapStubAdapter(host=self.vcenter.host, port=self.vcenter.port, path='/pbm/sdk', version='pbm.version.version14',
                               sslContext=ssl.create_default_context(cafile=self.vcenter.cacert))
        stub.cookie = self.client._stub.cookie
        stub.requestContext = {'vcSessionCookie': cookie.split('=', 1)[1].strip('"')}
        self.pbm = pbm.ServiceInstance('ServiceInstance', stub).RetrieveContent()
        self.cookie = {'Cookie': cookie}
        self.http = requests.Session()
        self.http.verify, self.http.trust_env = self.vcenter.cacert, False
        self.url = f'https://{self.vcenter.host}:{self.vcenter.port}'
        credentials = base64.b64encode(f'{self.vcenter.user}:{self.vcenter.password}'.encode()).decode()
        self.http.headers['Authorization'] = f'Basic {credentials}'

    # Words

    def wait(self, task, timeout_s=120):
        deadline = time.monotonic() + timeout_s
        while True:
            info = task.info
            if info.state in ENDED:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f'{info.name} runs on after {timeout_s} s')
            time.sleep(0.01)
        if info.state == 'error':
            raise info.error
        return info.result

    def any_machine(self):
        return self.random.choice(self.machines)

    def any_datastore(self):
        return self.random.choice(self.datastores[:8])

    def disk_of(self, vm):
        return next(each for each in vm.config.hardware.device if isinstance(each, vim.vm.device.VirtualDisk))

    def fresh_name(self):
        self.made += 1
        return f'load-{self.number}-{self.made}'

    # Machines

    def do_create(self):
        device = vim.vm.device
        name = self.fresh_name()
        spec = vim.vm.ConfigSpec(
            name=name, guestId='otherGuest', files=vim.vm.FileInfo(vmPathName=f'[{self.any_datastore().name}]'), deviceChange=[
                device.VirtualDeviceSpec(operation='add', device=device.ParaVirtualSCSIController(
                    key=-1, busNumber=0, sharedBus='noSharing')),
                device.VirtualDeviceSpec(operation='add', fileOperation='create', device=device.VirtualDisk(
                    key=-100, unitNumber=0, controllerKey=-1, capacityInKB=2 << 10,
                    backing=device.VirtualDisk.FlatVer2BackingInfo(
                        fileName='', diskMode='persistent', thinProvisioned=self.random.random() < 0.5)))])
        self.machines.append(self.wait(self.folder.CreateVM_Task(spec, self.pool)))

    do_create_another = do_create

    def do_destroy(self):
        vm = self.any_machine()
        self.machines.remove(vm)
        self.wait(vm.Destroy_Task())

    def do_unregister(self):
        vm = self.any_machine()
        self.machines.remove(vm)
        path = vm.config.files.vmPathName
        disk = self.disk_of(vm).backing.fileName
        vm.UnregisterVM()
        with contextlib.suppress(vmodl.MethodFault):
            self.wait(self.content.virtualDiskManager.DeleteVirtualDisk_Task(disk, self.datacenter))
        with contextlib.suppress(vmodl.MethodFault):
            self.wait(self.content.fileManager.DeleteDatastoreFile_Task(path.rsplit('/', 1)[0], self.datacenter))

    def do_reconfigure(self):
        self.wait(self.any_machine().ReconfigVM_Task(vim.vm.ConfigSpec(
            annotation=self.fresh_name(), extraConfig=[vim.option.OptionValue(key='load', value=self.fresh_name())])))

    def do_rename(self):
        self.wait(self.any_machine().Rename_Task(self.fresh_name()))

    def do_extend(self):
        disk = self.disk_of(self.any_machine())
        self.wait(self.content.virtualDiskManager.ExtendVirtualDisk_Task(
            disk.backing.fileName, self.datacenter, disk.capacityInKB + 1024, False))

    def do_snapshot(self):
        vm = self.any_machine()
        self.wait(vm.CreateSnapshot_Task(name=self.fresh_name(), description='', memory=False, quiesce=False))

    def do_remove_snapshots(self):
        self.wait(self.any_machine().RemoveAllSnapshots_Task())

    def do_revert(self):
        self.wait(self.any_machine().RevertToCurrentSnapshot_Task())

    def do_clone(self):
        vm = self.any_machine()
        self.machines.append(self.wait(vm.CloneVM_Task(self.folder, self.fresh_name(), vim.vm.CloneSpec(
            location=vim.vm.RelocateSpec(pool=self.pool, datastore=self.any_datastore()), powerOn=False, template=False))))

    def do_link(self):
        vm = self.any_machine()
        if vm.snapshot:
            self.machines.append(self.wait(vm.CloneVM_Task(self.folder, self.fresh_name(), vim.vm.CloneSpec(
                location=vim.vm.RelocateSpec(pool=self.pool, diskMoveType='createNewChildDiskBacking'),
                snapshot=vm.snapshot.currentSnapshot, powerOn=False, template=False))))

    def do_relocate(self):
        self.wait(self.any_machine().RelocateVM_Task(vim.vm.RelocateSpec(datastore=self.any_datastore())))

    def do_power(self):
        vm = self.any_machine()
        self.wait(vm.PowerOnVM_Task())
        self.wait(vm.PowerOffVM_Task())

    # Datastores, folders, clusters of datastores

    def do_rename_datastore(self):
        datastore = self.any_datastore()
        datastore.RenameDatastore(f'{datastore._moId}-{self.random.randrange(3)}')

    def do_maintain_datastore(self):
        datastore = self.datastores[-1]
        self.wait(datastore.DatastoreEnterMaintenanceMode().task)
        self.wait(datastore.DatastoreExitMaintenanceMode_Task())

    def do_cut_mount(self):
        name = self.datastores[-2].name
        for accessible in (False, True):
            self.control.call('POST', '/mounts', {'datastore': name, 'accessible': accessible})

    def do_folder(self):
        folder = self.folder.CreateFolder(self.fresh_name())
        self.wait(folder.Rename_Task(self.fresh_name()))
        self.wait(folder.Destroy_Task())

    def do_move(self):
        folder = self.folder.CreateFolder(self.fresh_name())
        vm = self.any_machine()
        self.wait(folder.MoveIntoFolder_Task([vm]))
        self.wait(self.folder.MoveIntoFolder_Task([vm]))
        self.wait(folder.Destroy_Task())

    def do_pod(self):
        folder = self.datacenter.datastoreFolder
        pod = folder.CreateStoragePod(self.fresh_name())
        datastore = self.datastores[-3 - self.number % 4]
        try:
            self.wait(pod.MoveIntoFolder_Task([datastore]))
            self.content.storageResourceManager.ConfigureStorageDrsForPod_Task(pod, vim.storageDrs.ConfigSpec(
                podConfigSpec=vim.storageDrs.PodConfigSpec(enabled=True, defaultVmBehavior='automated')), True)
            list(pod.summary.name)
        finally:
            self.wait(folder.MoveIntoFolder_Task([datastore]))
            self.wait(pod.Destroy_Task())

    def do_read_disk_space(self):
        self.any_datastore().RefreshDatastore()
        self.any_datastore().RefreshDatastoreStorageInfo()

    def do_browse(self):
        datastore = self.any_datastore()
        self.wait(datastore.browser.SearchDatastoreSubFolders_Task(
            f'[{datastore.name}]', vim.host.DatastoreBrowser.SearchSpec(matchPattern=['*.vmdk'])))

    def do_create_datastore(self):
        host = self.cluster.host[self.number % len(self.cluster.host)]
        system = host.configManager.datastoreSystem
        name = self.fresh_name()
        made = system.CreateNasDatastore(vim.host.NasVolume.Specification(
            remoteHost='nas', remotePath=f'/{name}', localPath=name, accessMode='readWrite'))
        made.Destroy() if self.random.random() < 0.5 else self.wait(made.Destroy_Task())

    # Reading

    def do_updates(self):
        while True:
            update = self.collector.WaitForUpdatesEx(self.version, PC.WaitOptions(maxWaitSeconds=0, maxObjectUpdates=100))
            if update is None:
                return
            self.version = update.version
            if not update.truncated:
                return

    do_more_updates = do_updates

    def do_retrieve(self):
        view = self.content.viewManager.CreateContainerView(self.content.rootFolder, [vim.ManagedEntity], True)
        self.collector.RetrievePropertiesEx([PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=view, skip=True, selectSet=[
                PC.TraversalSpec(type=vim.view.ContainerView, path='view', skip=False)])],
            propSet=[PC.PropertySpec(type=vim.ManagedEntity, pathSet=['name', 'recentTask', 'triggeredAlarmState']),
                     PC.PropertySpec(type=vim.Datastore, pathSet=['host', 'vm', 'summary', 'info', 'browser'])])],
            PC.RetrieveOptions(maxObjects=100))
        view.Destroy()

    def do_read_whole_machine(self):
        vm = self.any_machine()
        self.collector.RetrievePropertiesEx([PC.FilterSpec(
            objectSet=[PC.ObjectSpec(obj=each) for each in (vm, vm.runtime.host, self.pool, self.cluster)],
            propSet=[PC.PropertySpec(type=vim.ManagedEntity, all=True)])], PC.RetrieveOptions())

    def do_search(self):
        vm = self.any_machine()
        index = self.content.searchIndex
        index.FindAllByUuid(None, vm.config.instanceUuid, True, True)
        index.FindByInventoryPath(f'{self.datacenter.name}/vm/{self.folder.name}/{vm.name}')
        index.FindByDatastorePath(self.datacenter, vm.config.files.vmPathName)
        index.FindChild(self.folder, vm.name)

    def do_task_history(self):
        collector = self.content.taskManager.CreateCollectorForTasks(vim.TaskFilterSpec())
        collector.ReadNextTasks(20)
        list(collector.latestPage)
        collector.DestroyCollector()

    def do_event_history(self):
        collector = self.content.eventManager.CreateCollectorForEvents(vim.event.EventFilterSpec())
        collector.ReadNextEvents(20)
        collector.DestroyCollector()
        self.content.eventManager.QueryEvents(vim.event.EventFilterSpec(
            entity=vim.event.EventFilterSpec.ByEntity(entity=self.any_machine(), recursion='self')))

    def do_recent_tasks(self):
        for task in self.content.taskManager.recentTask[-5:]:
            with contextlib.suppress(vmodl.fault.ManagedObjectNotFound):
                str(task.info)

    # Attributes, tags, policies, alarms, sessions

    def do_attribute(self):
        manager = self.content.customFieldsManager
        field = manager.AddCustomFieldDef(self.fresh_name(), vim.ManagedEntity)
        for entity in self.any_machine(), self.any_datastore():
            manager.SetField(entity, field.key, 'x')
        manager.RemoveCustomFieldDef(field.key)

    def do_alarm(self):
        alarm = self.content.alarmManager.GetAlarm(None)[0]
        spec = alarm.info
        alarm.ReconfigureAlarm(vim.alarm.AlarmSpec(
            name=spec.name, enabled=True, description=spec.description, expression=vim.alarm.OrAlarmExpression(expression=[
                vim.alarm.MetricAlarmExpression(operator='isAbove', type=vim.Datastore, yellow=self.random.choice((1, 7500)),
                                                red=8500, metric=vim.PerformanceManager.MetricId(counterId=281, instance=''))]),
            setting=spec.setting))

    def do_tag(self):
        session = self.rest('POST', '/rest/com/vmware/cis/session')['value']
        self.http.headers['vmware-api-session-id'] = session
        category = self.rest('POST', '/rest/com/vmware/cis/tagging/category', {'create_spec': {
            'name': self.fresh_name(), 'description': '', 'cardinality': 'MULTIPLE', 'associable_types': ['Datastore']}})['value']
        tag = self.rest('POST', '/rest/com/vmware/cis/tagging/tag', {'create_spec': {
            'name': self.fresh_name(), 'description': '', 'category_id': category}})['value']
        entity = {'object_id': {'type': 'Datastore', 'id': self.any_datastore()._moId}}
        association = '/rest/com/vmware/cis/tagging/tag-association'
        self.rest('POST', f'{association}/id:{tag}?~action=attach', entity)
        self.rest('POST', f'{association}?~action=list-attached-tags', entity)
        self.rest('DELETE', f'/rest/com/vmware/cis/tagging/tag/id:{tag}')
        self.rest('DELETE', f'/rest/com/vmware/cis/tagging/category/id:{category}')
        self.rest('DELETE', '/rest/com/vmware/cis/session')

    def rest(self, method, path, body=None):
        reply = self.http.request(method, self.url + path, json=body, timeout=60)
        reply.raise_for_status()
        return reply.json() if reply.content else None

    def do_policies(self):
        kind = pbm.profile.ResourceType(resourceType='STORAGE')
        capability = pbm.capability.CapabilityInstance(
            id=pbm.capability.CapabilityMetadata.UniqueId(namespace='http://www.vmware.com/storage/tag', id='tier'),
            constraint=[pbm.capability.ConstraintInstance(propertyInstance=[pbm.capability.PropertyInstance(
                id='com.vmware.storage.tag.tier.property', value=pbm.capability.types.DiscreteSet(values=['fast']))])])
        manager = self.pbm.profileManager
        made = manager.Create(pbm.profile.CapabilityBasedProfileCreateSpec(
            name=self.fresh_name(), description='', resourceType=kind, constraints=pbm.profile.SubProfileCapabilityConstraints(
                subProfiles=[pbm.profile.SubProfileCapabilityConstraints.SubProfile(name='one', capability=[capability])])))
        known = manager.QueryProfile(kind, None)
        manager.RetrieveContent(known[:2])
        self.pbm.placementSolver.QueryMatchingHub(None, self.random.choice([known[-1], made]))
        manager.Delete([made])

    def do_sessions(self):
        with contextlib.closing(_Login(self.vcenter)) as other:
            str(other.client.content.sessionManager.sessionList)
            other.client.content.viewManager.CreateListView([self.any_machine()])

    def do_first_class_disk(self):
        manager = self.content.vStorageObjectManager
        datastore = self.any_datastore()
        disk = self.wait(manager.CreateDisk_Task(vim.vslm.CreateSpec(
            name=self.fresh_name(), capacityInMB=1, backingSpec=vim.vslm.CreateSpec.DiskFileBackingSpec(
                datastore=datastore, provisioningType='thin'))))
        manager.ListVStorageObject(datastore)
        self.wait(manager.DeleteVStorageObject_Task(disk.config.id, datastore))

    def do_transfer(self):
        datastore = self.any_datastore().name
        file = f'{self.url}/folder/{self.fresh_name()}'
        query = {'dcPath': self.datacenter.name, 'dsName': datastore}
        for method in 'PUT', 'GET', 'DELETE':
            self.http.request(method, file, params=query, headers=self.cookie, data=b'x' * 70000, timeout=60).raise_for_status()

    def do_export(self):
        lease = self.any_machine().ExportVm()
        str(lease.info)
        lease.HttpNfcLeaseProgress(50)
        lease.HttpNfcLeaseAbort()

    # The control endpoint

    def do_journal(self):
        self.control.journal()
        self.control.calls(20)

    def do_fault(self):
        rule = self.control.fault(method='QueryIORMConfigOption', fault={'type': 'NoPermission'})
        self.control.faults()
        self.control.remove_fault(rule)

    def do_save(self):
        if self.number == 0:
            with tempfile.TemporaryDirectory() as folder:
                self.control.call('POST', '/state', {'directory': os.path.join(folder, 'state')})

    def do_process(self):
        self.control.call('GET', '/process')
        self.control.call('GET', '/policies')
        self.control.call('GET', '/sessions')


class _Login:

    def __init__(self, vcenter):
        self.client = vcenter.connect()

    def close(self):
        self.client.content.sessionManager.Logout()


def run(vcenter, clients, seconds, least=0):
    """Let clients work on a simulator for some seconds, and on until they have done so many operations.

    :returns: outcomes by (operation, outcome), and what stopped clients
    """
    outcomes = collections.Counter()
    deadline = time.monotonic() + seconds
    workers = [Worker(vcenter, number, deadline, outcomes, least) for number in range(clients)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds + 300)
    broken = [f'{worker.name}: {worker.broken or "hangs"}' for worker in workers if worker.broken or worker.is_alive()]
    return outcomes, broken


def reports(folder):
    """What the race detector wrote: by each different pair of places, whether one is our code."""
    found = {}
    for file in pathlib.Path(folder).glob('race.*'):
        for report in file.read_text(errors='replace').split('=================='):
            if 'DATA RACE' not in report:
                continue
            sides = re.findall(r'^(?:Previous )?(?:atomic )?(?:[Rr]ead|[Ww]rite) at .*?(?=^\S|\Z|^$)', report, re.M | re.S)
            tops = [_top(side) for side in sides]
            found.setdefault(tuple(sorted(tops)), any(top.startswith(OURS) for top in tops))
    return found


def _top(side):
    """The innermost function of ours or the library's (not of Go's own) in a stack."""
    for function in re.findall(r'^  (\S+)\(', side, re.M):
        if function.startswith((OURS, 'github.com/vmware/govmomi/simulator', 'github.com/vmware/govmomi/vapi',
                                'github.com/vmware/govmomi/pbm', 'main.')):
            return function
    return '?'


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=300)
    parser.add_argument('--clients', type=int, default=8)
    parser.add_argument('--datastores', type=int, default=500)
    parser.add_argument('--hosts', type=int, default=64)
    parser.add_argument('--machines', type=int, default=5000)
    parser.add_argument('--reports', metavar='FOLDER', help='keep what the race detector writes')
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.reports or stack.enter_context(tempfile.TemporaryDirectory())
        os.environ['GORACE'] = f'log_path={folder}/race history_size=3'
        with client.Simulator(
                ds=arguments.datastores, host=arguments.hosts, cluster=1, standalone_host=0, vm=arguments.machines,
                ds_mount_all=True, ds_capacity='1TiB', policy='gold=*', autostart=False).start(timeout_s=600) as vcenter:
            outcomes, broken = run(vcenter, arguments.clients, arguments.seconds)
            space = 'right'
            try:
                control_endpoint.Control(vcenter.control_url).call('GET', '/space')
            except (control_endpoint.ControlError, requests.RequestException) as error:
                space = f'not right: {str(error)[:2000]}'
            if broken:
                print(vcenter.output_tail(60))
        found = reports(folder)
    for (name, outcome), count in sorted(outcomes.items()):
        print(f'{count:7} {name}: {outcome}')
    for places, _ in sorted(found.items(), key=lambda item: not item[1]):
        print('\n'.join(['', 'race between', *(f'  {place}' for place in places)]))
    ours = sum(found.values())
    for line in broken:
        print(line)
    print(f'{sum(outcomes.values())} operations by {arguments.clients} clients in {arguments.seconds:.0f} s; races: {ours} of ours, '
          f'{len(found) - ours} inside the library; figures are {space}')
    return 1 if ours or broken or space != 'right' else 0


if __name__ == '__main__':
    sys.exit(main())
