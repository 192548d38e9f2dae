# SPDX-License-Identifier: Apache-2.0
"""Which datastores carry a tag, as the vCenter's tagging service knows it.

Tags are no part of the vSphere API proper; they are asked for by REST, at
``/api`` since vSphere 7, and at the older ``/rest`` where that is missing.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from oslo_log import log as logging
import requests

LOG = logging.getLogger(__name__)

KEEP_SECONDS = 60.0
_TIMEOUT_SECONDS = 10


class Service:
    """One session with the tagging service; a context manager."""

    def __init__(self, host: str, port: int, user: str, password: str,
                 verify: bool | str) -> None:
        """:param verify: as requests has it: a CA file, or whether to"""
        address = f'[{host}]' if ':' in host else host
        self._url = f'https://{address}:{port}'
        self._login = user, password
        self._verify = verify
        self._http = requests.Session()
        self._new = True

    def __enter__(self) -> 'Service':
        # The authorities of the environment, but neither its .netrc nor its
        # proxies: the password is the vCenter's.
        self._http.verify = self._http.merge_environment_settings(
            self._url, {}, None, self._verify, None)['verify']
        self._http.trust_env = False
        reply = self._post_login('/api/session')
        self._new = reply.status_code != 404
        if not self._new:
            reply = self._post_login('/rest/com/vmware/cis/session')
        self._http.headers['vmware-api-session-id'] = self._value(reply)
        return self

    def __exit__(self, *exc_info: Any) -> None:
        try:
            self._http.delete(self._url + (
                '/api/session' if self._new
                else '/rest/com/vmware/cis/session'),
                timeout=_TIMEOUT_SECONDS)
        except requests.RequestException as error:
            LOG.debug('A session of the tagging service was not ended: %s',
                      error)
        self._http.close()

    def find(self, name: str) -> str | None:
        """The id of a tag called 'TAG' or 'CATEGORY:TAG'."""
        for identifier in self._get('tag'):
            tag = self._get('tag', identifier)
            if name == tag['name'] or (
                    name.endswith(f':{tag["name"]}')
                    and name == '{}:{}'.format(self._get(
                        'category', tag['category_id'])['name'], tag['name'])):
                return identifier
        return None

    def datastores(self, tag: str) -> frozenset[str]:
        """The datastores (morefs) that carry a tag, by its id."""
        path = self._path('tag-association', tag)
        action = 'action' if self._new else '~action'
        attached = self._value(self._http.post(
            f'{path}?{action}=list-attached-objects', json={},
            timeout=_TIMEOUT_SECONDS))
        return frozenset(each['id'] for each in attached or ()
                         if each['type'] == 'Datastore')

    def _post_login(self, path: str) -> requests.Response:
        return self._http.post(self._url + path, auth=self._login,
                               timeout=_TIMEOUT_SECONDS)

    def _path(self, what: str, identifier: str = '') -> str:
        if self._new:
            path = f'{self._url}/api/cis/tagging/{what}'
            return f'{path}/{identifier}' if identifier else path
        path = f'{self._url}/rest/com/vmware/cis/tagging/{what}'
        return f'{path}/id:{identifier}' if identifier else path

    def _get(self, what: str, identifier: str = '') -> Any:
        return self._value(self._http.get(self._path(what, identifier),
                                          timeout=_TIMEOUT_SECONDS)) or []

    def _value(self, reply: requests.Response) -> Any:
        reply.raise_for_status()
        found = reply.json()
        return found if self._new else found['value']


class Tagged:
    """The datastores that carry one tag, asked for now and then.

    Safe to share between threads.
    """

    def __init__(self, connect: Callable[[], Service], name: str,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._connect = connect
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._known: frozenset[str] = frozenset()
        self._asked_at: float | None = None
        self._complaint = ''

    def datastores(self) -> frozenset[str]:
        """As they were within the last minute.

        While the service does not answer, as it last did: nothing else of
        the driver fails for it.
        """
        with self._lock:
            fresh = (self._asked_at is not None
                     and self._clock() - self._asked_at < KEEP_SECONDS)
        # Whoever finds another thread asking takes what is known.
        if not fresh and self._asking.acquire(
                blocking=self._asked_at is None):
            try:
                self._ask()
            finally:
                self._asking.release()
        with self._lock:
            return self._known

    def _ask(self) -> None:
        complaint = ''
        found: frozenset[str] | None = None
        try:
            with self._connect() as service:
                tag = service.find(self._name)
                found = service.datastores(tag) if tag else frozenset()
            if tag is None:
                complaint = 'the vCenter has no such tag'
        except (requests.RequestException, ValueError, KeyError) as error:
            complaint = f'the tagging service gave no answer: {error}'
        with self._lock:
            before, self._complaint = self._complaint, complaint
            if found is not None:
                self._known = found
            self._asked_at = self._clock()
        if complaint and complaint != before:
            LOG.warning('vmdk_ext_drain_tag %(tag)r: %(complaint)s',
                        {'tag': self._name, 'complaint': complaint})
