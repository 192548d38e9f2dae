# SPDX-License-Identifier: Apache-2.0
"""A network service that has no network, no port and no security group.

Nova cannot delete a server without asking one for the server's ports, even if
it has none. It answers every question for a list with an empty one, for a
project's quotas with no limit, and every other request with 404.
"""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import json
from typing import Any

_QUOTAS = ('floatingip', 'network', 'port', 'router', 'security_group',
           'security_group_rule', 'subnet')


def answer(method: str, path: str) -> tuple[str, Any]:
    """The status line and the body for a request."""
    parts = path.removesuffix('.json').strip('/').split('/')
    if method != 'GET':
        return '404 Not Found', _nothing(path)
    if parts == ['']:
        return '200 OK', {'versions': [{
            'id': 'v2.0', 'status': 'CURRENT',
            'links': [{'rel': 'self', 'href': 'v2.0/'}]}]}
    if parts == ['v2.0']:
        return '200 OK', {'resources': []}
    if parts[1] == 'quotas' and len(parts) == 3:
        return '200 OK', {'quota': dict.fromkeys(_QUOTAS, -1)}
    if len(parts) == 2:
        return '200 OK', {parts[1].replace('-', '_'): []}
    return '404 Not Found', _nothing(path)


def _nothing(path: str) -> Any:
    return {'NeutronError': {
        'type': 'NotFound', 'detail': '',
        'message': 'This cloud has no network (%s).' % path}}


def application(environ: dict[str, Any],
                start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    status, document = answer(environ['REQUEST_METHOD'],
                              environ['PATH_INFO'])
    body = json.dumps(document).encode()
    start_response(status, [('Content-Type', 'application/json'),
                            ('Content-Length', str(len(body)))])
    return [body]
