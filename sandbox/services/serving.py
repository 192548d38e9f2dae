# SPDX-License-Identifier: Apache-2.0
"""A WSGI application on native threads. Run in its environment, as

    python -m sandbox.services.serving MODULE PORT

MODULE has it as `application`. It is loaded before the port is listened on.
"""
from __future__ import annotations

import importlib
import os
import signal
import sys


def main() -> None:
    module, port = sys.argv[1], int(sys.argv[2])
    # The service takes the arguments of its program for its own.
    sys.argv = [module]
    application = importlib.import_module(module).application
    # Not before: Nova chooses its kind of concurrency first.
    from werkzeug import serving

    class Handler(serving.WSGIRequestHandler):
        # Clients keep their connections.
        protocol_version = 'HTTP/1.1'

    # Not the standard library's server: it knows no chunked uploads.
    server = serving.make_server('127.0.0.1', port, application,
                                 threaded=True, request_handler=Handler)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.serve_forever()


if __name__ == '__main__':
    main()
