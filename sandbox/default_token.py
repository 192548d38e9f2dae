# SPDX-License-Identifier: Apache-2.0
"""A paste filter that adds default credentials to requests without any.

Cinder's noauth middleware answers a request without a token with "204 No
Content" and a generated token; old clients logged in this way. Today's
clients ask for the API's versions before they have a token, and take that
answer for the list of versions.
"""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def filter_factory(_global_conf: dict[str, str], *, token: str
                   ) -> Callable[[Application], Application]:
    """Make the filter.

    :param token: what a request gets that has none, as "user:project"
    """
    def wrap(application: Application) -> Application:
        def with_token(environ: dict[str, Any],
                       start_response: Callable[..., Any]) -> Iterable[bytes]:
            # keystoneauth's plugin "none" sends the literal token "notused".
            if ':' not in environ.get('HTTP_X_AUTH_TOKEN', ''):
                environ['HTTP_X_AUTH_TOKEN'] = token
            return application(environ, start_response)
        return with_token
    return wrap
