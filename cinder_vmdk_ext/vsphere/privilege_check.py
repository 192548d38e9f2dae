# SPDX-License-Identifier: Apache-2.0
"""Checks at the start whether the vCenter user has the needed privileges.

It reports each missing privilege and its objects once, before an operation
fails without it. The table is :mod:`privileges`.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from lxml import etree
from oslo_log import log as logging
from oslo_vmware import exceptions as vmware_exceptions

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import privileges
from cinder_vmdk_ext.vsphere import property_collector
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

LOG = logging.getLogger(__name__)

_METHOD = 'HasUserPrivilegeOnEntities'
# Where to check the privileges on objects of a kind. A VM inherits those of
# its folder and resource pool, and the folder exists before the VM.
_LOOKED_FOR = {
    privileges.ROOT: (privileges.ROOT,),
    privileges.FOLDER: (privileges.FOLDER, privileges.MACHINE),
    privileges.DATASTORE: (privileges.DATASTORE,),
    privileges.POOL: (privileges.POOL,),
}


class Lack(NamedTuple):
    """A privilege that is missing, and the names of the objects."""

    privilege: privileges.Privilege
    kind: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        where = ' '.join(filter(None, (
            self.kind, exceptions.shortened(self.names))))
        return f'{self.privilege.id} on {where} (to {self.privilege.purpose})'


class Checker:
    """Asks the vCenter what the session's user may do."""

    def __init__(self, session: Any, client: soap.Client, extension: str,
                 is_used: Callable[[str], bool] = lambda name: True,
                 clusters: Collection[str] = ()) -> None:
        """Prepare, without a call.

        :param extension: the key of the extension that marks the backend's VMs
        :param is_used: whether the backend uses a datastore, by its name
        :param clusters: names of the clusters that the backend uses; empty:
            all
        """
        self._session = session
        self._client = client
        self._extension = extension
        self._is_used = is_used
        self._clusters = clusters

    @property
    def user(self) -> str:
        """The name of the logged-in user, as the vCenter spells it."""
        return str(self._session.user_name)

    def lacks(self) -> list[Lack]:
        """The privileges of the table that the user lacks on used objects.

        Takes about seven calls (CreateContainerView, RetrievePropertiesEx
        for each page, DestroyView, FindExtension, and
        HasUserPrivilegeOnEntities for each kind of object).

        :raises VimException, VimConnectionException: it cannot be found out
        """
        return list(self._lacks())

    def _lacks(self) -> Iterator[Lack]:
        objects = self._objects()
        for kind, looked_for in _LOOKED_FOR.items():
            wanted = [each for each in privileges.TABLE
                      if each.on in looked_for and self._exists(each)]
            named = objects[kind]
            if not named:
                yield Lack(_READ, kind, ())
                continue
            has = granted(self._session, self._client, named,
                          {each.id for each in wanted})
            for each in _once(wanted):
                lacking = [ref for ref in named if each.id not in has[ref]]
                if lacking:
                    yield Lack(each, kind, tuple(sorted(
                        filter(None, map(named.get, lacking)))))

    def _exists(self, privilege: privileges.Privilege) -> bool:
        """Whether the vCenter has it, and the driver itself needs it still."""
        content = self._session.vim.service_content
        if privilege.optional:
            return False
        if privilege.since and _numbers(content.about.apiVersion) < _numbers(
                privilege.since):
            return False
        return not (privilege.id == 'Extension.Register'
                    and self._is_registered(content.extensionManager))

    def _is_registered(self, manager: Any) -> bool:
        found = self._session.invoke_api(
            self._client, 'call', 'FindExtension', manager,
            {'extensionKey': self._extension})
        return len(found) > 0

    def _objects(self) -> dict[str, dict[references.Ref, str]]:
        """The objects that a backend uses, with their names, by kind."""
        content = self._session.vim.service_content
        read = property_collector.read_all(
            self._session, self._client, {
                'Datacenter': ('name', 'vmFolder'), 'Datastore': ('name',),
                'ComputeResource': ('name', 'resourcePool')},
            keep_unreadable=True)
        found: dict[str, dict[references.Ref, str]] = {
            privileges.ROOT: {content.rootFolder: ''},
            privileges.FOLDER: {}, privileges.DATASTORE: {},
            privileges.POOL: {}}
        for ref, facts in read.items():
            name = facts.get('name', ref.value)
            if ref.type == 'Datacenter' and 'vmFolder' in facts:
                found[privileges.FOLDER][facts['vmFolder']] = f'{name}/vm'
            elif ref.type == 'Datastore' and self._is_used(name):
                found[privileges.DATASTORE][ref] = name
            elif 'resourcePool' in facts and (
                    not self._clusters or name in self._clusters):
                found[privileges.POOL][facts['resourcePool']] = (
                    f'{name}/Resources')
        return found


def granted(session: Any, client: soap.Client,
            refs: Collection[references.Ref], ids: Iterable[str]
            ) -> dict[references.Ref, set[str]]:
    """Which of the privileges the session's user has, by object.

    Makes one call (HasUserPrivilegeOnEntities).

    :raises VimException, VimConnectionException: it cannot be found out
    """
    reply = session.invoke_api(
        client, 'call', _METHOD,
        session.vim.service_content.authorizationManager, {
            'entities': list(refs), 'userName': str(session.user_name),
            'privId': sorted(ids)})
    found: dict[references.Ref, set[str]] = {ref: set() for ref in refs}
    try:
        for part in reply:
            found[soap.ref(part[0])].update(_given(part[1:]))
    except soap.MALFORMED as error:
        raise soap.malformed(_METHOD, error) from error
    return found


# Stands for the objects of a kind if the user sees none of them.
_READ = privileges.Privilege('System.Read', '', 'serve volumes at all')


def _given(availabilities: Iterable[etree._Element]) -> Iterator[str]:
    for each in availabilities:
        if each.findtext(f'{{{soap.VIM}}}isGranted') == 'true':
            yield each.findtext(f'{{{soap.VIM}}}privId') or ''


def _once(wanted: Iterable[privileges.Privilege]
          ) -> Iterable[privileges.Privilege]:
    """Each privilege once; folders need some for themselves and for VMs."""
    return {each.id: each for each in reversed(list(wanted))}.values()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split('.') if part.isdigit())


def check(checker: Checker) -> None:
    """Report in one sentence which privileges the user lacks.

    :raises InvalidSettings: the driver cannot serve without it
    """
    user = checker.user
    try:
        lacks = checker.lacks()
    except vmware_exceptions.VMwareDriverException as error:
        LOG.warning('Whether the vCenter user %(user)r has the privileges '
                    'that it needs could not be found out: %(error)s',
                    {'user': user, 'error': error})
        return
    vital = [lack for lack in lacks if lack.privilege.vital]
    if vital:
        raise exceptions.InvalidSettings(
            'vmware_host_username', f'the user {user!r} lacks '
            f'{"; ".join(map(str, vital))}',
            'give its role what docs/privileges.md lists')
    if lacks:
        LOG.warning('The vCenter user %(user)r lacks %(lacks)s; give its '
                    'role what docs/privileges.md lists.',
                    {'user': user, 'lacks': '; '.join(map(str, lacks))})
