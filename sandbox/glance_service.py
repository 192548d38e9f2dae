# SPDX-License-Identifier: Apache-2.0
"""Serves Glance's API on native threads. Run in Glance's environment, as

    python -m sandbox.glance_service READY_FILE

with OS_GLANCE_CONFIG_DIR. It writes {"port": ...} to the ready file when it
answers. Every user is an administrator of the sandbox's project.
"""
from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

from sandbox import configuration

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_IDENTITY = {
    'HTTP_X_IDENTITY_STATUS': 'Confirmed',
    'HTTP_X_USER_ID': 'admin',
    'HTTP_X_PROJECT_ID': configuration.PROJECT_ID,
    'HTTP_X_ROLES': 'admin,member,reader',
}


def identified(application: Application) -> Application:
    """Add the user to a request, as Keystone's middleware would."""
    def with_identity(environ: dict[str, Any],
                      start_response: Callable[..., Any]) -> Iterable[bytes]:
        return application({**environ, **_IDENTITY}, start_response)
    return with_identity


def main() -> None:
    ready_file = pathlib.Path(sys.argv[1])
    subprocess.run(
        ['glance-manage', '--config-file', os.path.join(
            os.environ['OS_GLANCE_CONFIG_DIR'], 'glance-api.conf'),
         'db_sync'], check=True)
    # Only this environment has them.
    from glance.common import wsgi_app
    from werkzeug import serving
    # Not the standard library's server: it knows no chunked uploads.
    server = serving.make_server(
        '127.0.0.1', 0, identified(wsgi_app.init_app()), threaded=True)
    partial = ready_file.with_suffix('.partial')
    partial.write_text(json.dumps({'port': server.server_port}))
    partial.replace(ready_file)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == '__main__':
    main()
