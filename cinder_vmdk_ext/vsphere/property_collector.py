# SPDX-License-Identifier: Apache-2.0
"""Reads properties of managed objects (PropertyCollector).

:class:`Retrieval` is the one place that retrieves properties. It reads all
pages of a reply, and raises if the vCenter refuses to return a property,
instead of taking it for unset. :func:`whole` does the same for replies to
oslo.vmware's own functions.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from lxml import etree
from oslo_log import log as logging
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import views

LOG = logging.getLogger(__name__)

Properties = dict[references.Ref, dict[str, Any]]
# Converts a property to a value, by the object's type and the path.
Value = Callable[[str, str, etree._Element], Any]

# The key, among an object's properties, of those that could not be read: the
# reasons by path.
UNREADABLE = '(unreadable)'

RETRIEVE = 'RetrievePropertiesEx'
CONTINUE = 'ContinueRetrievePropertiesEx'
_CANCEL = 'CancelRetrievePropertiesEx'
#: The fault in place of the properties of an object that was deleted.
GONE = 'ManagedObjectNotFound'
_BAD_TOKEN = 'InvalidArgument'


class Missing(NamedTuple):
    """A property that the vCenter does not return (MissingProperty)."""

    path: str
    fault: str  # its type
    object: references.Ref | None = None  # where a privilege is missing
    privilege: str = ''

    def __str__(self) -> str:
        text = f'{self.path} cannot be read: {self.fault}'
        if self.privilege and self.object:
            text += (f', the privilege {self.privilege} is missing on '
                     f'{self.object.type} {self.object.value}')
        return text

    def raised(self, about: references.Ref) -> soap.Fault:
        """The fault as an exception that names the object."""
        details = {}
        if self.object:
            details = {'object': self.object.value,
                       soap.OBJECT_TYPE: self.object.type,
                       'privilegeId': self.privilege}
        return soap.Fault([self.fault],
                          f'{about.type} {about.value}: {self}',
                          details=details)


def missing(element: etree._Element) -> Missing:
    """One entry of the ``missingSet`` of an object or an object update."""
    fault = element.find(f'{{{soap.VIM}}}fault/{{{soap.VIM}}}fault')
    if fault is None:
        fault = element
    on = fault.find(f'{{{soap.VIM}}}object')
    return Missing(
        element.findtext(f'{{{soap.VIM}}}path') or '',
        soap.type_of(fault) or 'MethodFault',
        None if on is None else soap.ref(on),
        fault.findtext(f'{{{soap.VIM}}}privilegeId') or '')


def property_spec(kind: str, paths: list[str] | tuple[str, ...]
                  ) -> soap.Typed:
    """A PropertySpec for objects of one managed type."""
    return soap.Typed('', {'type': kind, 'all': False,
                           'pathSet': list(paths)})


def view_filter(view: references.Ref, paths: Mapping[str, tuple[str, ...]],
                others: Mapping[references.Ref, tuple[str, ...]] | None = None,
                onwards: Iterable[soap.Typed] = ()) -> soap.Typed:
    """A PropertyFilterSpec over the objects of a view, by managed type.

    :param others: paths of single objects, which are in no view
    :param onwards: TraversalSpecs from the objects of the view
    """
    others = others or {}
    walk = soap.Typed('TraversalSpec', {
        'name': 'view', 'type': view.type, 'path': 'view', 'skip': False,
        'selectSet': list(onwards)})
    return soap.Typed('', {
        'propSet': [property_spec(kind, names) for kind, names in (
            *paths.items(), *((ref.type, names)
                              for ref, names in others.items()))],
        'objectSet': [soap.Typed('', {'obj': view, 'skip': True,
                                      'selectSet': walk}),
                      *(soap.Typed('', {'obj': ref, 'skip': False})
                        for ref in others)]})


def list_filter(view: references.Ref, paths: Mapping[str, tuple[str, ...]],
                others: Mapping[references.Ref, tuple[str, ...]]
                ) -> soap.Typed:
    """A PropertyFilterSpec over a ListView and all below its folders.

    Objects come and go as the list changes, and as they are moved into the
    folders and out of them ("this can happen if a virtual machine is added to
    a folder", ObjectUpdateKind).

    :param paths: property paths by managed type
    :param others: as for :func:`view_filter`
    """
    below = soap.Typed('TraversalSpec', {
        'name': 'below', 'type': 'Folder', 'path': 'childEntity',
        'skip': False,
        'selectSet': [soap.Typed('SelectionSpec', {'name': 'below'})]})
    return view_filter(view, paths, others, [below])


# -- Whole reads ------------------------------------------------------------

def properties(session: Any, client: soap.Client, ref: references.Ref,
               paths: Iterable[str], value: Value | None = None
               ) -> dict[str, Any]:
    """Properties of one managed object; those that are unset are left out.

    :raises ManagedObjectNotFoundException: it is gone
    :raises VimException: the vCenter refuses one of them; names the object,
        the property, and the privilege if one is missing
    :raises VimConnectionException: the vCenter did not answer, or its reply
        left out the object
    """
    return _read(session, client, [ref], tuple(paths), value)[ref]


def read_objects(session: Any, client: soap.Client,
                 refs: Iterable[references.Ref], paths: Iterable[str],
                 value: Value | None = None, *,
                 keep_unreadable: bool = False) -> Properties:
    """Properties of many managed objects; those that are gone are left out.

    Makes one call for each page of the vCenter's reply, and one more if the
    reply is empty, since a vCenter also replies so after a session has ended.

    :param keep_unreadable: as for :func:`read_all`
    :raises VimException, VimConnectionException: as :func:`properties`
    """
    refs = list(dict.fromkeys(refs))
    if not refs:
        return {}
    found = _read(session, client, refs, tuple(paths), value,
                  may_be_gone=True, keep_unreadable=keep_unreadable)
    return {ref: found[ref] for ref in refs if ref in found}


def look_at(client: soap.Client, content: Any, refs: list[references.Ref],
            paths: Iterable[str]) -> Properties:
    """As :func:`read_objects` with ``keep_unreadable``; never repeated.

    :param content: the ServiceContent
    :param refs: of one type
    :raises VimException, VimConnectionException: as :func:`properties`
    """
    return Retrieval(client, content.propertyCollector,
                     _objects(refs, tuple(paths), may_be_gone=True), refs,
                     may_be_gone=True, keep_unreadable=True).read()


def read_selected(session: Any, client: soap.Client, start: references.Ref,
                  start_paths: tuple[str, ...], walk: soap.Typed,
                  kind: str, paths: tuple[str, ...]) -> Properties:
    """Properties of the start object and of those that a traversal selects.

    :param walk: a TraversalSpec
    :param kind: the type of the selected objects
    :raises VimException, VimConnectionException: as :func:`properties`
    """
    return _invoke(session, client, soap.Typed('', {
        'propSet': [property_spec(start.type, start_paths),
                    property_spec(kind, paths)],
        'objectSet': soap.Typed('', {'obj': start, 'skip': False,
                                     'selectSet': walk})}), (start,))


def read_all(session: Any, client: soap.Client,
             paths: Mapping[str, tuple[str, ...]],
             managers: Mapping[str, tuple[str, ...]] | None = None,
             value: Value | None = None, *,
             keep_unreadable: bool = False) -> Properties:
    """Properties of all objects of some types in the whole inventory.

    Makes three calls (CreateContainerView, RetrievePropertiesEx,
    DestroyView), and one for each further page of the reply. A lost session
    is replaced once, without a pause. A vCenter that does not answer is an
    error at once, since oslo.vmware's own repetition would wait for ever.

    :param paths: property paths by managed type
    :param managers: property paths of objects that the ServiceContent names,
        by their names there
    :param value: converts each property when it arrives
    :param keep_unreadable: return what the vCenter refuses under
        :data:`UNREADABLE` instead of raising an error
    :returns: ``{reference: {path: value}}``; unset properties are left out
    :raises VimFaultException, VimConnectionException: as oslo.vmware does
    """
    def read() -> Properties:
        return _read_view(session, client, paths, managers or {}, value,
                          keep_unreadable)
    try:
        return read()
    except exceptions.VimFaultException as fault:
        # A view ends with its session, which another thread may replace.
        if not {exceptions.NOT_AUTHENTICATED, GONE} & {*fault.fault_list}:
            raise
    # The vCenter has just answered, so this login does not wait for ever.
    session.ensure_logged_in()
    try:
        return read()
    except soap.EmptyReply as error:
        raise exceptions.VimConnectionException(error.msg) from error


def _read_view(session: Any, client: soap.Client,
               paths: Mapping[str, tuple[str, ...]],
               managers: Mapping[str, tuple[str, ...]],
               value: Value | None, keep_unreadable: bool) -> Properties:
    content = session.vim.service_content
    view = container_view(client, content, paths)
    # The view itself is reported too, so an empty reply is always an error.
    others = {view: ('type',)} | named(content, managers)
    try:
        found = Retrieval(
            client, content.propertyCollector,
            view_filter(view, paths, others), others, value,
            keep_unreadable=keep_unreadable).read()
    finally:
        destroy_view(client, view)
    del found[view]
    return found


def container_view(client: soap.Client, content: Any,
                   kinds: Iterable[str]) -> references.Ref:
    """Create a view of all objects of some types (CreateContainerView).

    It lives until it is destroyed or its session ends. First destroys views
    whose creation got no reply.

    :param content: the ServiceContent
    :raises VimFaultException, VimConnectionException: as oslo.vmware does
    """
    return _make_view(client, content, 'CreateContainerView', {
        'container': content.rootFolder,
        'type': list(kinds), 'recursive': True})


def list_view(client: soap.Client, content: Any) -> references.Ref:
    """Create an empty list (CreateListView); as :func:`container_view`."""
    return _make_view(client, content, 'CreateListView', {})


def _make_view(client: soap.Client, content: Any, method: str,
               arguments: dict[str, Any]) -> references.Ref:
    return views.of(client).make(client, content.viewManager, method,
                                 arguments, _lister(client, content))


def _lister(client: soap.Client, content: Any) -> views.Listed:
    manager = content.viewManager

    def listed() -> Iterable[references.Ref]:
        found = Retrieval(client, content.propertyCollector,
                          _objects([manager], ('viewList',)),
                          (manager,)).read()
        return found[manager].get('viewList') or ()
    return listed


def destroy_lost_views(client: soap.Client, content: Any) -> None:
    """Destroy views whose creation got no reply; never fails.

    Makes a call only for some time after such a loss.

    :param content: the ServiceContent
    """
    views.of(client).destroy_lost(client, _lister(client, content))


def destroy_view(client: soap.Client, view: references.Ref,
                 read_seconds: float | None = None) -> bool:
    """Destroy a view (DestroyView); never fails.

    :returns: whether the vCenter answered; if it did not, the view is
        destroyed before the next one is made
    """
    try:
        client.call('DestroyView', view, read_seconds=read_seconds)
    except exceptions.VMwareDriverException as error:
        LOG.debug('View %s was not destroyed: %s', view.value, error)
        lost = isinstance(error, exceptions.VimConnectionException)
    else:
        lost = False
    views.of(client).forget(view, lost)
    return not lost


def forget_view(client: soap.Client, view: references.Ref) -> None:
    """Forget a view that ended with its session."""
    views.of(client).forget(view)


def named(content: Any, managers: Mapping[str, tuple[str, ...]]
          ) -> dict[references.Ref, tuple[str, ...]]:
    """Objects by their names in the ServiceContent."""
    found = ((getattr(content, name, None), paths)
             for name, paths in managers.items())
    return {ref: paths for ref, paths in found if ref}


def _objects(refs: list[references.Ref], paths: tuple[str, ...],
             may_be_gone: bool = False) -> soap.Typed:
    """A PropertyFilterSpec for single objects, by reference."""
    return soap.Typed('', {
        'propSet': [property_spec(kind, paths)
                    for kind in dict.fromkeys(ref.type for ref in refs)],
        'objectSet': [soap.Typed('', {'obj': ref, 'skip': False})
                      for ref in refs],
        'reportMissingObjectsInResults': True if may_be_gone else None})


def _read(session: Any, client: soap.Client, refs: list[references.Ref],
          paths: tuple[str, ...], value: Value | None,
          may_be_gone: bool = False, **more: bool) -> Properties:
    return _invoke(session, client, _objects(refs, paths, may_be_gone), refs,
                   value, may_be_gone=may_be_gone, **more)


def _invoke(session: Any, client: soap.Client, spec: soap.Typed,
            asked: Iterable[references.Ref], value: Value | None = None,
            **more: bool) -> Properties:
    # In one call of the session, since a page token ends with its session.
    found: Properties = session.invoke_api(Retrieval(
        client, session.vim.service_content.propertyCollector,
        spec, asked, value, **more), 'read')
    return found


# -- One retrieval ----------------------------------------------------------

class Retrieval:
    """One retrieval of properties, with all pages; it may be repeated."""

    def __init__(self, client: soap.Client, collector: references.Ref,
                 spec: soap.Typed, asked: Iterable[references.Ref] = (),
                 value: Value | None = None, *, may_be_gone: bool = False,
                 keep_unreadable: bool = False) -> None:
        """Prepare, without a call.

        :param spec: a PropertyFilterSpec
        :param asked: the objects that the reply must contain
        :param may_be_gone: whether deleted ones may be left out, as the
            specification's reportMissingObjectsInResults says
        :param keep_unreadable: as for :func:`read_all`
        """
        self._client = client
        self._collector = collector
        self._spec = spec
        self._asked = dict.fromkeys(asked).keys()
        self._value = value
        self._may_be_gone = may_be_gone
        self._keep_unreadable = keep_unreadable
        self._found: Properties = {}
        self._token: str | None = None

    def read(self) -> Properties:
        """Properties by object; objects deleted meanwhile are left out.

        :raises EmptyReply: the reply contains none of the objects asked for
        :raises Fault: a fault of the call, or of one object or property
        :raises VimConnectionException: no reply, or one that leaves out an
            object that was asked for
        """
        try:
            self._take_all()
        except Exception as error:
            if self._token is not None and not _is_denial(error):
                self._cancel(self._token)
            raise
        if not self._found.keys() >= self._asked:
            self._check_complete()
        return self._found

    def _take_all(self) -> None:
        self._found, self._token = {}, None
        token = self._take(RETRIEVE, {'specSet': self._spec,
                                      'options': soap.Typed('', {})})
        while token is not None:
            token = self._continue(token)

    def _continue(self, token: str) -> str | None:
        try:
            return self._take(CONTINUE, {'token': token})
        except exceptions.VimFaultException as fault:
            if _BAD_TOKEN in fault.fault_list:
                # Another thread has replaced the retrieval's session.
                self._token = None
                raise soap.empty_reply(CONTINUE, tuple(self._asked)) from fault
            raise

    def _take(self, method: str, arguments: dict[str, Any]) -> str | None:
        """Add a page's objects as they arrive; returns the next token."""
        following = None
        objects = 0
        for part in self._client.stream(method, self._collector, arguments,
                                        ('objects', 'token')):
            if part.getparent().tag != _RETURNED:
                continue
            if part.tag == _TOKEN:
                self._token = following = part.text
                continue
            objects += 1
            try:
                about, seen, lacking = soap.object_content(part, self._value)
            except soap.MALFORMED as error:
                raise soap.malformed(method, error) from error
            self._found.setdefault(about, {}).update(seen)
            if lacking:
                self._note_missing(method, about, lacking)
        self._token = following
        if method == CONTINUE and not objects:
            raise soap.empty_reply(method, tuple(self._asked))
        return following

    def _note_missing(self, method: str, about: references.Ref,
                      entries: Iterable[etree._Element]) -> None:
        for entry in entries:
            try:
                lacking = missing(entry)
            except soap.MALFORMED as error:
                raise soap.malformed(method, error) from error
            if lacking.fault == GONE and about not in self._asked:
                del self._found[about]
                return
            if lacking.fault == GONE or not self._keep_unreadable:
                raise lacking.raised(about)
            self._found[about].setdefault(UNREADABLE, {})[
                lacking.path] = str(lacking)

    def _check_complete(self) -> None:
        left_out = [ref for ref in self._asked if ref not in self._found]
        if len(left_out) == len(self._asked) and left_out:
            self._check_gone(left_out[0])
        elif left_out and not self._may_be_gone:
            raise exceptions.VimConnectionException(
                f'{RETRIEVE}: the reply leaves out '
                f'{left_out[0].type} {left_out[0].value}')

    def _check_gone(self, ref: references.Ref) -> None:
        """Check that objects missing from an empty reply are really gone.

        The vCenter has to confirm it for one object, since it also replies
        with nothing after the session has ended.
        """
        if self._may_be_gone:
            try:
                Retrieval(self._client, self._collector,
                          _objects([ref], ('name',)), (ref,)).read()
            except exceptions.VimFaultException as fault:
                if GONE in fault.fault_list:
                    return
                raise
        raise soap.empty_reply(RETRIEVE, tuple(self._asked))

    def _cancel(self, token: str) -> None:
        # Open retrievals add up in the vCenter until it refuses new ones.
        try:
            self._client.call(_CANCEL, self._collector, {'token': token})
        except exceptions.VMwareDriverException as error:
            LOG.debug('A retrieval was not cancelled: %s', error)


def _is_denial(error: Exception) -> bool:
    """Whether the session has ended, and its retrievals with it."""
    return exceptions.NOT_AUTHENTICATED in getattr(error, 'fault_list', ())


# -- Replies that oslo.vmware reads -----------------------------------------

def whole(call: Callable[[str, Any, dict[str, Any]], Any], collector: Any,
          result: Any) -> Any:
    """A RetrieveResult with the objects of all its pages, and no token.

    :param call: invokes a method of the API on an object with arguments
    """
    token = getattr(result, 'token', None)
    while token:
        try:
            page = call(CONTINUE, collector, {'token': token})
        except Exception as error:
            if _BAD_TOKEN in getattr(error, 'fault_list', ()):
                raise soap.empty_reply(CONTINUE, ()) from error
            if not _is_denial(error):
                _cancel_of(call, collector, token)
            raise
        result.objects.extend(getattr(page, 'objects', None) or ())
        token = getattr(page, 'token', None)
    if hasattr(result, 'token'):
        del result.token
    return result


def _cancel_of(call: Callable[[str, Any, dict[str, Any]], Any],
               collector: Any, token: str) -> None:
    try:
        call(_CANCEL, collector, {'token': token})
    except Exception as error:
        LOG.debug('A retrieval was not cancelled: %s', error)


def check(method: str, arguments: Mapping[str, Any],
          reply: etree._Element) -> None:
    """Refuse a reply whose missing properties would be taken for unset.

    :param arguments: of the call; specifications with attributes
    :raises EmptyReply: the reply leaves out an object asked for by reference
    :raises Fault: the vCenter refuses to return a property
    """
    for entry in reply.iter(_MISSING_SET):
        try:
            lacking, about = missing(entry), soap.ref(entry.getparent()[0])
        except soap.MALFORMED as error:
            raise soap.malformed(method, error) from error
        raise lacking.raised(about)
    if method == CONTINUE and reply.find(f'.//{_OBJECTS}') is None:
        raise soap.empty_reply(method, ())
    if method == RETRIEVE and not len(reply):
        asked = list(_by_reference(arguments.get('specSet')))
        if asked:
            raise soap.empty_reply(method, asked)


def _by_reference(specs: Any) -> Iterator[references.Ref]:
    for spec in _listed(specs):
        if getattr(spec, 'reportMissingObjectsInResults', None):
            continue
        for each in _listed(spec.objectSet):
            if not getattr(each, 'selectSet', None) and not each.skip:
                yield references.Ref(each.obj._type, each.obj.value)


def _listed(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (list, tuple)) else [value]


_RETURNED = f'{{{soap.VIM}}}returnval'
_OBJECTS = f'{{{soap.VIM}}}objects'
_TOKEN = f'{{{soap.VIM}}}token'
_MISSING_SET = f'{{{soap.VIM}}}missingSet'
