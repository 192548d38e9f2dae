# SPDX-License-Identifier: Apache-2.0
"""Asks the vCenter's tagging service which datastores carry a tag.

Tags are not part of the SOAP API. They are read by REST, at ``/api`` since
vSphere 7, and at the older ``/rest`` if ``/api`` is missing.
"""

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

from oslo_log import log as logging
import urllib3

from cinder_vmdk_ext.vsphere import accounts
from cinder_vmdk_ext.vsphere import transport

LOG = logging.getLogger(__name__)

KEEP_SECONDS = 60.0
# Tags are renamed so rarely that reading each once an hour is enough.
NAMES_SECONDS = 3600.0
TIMEOUTS_SECONDS = (10.0, 10.0)


class TagsUnavailable(Exception):
    """The tagging service gave no usable answer."""


class LoginRefused(TagsUnavailable):
    """The tagging service refuses the user or the password."""


class _Missing(TagsUnavailable):
    """The requested object does not exist (HTTP 404)."""


class _Unauthenticated(TagsUnavailable):
    """The session has ended (HTTP 401)."""


class Service:
    """The tagging service of a vCenter; keeps its session."""

    def __init__(self, https: transport.Transport, user: str, password: str,
                 account: accounts.Account) -> None:
        """Prepare, without a request yet.

        :param account: the account of the logins, also of those by SOAP
        """
        self._https = https
        self._account = account
        login = base64.b64encode(f'{user}:{password}'.encode()).decode()
        self._login = {'Authorization': f'Basic {login}'}
        self._session: str | None = None
        self._new = True

    # -- What it knows ------------------------------------------------------

    def tags(self) -> list[str]:
        """The ids of all tags.

        :raises TagsUnavailable: the service does not answer
        """
        return [str(each) for each in _list(self._get('tag'))]

    def tag(self, identifier: str) -> tuple[str, str] | None:
        """Name and category id of a tag; None: the tag is gone.

        :raises TagsUnavailable: the service does not answer
        """
        try:
            found = self._get('tag', identifier)
            return str(found['name']), str(found['category_id'])
        except _Missing:
            return None
        except (KeyError, TypeError) as error:
            raise TagsUnavailable(f'a tag without {error}') from error

    def category(self, identifier: str) -> str:
        """The name of a category.

        :raises TagsUnavailable: the service does not answer
        """
        try:
            return str(self._get('category', identifier)['name'])
        except (KeyError, TypeError) as error:
            raise TagsUnavailable(f'a category without {error}') from error

    def datastores(self, tag: str) -> frozenset[str] | None:
        """The datastores (morefs) that carry a tag, by its id.

        :returns: None if the tag is gone
        :raises TagsUnavailable: the service does not answer
        """
        action = 'action' if self._new else '~action'
        try:
            attached = self._ask('POST', self._path('tag-association', tag)
                                 + f'?{action}=list-attached-objects', {})
            return frozenset(str(each['id']) for each in _list(attached)
                             if each['type'] == 'Datastore')
        except _Missing:
            return None
        except (KeyError, TypeError) as error:
            raise TagsUnavailable(f'an object without {error}') from error

    def close(self) -> None:
        """End the session, and close the connection; never raises."""
        session, self._session = self._session, None
        if session is not None:
            try:
                self._send('DELETE', self._session_path(), session)
            except TagsUnavailable as error:
                LOG.debug('A session of the tagging service was not ended: '
                          '%s', error)
        self._https.close()

    # -- How it is asked ----------------------------------------------------

    def _get(self, what: str, identifier: str = '') -> Any:
        return self._ask('GET', self._path(what, identifier))

    def _path(self, what: str, identifier: str = '') -> str:
        self._log_in()
        if self._new:
            path = f'/api/cis/tagging/{what}'
            return f'{path}/{identifier}' if identifier else path
        path = f'/rest/com/vmware/cis/tagging/{what}'
        return f'{path}/id:{identifier}' if identifier else path

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request; logs in again if the session has ended."""
        try:
            return self._send(method, path, self._session, body)
        except _Unauthenticated:
            self._session = None
            self._log_in()
            return self._send(method, path, self._session, body)

    def _session_path(self) -> str:
        return '/api/session' if self._new else '/rest/com/vmware/cis/session'

    def _log_in(self) -> None:
        if self._session is not None:
            return
        with contextlib.ExitStack() as attempt:
            try:
                attempt.enter_context(self._account.attempt())
            except Exception as error:
                raise LoginRefused(f'not tried again yet ({error})'
                                   ) from error
            self._try_login()

    def _try_login(self) -> None:
        try:
            self._new = True
            try:
                found = self._send('POST', self._session_path())
            except _Missing:
                self._new = False
                found = self._send('POST', self._session_path())
        except _Unauthenticated as error:
            refusal = LoginRefused(str(error))
            self._account.refuse(refusal)
            raise refusal from error
        self._account.accept()
        self._session = str(found)

    def _send(self, method: str, path: str, session: str | None = None,
              body: Any = None) -> Any:
        headers = ({'vmware-api-session-id': session} if session is not None
                   else dict(self._login))
        content = None
        if body is not None:
            content = json.dumps(body).encode()
            headers['Content-Type'] = 'application/json'
        try:
            reply = self._https.request(method, path, body=content,
                                        headers=headers)
            if not 200 <= reply.status < 300:
                raise {401: _Unauthenticated, 404: _Missing}.get(
                    reply.status, TagsUnavailable)(
                        f'{method} {self._https.url}{path} is answered with '
                        f'HTTP {reply.status}')
            if method == 'DELETE':
                return None
            answer = json.loads(reply.data)
            return answer if self._new else answer['value']
        except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError,
                TypeError) as error:
            raise TagsUnavailable(
                f'{method} {self._https.url}{path}: {error}') from error


def _list(answer: Any) -> list[Any]:
    if answer is None:
        return []  # some services answer an empty list like this
    if not isinstance(answer, list):
        raise TagsUnavailable(f'no list, but {answer!r:.50}')
    return answer


class _Tag(NamedTuple):
    name: str
    category: str  # its id


class Tagged:
    """The datastores that carry one tag, read again from time to time.

    Once the tag is found, this takes one request a minute. Threads may share
    it.
    """

    def __init__(self, service: Service, name: str,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """:param name: as in 'TAG', or in 'CATEGORY:TAG'"""
        self._service = service
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._ask_at: float | None = None
        self._complaint = ''
        # What is known of the vCenter's tags, by their ids, and since when.
        self._tags: dict[str, _Tag] = {}
        self._categories: dict[str, str] = {}
        self._tags_since = clock()

    def datastores(self) -> frozenset[str]:
        """The datastores (morefs) with the tag, at most a minute old.

        While the service does not answer, its last answer is returned, so
        that no other part of the driver fails.
        """
        with self._lock:
            first = self._ask_at is None
            due = self._ask_at is None or self._clock() >= self._ask_at
        # While another caller asks, this one takes the last answer.
        if due and self._asking.acquire(blocking=first):
            try:
                if not first or self._ask_at is None:
                    self._refresh()
            finally:
                self._asking.release()
        with self._lock:
            return self._known

    def close(self) -> None:
        """End the session with the tagging service; never raises."""
        with self._asking:
            self._service.close()

    def _refresh(self) -> None:
        complaint = ''
        found: frozenset[str] | None = None
        try:
            found = self._ask()
            if found is None:
                complaint = 'the vCenter has no such tag'
                found = frozenset()
        except LoginRefused:
            complaint = 'the tagging service refuses the login'
        except TagsUnavailable as error:
            complaint = f'the tagging service gave no answer: {error}'
        with self._lock:
            before, self._complaint = self._complaint, complaint
            if found is not None:
                self._known = found
            self._ask_at = self._clock() + KEEP_SECONDS
        if complaint and complaint != before:
            LOG.warning('vmdk_ext_drain_tag %(tag)r: %(complaint)s',
                        {'tag': self._name, 'complaint': complaint})

    def _ask(self) -> frozenset[str] | None:
        """The datastores with the tag; None: the tag does not exist."""
        if self._clock() - self._tags_since >= NAMES_SECONDS:
            self._tags.clear()
            self._categories.clear()
            self._tags_since = self._clock()
        identifier = self._match()
        if identifier is not None:
            found = self._service.datastores(identifier)
            if found is not None:
                return found
            del self._tags[identifier]
        identifier = self._find()
        return (None if identifier is None
                else self._service.datastores(identifier))

    def _find(self) -> str | None:
        """Search the tags that are not known yet."""
        there = self._service.tags()
        for gone in self._tags.keys() - set(there):
            del self._tags[gone]
        for identifier in there:
            if identifier not in self._tags:
                tag = self._service.tag(identifier)
                if tag is not None:
                    self._tags[identifier] = _Tag(*tag)
        return self._match()

    def _match(self) -> str | None:
        return next((identifier for identifier, tag in self._tags.items()
                     if self._is_meant(tag)), None)

    def _is_meant(self, tag: _Tag) -> bool:
        return self._name == tag.name or (
            self._name.endswith(f':{tag.name}')
            and self._name == f'{self._category(tag.category)}:{tag.name}')

    def _category(self, identifier: str) -> str:
        if identifier not in self._categories:
            self._categories[identifier] = self._service.category(identifier)
        return self._categories[identifier]
