# SPDX-License-Identifier: Apache-2.0
"""Builds the parts of one backend, and connects them.

A backend lives as long as its driver. The parts that belong to a session with
the vCenter are built anew for each session (:meth:`Backend.connect`). The
other parts get the session through the port to upstream's driver.
"""

import functools
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from oslo_config import cfg
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext.backings import cache as backing_cache
from cinder_vmdk_ext.backings import disk_scan
from cinder_vmdk_ext.backings import finder
from cinder_vmdk_ext.backings import locator
from cinder_vmdk_ext.backings import promises
from cinder_vmdk_ext.backings import verified_ops
from cinder_vmdk_ext import concurrency
from cinder_vmdk_ext import config
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.inventory import cache as inventory_cache
from cinder_vmdk_ext.inventory import reader as inventory_reader
from cinder_vmdk_ext.inventory import refresher
from cinder_vmdk_ext.inventory import tagged
from cinder_vmdk_ext import locks
from cinder_vmdk_ext import model
from cinder_vmdk_ext.monitoring import endpoint
from cinder_vmdk_ext.monitoring import figures
from cinder_vmdk_ext import operation
from cinder_vmdk_ext import option_check
from cinder_vmdk_ext.scheduling import reporter
from cinder_vmdk_ext.scheduling import reservations
from cinder_vmdk_ext.scheduling import selector
from cinder_vmdk_ext.scheduling import type_policies
from cinder_vmdk_ext import upstream
from cinder_vmdk_ext.volumes import admission
from cinder_vmdk_ext.volumes import attach
from cinder_vmdk_ext.volumes import backups
from cinder_vmdk_ext.volumes import clone
from cinder_vmdk_ext.volumes import compliance
from cinder_vmdk_ext.volumes import create
from cinder_vmdk_ext.volumes import datastore_selection
from cinder_vmdk_ext.volumes import delete
from cinder_vmdk_ext.volumes import disk_home
from cinder_vmdk_ext.volumes import extend
from cinder_vmdk_ext.volumes import generic_migration
from cinder_vmdk_ext.volumes import groups
from cinder_vmdk_ext.volumes import images
from cinder_vmdk_ext.volumes import instance_copy
from cinder_vmdk_ext.volumes import manage
from cinder_vmdk_ext.volumes import manage_snapshots
from cinder_vmdk_ext.volumes import migrate
from cinder_vmdk_ext.volumes import migration_recovery
from cinder_vmdk_ext.volumes import qos
from cinder_vmdk_ext.volumes import reconcile
from cinder_vmdk_ext.volumes import records
from cinder_vmdk_ext.volumes import relink
from cinder_vmdk_ext.volumes import replace
from cinder_vmdk_ext.volumes import restore
from cinder_vmdk_ext.volumes import retype
from cinder_vmdk_ext.volumes import retype_messages
from cinder_vmdk_ext.volumes import snapshots
from cinder_vmdk_ext.volumes import transfer
from cinder_vmdk_ext.volumes import written_back
from cinder_vmdk_ext.vsphere import accounts
from cinder_vmdk_ext.vsphere import logout
from cinder_vmdk_ext.vsphere import preflight
from cinder_vmdk_ext.vsphere import privilege_check
from cinder_vmdk_ext.vsphere import session as vsphere_session
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import storage_policies
from cinder_vmdk_ext.vsphere import tagging
from cinder_vmdk_ext.vsphere import tasks
from cinder_vmdk_ext.vsphere import transport
from cinder_vmdk_ext.vsphere import updates


