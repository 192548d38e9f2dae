# SPDX-License-Identifier: Apache-2.0
"""The session with the vCenter: logs in, and handles calls that fail.

Differences from oslo.vmware's session: a thread never gets another thread's
reply. A lost session is replaced at once, by one login for all calls in
flight. Every call has a time limit, and repetition ends. A call that changes
something is never repeated if it may have been executed.
"""

import functools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
from oslo_vmware import api
from oslo_vmware import exceptions as vmware_exceptions
from oslo_vmware import vim_util

from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import accounts
from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import retry
from cinder_vmdk_ext.vsphere import services
from cinder_vmdk_ext.vsphere import soap
from cinder_vmdk_ext.vsphere import transport

LOG = logging.getLogger(__name__)

# Calls are repeated within this time, at most vmware_api_retry_count times: by
# default about a minute, longer than a brief fault of the vCenter or network.
PATIENCE_SECONDS = 300.0
# Hosts continue a task while the vCenter restarts, which takes minutes.
TASK_PATIENCE_SECONDS = 900.0
LEASE_SECONDS = 300.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 30.0
# If the vCenter denies one session after another, more logins do not help.
_MOST_DENIALS = 3
_NOTHING_LOST = object()


class Session(api.VMwareAPISession):
    """A session with the vCenter that threads may share.

    ``task_waiter`` may be set to a callable that takes a task's reference,
    returns its TaskInfo when it has succeeded and raises as
    :meth:`wait_for_task` does; without it each task is polled.
    """

    _pbm: services.Pbm | None

    def __init__(self, host: str, username: str, password: str,
                 api_retry_count: int, task_poll_interval: float, *,
                 patience_seconds: float = PATIENCE_SECONDS,
                 task_patience_seconds: float = TASK_PATIENCE_SECONDS,
                 timeouts_seconds: tuple[float, float] = (
                     transport.CONNECT_SECONDS, transport.READ_SECONDS),
                 clock: Callable[[], float] = time.monotonic,
                 sleep: Callable[[float], None] = time.sleep,
                 note: Callable[[str | None], None] = lambda cookie: None,
                 on_task: Callable[[], None] = lambda: None,
                 account: accounts.Account | None = None,
                 create_session: bool = True, **kwargs: Any) -> None:
        """Log in, if ``create_session`` is true.

        :param api_retry_count: how often a call is repeated at most
        :param timeouts_seconds: for a connection, and for a reply
        :param note: called with each session's cookie, and None at its end
        :param on_task: called before each wait for a task, since a task
            changes something
        :param account: the account of the logins; None: the one that the
            process shares
        :param kwargs: as for oslo.vmware's class
        :raises VimFaultException: the login was refused
        :raises VimConnectionException: the vCenter does not answer
        """
        self.task_waiter: Callable[[Any], Any] | None = None
        self._patience_seconds = patience_seconds
        self._task_patience_seconds = task_patience_seconds
        self._clock = clock
        self._sleep = sleep
        self._note = note
        self._on_task = on_task
        self._account = account or accounts.of(
            host, kwargs.get('port') or 443, username, password)
        self._closed = False
        self._logging_in = threading.Lock()
        self._making_services = threading.RLock()
        # When the last login failed, and why.
        self._failed: tuple[float, Exception] | None = None
        # Tasks whose state could not be read, with the time of the first try.
        self._unseen: dict[str, float] = {}
        if kwargs.get('wsdl_loc'):
            LOG.warning('vmware_wsdl_location is set and not used: the driver '
                        'reads no WSDL. Remove it.')
        super().__init__(host, username, password, api_retry_count,
                         task_poll_interval, create_session=False, **kwargs)
        #: Sends all calls; it has the session's cookie.
        self.https = transport.Transport(
            self._host, self._port,
            transport.Trust(self._cacert, self._insecure),
            pool_size=self._pool_size, timeouts_seconds=timeouts_seconds)
        #: How often this object has logged in.
        self.logins = 0
        #: The cookie of the last login.
        self.cookie: str | None = None
        if create_session:
            self._create_session()

    @property
    def user_name(self) -> str:
        """The name of the logged-in user, as the vCenter spells it."""
        return str(self._session_username)

    def __repr__(self) -> str:
        return f'<session of {self._server_username!r} with {self._host!r}>'

    # -- Services -----------------------------------------------------------

    @functools.cached_property
    def vim(self) -> services.Vim:
        """The vSphere API."""
        return services.Vim(self.https, op_id_prefix=self._op_id_prefix)

    @property
    def pbm(self) -> services.Pbm | None:
        """The storage policy API; None until it is enabled.

        Upstream enables it by :meth:`pbm_wsdl_loc_set`; the WSDL itself is
        not needed.
        """
        if self._pbm is None and self._pbm_wsdl_loc:
            with self._making_services:
                if self._pbm is None:
                    self._pbm = services.Pbm(
                        self.https, op_id_prefix=self._op_id_prefix)
        return self._pbm

    # -- Logging in and out -------------------------------------------------

    def _create_session(self) -> None:
        # oslo.vmware calls it by this name.
        self.ensure_logged_in()

    def ensure_logged_in(self) -> None:
        """Log in, unless the session is still valid.

        :raises VimFaultException: the login was refused
        :raises VimConnectionException: the vCenter does not answer
        """
        used = self._session_id
        if used is None or not self.is_current_session_active():
            self.renew(used)

    def renew(self, lost: str | None) -> None:
        """Replace a lost session.

        Of all threads that lost the same session, one logs in. The others get
        its new session, or its failure.

        :param lost: the key of the lost session; None: no session before
        :raises VimFaultException: the login was refused
        :raises VimConnectionException: the vCenter does not answer
        """
        arrived = self._clock()
        with self._logging_in:
            if self._session_id is not None and self._session_id != lost:
                return
            if self._closed:
                raise vmware_exceptions.VimException(
                    f'The session with {self._host} is closed.')
            if self._failed is not None and arrived < self._failed[0]:
                raise self._failed[1].with_traceback(None)
            with self._account.attempt():
                if lost is not None:
                    # Perhaps only the storage policy service has lost it.
                    self._log_out()
                try:
                    self._log_in()
                except vmware_exceptions.VMwareDriverException as error:
                    self._note_failure(error)
                    raise
                self._failed = None
                self._account.accept()

    def _note_failure(self, error: Exception) -> None:
        self._failed = self._clock(), error
        LOG.error('The login to the vCenter %(host)s as %(user)r failed: '
                  '%(error)s', {'host': self._host,
                                'user': self._server_username,
                                'error': getattr(error, 'msg', error)})
        if 'InvalidLogin' in getattr(error, 'fault_list', ()):
            LOG.error('The next login as %(user)r is tried in %(pause)d s at '
                      'the earliest, so that the vCenter does not lock the '
                      'account.', {'user': self._server_username,
                                   'pause': self._account.refuse(error)})

    def _log_in(self) -> None:
        vim = self.vim
        found = vim.Login(vim.service_content.sessionManager,
                          userName=self._server_username,
                          password=self._server_password,
                          locale='en')
        self._session_username = found.userName
        self._session_id = found.key
        self.cookie = vim.get_http_cookie()
        self.logins += 1
        self._note(self.cookie)
        LOG.info('Logged in to the vCenter %(host)s as %(user)s; the session '
                 'is ...%(key)s.', {'host': self._host,
                                    'user': found.userName,
                                    'key': found.key[-5:]})

    def _log_out(self) -> None:
        try:
            self.vim.Logout(self.vim.service_content.sessionManager)
        except vmware_exceptions.VMwareDriverException as error:
            LOG.debug('No logout from the vCenter %(host)s: %(error)s',
                      {'host': self._host, 'error': error})

    def is_current_session_active(self) -> bool:
        """Whether the vCenter still knows the session.

        Asks for ``SessionManager.currentSession``, which every user may read;
        ``SessionIsActive``, which oslo.vmware calls, takes a privilege.

        :raises VimConnectionException: the vCenter does not answer
        """
        try:
            found = vim_util.get_object_property(
                self.vim, self.vim.service_content.sessionManager,
                'currentSession')
        except vmware_exceptions.VimException as error:
            LOG.debug('No session is current: %s', error)
            return False
        return found is not None and found.key == self._session_id

    def logout(self) -> None:
        """End the session for good, and close idle connections.

        Never raises. Later calls fail.
        """
        with self._logging_in:
            self._closed = True
            if self._session_id is not None:
                self._log_out()
                self._session_id = None
                self._note(None)
        self.https.close()

    # -- Calls --------------------------------------------------------------

    def invoke_api(self, module: Any, method: str, *args: Any,
                   **kwargs: Any) -> Any:
        """Call a function that speaks to the vCenter, or one of its methods.

        A lost session is replaced and the call repeated, since the vCenter
        has not executed it. A call without a reply is repeated if it was
        certainly not executed, or if repeating it does no harm.

        :param module: the owner of the method; for a method of the API this is
            ``vim``, ``pbm`` or a :class:`soap.Client` with the method ``call``
        :returns: its result
        :raises OutcomeUnknown: the call got no reply, and must not be repeated
            before its effect was checked
        :raises VimConnectionException: the vCenter does not answer
        :raises VimException: the vCenter's fault, as oslo.vmware's class for
            it or as a VimFaultException
        """
        name = args[0] if method == 'call' and args else method
        deadline = self._clock() + self._patience_seconds
        repeated = 0
        lost: Any = _NOTHING_LOST
        denials = 0
        while True:
            executed = False
            try:
                if lost is not _NOTHING_LOST:
                    self.renew(lost)
                    lost = _NOTHING_LOST
                used = self._session_id
                executed = True
                return getattr(module, method)(*args, **kwargs)
            except vmware_exceptions.VimFaultException as fault:
                if not executed or not retry.is_denial(fault):
                    raise retry.specific(fault, self.name_of) from fault
                if retry.is_empty_reply(fault) and self._is_still(used):
                    if not isinstance(fault, soap.EmptyReply):
                        return []
                    # The session is valid: something else broke the reply.
                    self._pause(repeated, deadline, name, _no_reply(fault))
                    repeated += 1
                    continue
                denials += 1
                if denials > _MOST_DENIALS:
                    raise retry.specific(fault, self.name_of) from fault
                lost = used
            except retry.NO_REPLY as error:
                if executed:
                    self._check_repeatable(name, args, error)
                self._pause(repeated, deadline, name, error)
                repeated += 1

    def name_of(self, ref: references.Ref) -> str:
        """An object's type and name, as far as they can be read."""
        try:
            name = vim_util.get_object_property(
                self.vim, ref, 'name')
        except vmware_exceptions.VMwareDriverException as error:
            LOG.debug('%s %s has no name: %s', ref.type, ref.value, error)
            name = None
        return f'{ref.type} {ref.value}' + (f' ({name!r})' if name else '')

    def _is_still(self, used: str | None) -> bool:
        """Whether the used session is active and was not replaced."""
        return self.is_current_session_active() and self._session_id == used

    @staticmethod
    def _check_repeatable(name: str, args: tuple[Any, ...],
                          error: Exception) -> None:
        if isinstance(error, exceptions.OutcomeUnknown):
            raise error
        if not (retry.is_repeatable(name)
                or retry.never_sent(error)):
            raise exceptions.OutcomeUnknown(
                name, retry.target(args), error) from error

    def _pause(self, repeated: int, deadline: float, name: str,
               error: Exception) -> None:
        """Wait before a call is repeated.

        :param repeated: how often it was repeated before
        :raises Exception: the error, if the call must not be repeated again
        """
        longest = min(_FIRST_PAUSE_SECONDS * 2 ** repeated,
                      _LONGEST_PAUSE_SECONDS)
        # Random, so that threads which failed together retry at other times.
        pause = longest * random.uniform(0.5, 1)
        if (repeated >= self._api_retry_count
                or self._clock() + pause > deadline):
            raise error
        LOG.warning('%(method)s is repeated in %(pause).1f s: %(error)s',
                    {'method': name, 'pause': pause,
                     'error': retry.in_one_line(error)})
        self._sleep(pause)

    # -- Tasks --------------------------------------------------------------

    def wait_for_task(self, task: Any) -> Any:
        """Wait for a task to end, however long that takes.

        :returns: its TaskInfo, when it has succeeded
        :raises OutcomeUnknown: its state can no longer be read
        :raises VimException: why the task failed
        """
        self._on_task()
        if self.task_waiter is not None:
            return self.task_waiter(task)
        return super().wait_for_task(task)

    def wait_for_lease_ready(self, lease: Any) -> None:
        """Wait until an HttpNfcLease can be used, for at most five minutes.

        :raises VimException: why it cannot be used, or the time ran out
        """
        deadline = self._clock() + LEASE_SECONDS
        while self._clock() < deadline:
            try:
                self._poll_lease(lease)
            # Before release 4.9 oslo.vmware has a class of its own for this.
            except api.loopingcall.LoopingCallDone:
                return
            self._sleep(min(self._task_poll_interval, 1))
        raise vmware_exceptions.VimException(
            f'The lease {lease.value} is not ready after '
            f'{LEASE_SECONDS:g} s.')

    def _poll_task(self, task: Any, ctx: Any) -> None:
        key = task.value
        try:
            super()._poll_task(task, ctx)
        except vmware_exceptions.ManagedObjectNotFoundException as error:
            # A vCenter forgets its tasks when it restarts.
            raise exceptions.OutcomeUnknown('Task', key, error) from error
        except retry.NO_REPLY as error:
            since = self._unseen.setdefault(key, self._clock())
            if self._clock() - since < self._task_patience_seconds:
                return
            del self._unseen[key]
            raise exceptions.OutcomeUnknown('Task', key, error) from error
        except BaseException:
            self._unseen.pop(key, None)
            raise
        self._unseen.pop(key, None)


def _no_reply(empty: soap.EmptyReply) -> Exception:
    return vmware_exceptions.VimConnectionException(empty.msg)