class Backend:
    """The parts of a backend; ``audit/`` and ``cmd/`` use it as well."""

    def __init__(self, driver: Any) -> None:
        """:param driver: a VmdkExtDriver, whose options can be read"""
        self.upstream = upstream.Upstream(driver)
        self._configuration = driver.configuration
        #: Returns the id of this deployment of Cinder; '': it is unknown.
        self.deployment = _remembered(functools.partial(
            config.deployment_id, self._configuration))
        self._note = logout.Note()
        logout.at_exit(driver, self._note, functools.partial(
            _make_client, driver.configuration))
        self._streams = _Streams()
        weakref.finalize(driver, self._streams.stop)
        self.owner = reconcile.Owner(driver.host, driver.cluster_name)
        self.reservations = reservations.Reservations()
        self.promised = promises.Promises(
            functools.partial(promises.share, *self.owner),
            self.reservations.volumes)
        weakref.finalize(driver, self.promised.stop)
        self.client: soap.Client | None = None
        self._tags: tagging.Tagged | None = None
        self.volumeops: verified_ops.VerifiedOps | None = None
        self.ds_sel: selector.DatastoreSelector | None = None
        self.directory: storage_policies.PolicyDirectory | None = None
        self.inventory_source: inventory_reader.InventorySource | None = None
        self.reporter: reporter.Reporter | None = None
        self.view: inventory_cache.LiveView | None = None
        self.endpoint = endpoint.Endpoint(functools.partial(
            figures.of_driver, weakref.ref(driver)))
        weakref.finalize(driver, self.endpoint.stop)
        self._build_operations(driver)

    def _build_operations(self, driver: Any) -> None:
        """Build the parts that Cinder's hooks and upstream's seams call."""
        port = self.upstream
        self.selection = datastore_selection.DatastoreSelection(port)
        self.finder = finder.Finder(port)
        self.host_record = records.HostRecord(port, self.selection)
        self.replacement = replace.Replacement(port, self.finder)
        self.limits = qos.DiskLimits(port, self.selection, self.finder,
                                     self.replacement)
        self.admission = admission.Admission(self.selection)
        self.compliance = compliance.Compliance(
            port, self.selection, self.reservations, self.promised)
        self.create = create.Create(port, self.selection, self.replacement,
                                    self.reservations, self.compliance,
                                    self.limits)
        copies = instance_copy.InstanceCopy(port, self.replacement)
        self.snapshots = snapshots.Snapshots(port, self.finder,
                                             self.replacement, copies,
                                             self.selection.specs)
        self.clone = clone.Clone(port, self.selection, self.finder,
                                 self.replacement, self.create,
                                 self.snapshots, copies, self.admission,
                                 self.limits)
        self.attach = attach.Attach(port, self.selection, self.finder,
                                    self.host_record, self.admission,
                                    written_back.WrittenBack(
                                        port, self.finder,
                                        self.replacement))
        self.images = images.Images(port, self.selection, self.finder,
                                    self.replacement, self.attach,
                                    self.admission, self.host_record,
                                    lambda: self.deployment())
        self._build_copies()
        self.migrate = migrate.Migrate(port, self.selection, self.finder,
                                       self.location_info)
        self.extend = extend.Extend(port, self.selection, self.finder,
                                    self.replacement, self.migrate,
                                    self.host_record, self.admission)
        messages = retype_messages.RetypeMessages()
        self.retype = retype.Retype(port, self.selection, self.finder,
                                    self.replacement, self.migrate,
                                    self.admission, self.compliance,
                                    self.host_record, self.limits, messages)
        self.transfer = transfer.Transfer(port, self.finder, self.snapshots)
        self.groups = groups.Groups(port, driver, self.finder, self.snapshots,
                                    self.clone)
        self.disk_home = disk_home.DiskHome(port, self.selection, self.finder,
                                            self.migrate, self.reservations,
                                            self.disk_scan)
        self.manage = manage.Manage(port, self.selection, self.finder,
                                    self.replacement, self.disk_home,
                                    self.disk_scan, self._manage_lock)
        self.relink = relink.Relink(port, self.selection, self.manage,
                                    self.replacement, self.disk_scan,
                                    self._manage_lock)
        self.manage_snapshots = manage_snapshots.ManageSnapshots(
            port, self.finder, self.disk_scan, self._manage_lock)
        self.delete = delete.Delete(port, self.finder, self.manage,
                                    self.owner.owns,
                                    self.migration.files.forget)
        self.reconciler = reconcile.Reconciler(
            port, self.selection, self.migrate, self.disk_home,
            self.compliance, self.limits, self.owner, messages)

    def _build_copies(self) -> None:
        """Build the parts that copy volumes to and from files."""
        port = self.upstream
        restorer = restore.Restore(port, self.selection, self.finder,
                                   self.replacement, self.images,
                                   self.host_record)
        self.backups = backups.Backups(port, self.admission, restorer,
                                       self.owner)
        files = generic_migration.Files(self.backups, self.owner)
        self.migration = generic_migration.GenericMigration(
            generic_migration.Source(port, self.admission, self.finder,
                                     restorer, files),
            generic_migration.Destination(port, self.admission, self.finder,
                                          restorer, self.selection.specs,
                                          files), files)
        self.broken_off = migration_recovery.BrokenOff(files, restorer)
        self.backups.sweep_others = self.broken_off.sweep

    # -- Used by the parts, the audit and the command line ------------------

    @property
    def settings(self) -> model.Settings:
        """The options on which pools and placement depend."""
        return self.selection.settings

    @property
    def session(self) -> Any:
        """The session with the vCenter."""
        return self.upstream.session

    @property
    def stream(self) -> updates.Stream | None:
        """The long poll of the session; None: there is no session."""
        return self._streams.current

    def refresh_figures(self, moref: str) -> None:
        """Ask the vCenter to refresh a datastore's figures now.

        :param moref: of the datastore
        """
        self._streams.refresh_now(moref)

    def inventory(self) -> model.Inventory:
        """The inventory as it is now."""
        return self.selection.inventory()

    def location_info(self) -> str:
        """The text that identifies this vCenter in pools' capabilities."""
        return f'{generic_migration.OURS}{self._vcenter_id()}'

    def _vcenter_id(self) -> str:
        return self.session.vim.service_content.about.instanceUuid

    def _manage_lock(self) -> AbstractContextManager[None]:
        return locks.manage(self._vcenter_id())

    def is_managing(self) -> bool:
        """Whether any service is managing a disk of this vCenter now.

        :raises LockUnavailable: the coordination service does not answer
        """
        with locks.manage_if_free(self._vcenter_id()) as had:
            return not had

    def disk_scan(self) -> disk_scan.DiskScan:
        """A reader of the vCenter's disks in bulk."""
        assert self.client is not None
        return disk_scan.DiskScan(self.session, self.client,
                                  self.upstream.volumeops,
                                  upstream.EXTENSION_KEY, self.inventory)

    # -- The session --------------------------------------------------------

    def read_settings(self, options: list[cfg.Opt]) -> None:
        """Check the options, and use them from now on.

        :param options: all options of the driver
        :raises InvalidSettings: an option is missing or wrong
        """
        option_check.warn(self._configuration.config_group, options)
        option_check.check(self._configuration, options)
        config.check_connection_options(self._configuration)
        self.selection.settings = config.settings(self._configuration)

    def connect(self) -> vsphere_session.Session:
        """Log in, check the user's privileges, and build the session's parts.

        Storage policies are not available yet: upstream enables them later.

        :raises InvalidSettings: the vCenter cannot be reached or refuses the
            login, or the user lacks a privilege without which the backend
            cannot serve
        """
        preflight.check(self._make_client, self._configuration)
        self.end_session()
        try:
            session = self._make_session()
        except vmware_exceptions.VimFaultException as fault:
            raise preflight.refused_login(
                fault, self._configuration) from None
        try:
            privilege_check.check(self.privilege_checker(session))
        except exceptions.InvalidSettings:
            session.logout()
            raise
        self.use(session)
        return session

    def privilege_checker(self, session: vsphere_session.Session
                          ) -> privilege_check.Checker:
        """A checker of the user's privileges; makes no call by itself."""
        pattern = self.settings.datastore_regex
        return privilege_check.Checker(
            session, soap.Client(session.https), upstream.EXTENSION_KEY,
            lambda name: pattern is None or bool(pattern.match(name)),
            self._configuration.vmware_cluster_name or ())

    def _make_session(self) -> vsphere_session.Session:
        options = self._configuration
        return vsphere_session.Session(
            options.vmware_host_ip, options.vmware_host_username,
            options.vmware_host_password, options.vmware_api_retry_count,
            options.vmware_task_poll_interval,
            wsdl_loc=options.safe_get('vmware_wsdl_location'),
            port=options.vmware_host_port, cacert=options.vmware_ca_file,
            insecure=options.vmware_insecure,
            pool_size=options.vmware_connection_pool_size,
            op_id_prefix='c-vol', note=self._note.write,
            on_task=operation.forget_prefetched, account=self._account())

    def _account(self) -> accounts.Account:
        """The account whose logins all processes of our lock_path count."""
        options = self._configuration
        return accounts.of(
            options.vmware_host_ip, options.vmware_host_port,
            options.vmware_host_username, options.vmware_host_password,
            cfg.CONF.oslo_concurrency.lock_path)

    def _make_client(self, cookie: str | None = None) -> soap.Client:
        return _make_client(self._configuration, cookie)

    def end_session(self) -> None:
        """End the session of an earlier setup, or of a dead process."""
        self._streams.stop()
        if self._tags is not None:
            self._tags.close()
        session = self.upstream.session_if_any
        if isinstance(session, vsphere_session.Session):
            session.logout()
        logout.end(self._note, self._make_client)

    def use(self, session: Any) -> None:
        """Build the parts that belong to a session; makes no calls."""
        max_objects = self._configuration.vmware_max_objects_retrieval
        self.client = soap.Client(
            session.https, cooperative_yield=concurrency.cooperative_yield)
        self.directory = storage_policies.PolicyDirectory(
            session, self._configuration.vmdk_ext_policy_cache_seconds)
        types = type_policies.TypePolicies(
            self.directory, self._configuration.vmdk_ext_policy_cache_seconds)
        watched = inventory_reader.WatchedPolicies(
            self.directory, self.settings.storage_policies, types.known)
        stream = self._watch(session, self.client)
        live = inventory_cache.LiveView(
            stream,
            inventory_reader.InventoryReader(session, self.client, watched),
            watched, observe=self.reservations.observe)
        self.view = live
        self._streams.refresh(self.client, self.reservations)
        self.inventory_source = self._with_tags(live)
        ops = self.volumeops = verified_ops.VerifiedOps(
            session, max_objects, upstream.EXTENSION_KEY,
            upstream.EXTENSION_TYPE, client=self.client)
        ops.inventory_view = live
        ops.freed = self.reservations.touch
        ops.deployment = self.deployment
        ops.backing_view = backing_cache.BackingView(
            stream, ops, on_move=self.reconciler.noticed.set,
            folder=self._configuration.vmware_volume_folder)
        self.ds_sel = selector.DatastoreSelector(
            ops, session, max_objects,
            ds_regex=self.settings.datastore_regex,
            reader=self.inventory_source, directory=self.directory,
            settings=self.settings, books=self.reservations)
        located = locator.Locator(ops, self.inventory_source, self.settings)
        self.selection.connect(self.inventory_source, self.directory)
        self.reconciler.connect(located)
        self.reporter = reporter.Reporter(
            self.inventory_source, self.settings,
            self.promised.of_report, age=live.age_seconds,
            refresh=types.refresh,
            volumes=located.volumes_by_datastore,
            expected=self.reservations.expected,
            # Cinder gives a migration only the capabilities of the pool.
            everywhere=lambda: {'location_info': self.location_info()})

    def _with_tags(self, reader: inventory_reader.InventorySource
                   ) -> inventory_reader.InventorySource:
        name = self.settings.drain_tag
        if name is None:
            return reader
        options = self._configuration
        login = options.vmware_host_username, options.vmware_host_password
        self._tags = tagging.Tagged(tagging.Service(
            _make_transport(options,
                            timeouts_seconds=tagging.TIMEOUTS_SECONDS),
            *login, self._account()), name)
        return tagged.TaggedSource(reader, self._tags)

    def _watch(self, session: Any, client: soap.Client) -> updates.Stream:
        """Prepare the session's long poll; it replaces an older one."""
        stream = updates.Stream(session, client)
        self._streams.replace(stream)
        session.task_waiter = tasks.TaskWaiter(
            stream,
            poll_seconds=self._configuration.vmware_task_poll_interval)
        return stream

    # -- Checks at the start ------------------------------------------------

    def unknown_cluster(self, name: str) -> exceptions.InvalidSettings:
        """The error for an option that names a cluster that does not exist."""
        known = ', '.join(self.upstream.cluster_names())
        return exceptions.InvalidSettings(
            'vmware_cluster_name', f'the vCenter has no cluster {name!r}',
            f'name some of its clusters: {known or "it has none"}')

    def check_policies(self) -> None:
        """Check that the policies of vmware_storage_profile exist.

        :raises InvalidSettings: one does not; names it, and those that exist
        """
        wanted = self.settings.storage_policies
        if self.directory is None or not wanted:
            return
        known = self.directory.names()
        for name in wanted:
            if name not in known:
                raise exceptions.InvalidSettings(
                    'vmware_storage_profile',
                    f'the vCenter has no storage policy {name!r}',
                    f'name some of its policies: {", ".join(known) or "none"}')


class _Streams:
    """The long poll of the present session; it ends with the driver."""

    def __init__(self) -> None:
        self.current: updates.Stream | None = None
        self._refresher: refresher.Refresher | None = None

    def replace(self, stream: updates.Stream) -> None:
        self.stop()
        self.current = stream

    def refresh(self, client: soap.Client,
                books: reservations.Reservations) -> None:
        """Refresh datastores' figures as long as the session lasts."""
        self._refresher = refresher.Refresher(client, books)
        books.notify(self._refresher.wake)

    def refresh_now(self, moref: str) -> None:
        if self._refresher is not None:
            self._refresher.refresh(moref)

    def stop(self) -> None:
        if self.current is not None:
            self.current.stop()
        if self._refresher is not None:
            self._refresher.stop()


def _remembered(read: Callable[[], str]) -> Callable[[], str]:
    """Make a function that calls ``read`` until it answers, then remembers.

    The function must not refer to the backend, because the long poll's
    thread refers to the function and would keep the backend alive.
    """
    known: list[str] = []

    def ask() -> str:
        answer = known[0] if known else read()
        if answer and not known:
            known.append(answer)
        return answer
    return ask


def _make_transport(configuration: Any, **options: Any
                    ) -> transport.Transport:
    return transport.Transport(
        configuration.vmware_host_ip, configuration.vmware_host_port,
        transport.Trust(configuration.vmware_ca_file,
                        configuration.vmware_insecure), pool_size=1,
        **options)


def _make_client(configuration: Any, cookie: str | None = None
                 ) -> soap.Client:
    """A client for calls before a session begins and after it has ended."""
    https = _make_transport(configuration)
    https.cookie = cookie
    return soap.Client(https)
