# SPDX-License-Identifier: Apache-2.0
"""All tests that need a whole cloud, on one that is started for them.

    make test-cloud

MODULES are the modules of tests, and BROWSER_MODULES those that need a
browser, in an environment of their own. With --running they are tried on the
cloud that `make sandbox CLOUD=1` has started, which is left running.
"""

import argparse
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import sandbox
from sandbox import cloud
from sandbox import configuration
from sandbox import servers
from sandbox.services import environment
from sandbox.tests.full import case
from sandbox.tests.full import timed

MODULES = ('sandbox.tests.full.walk', 'sandbox.tests.full.backups',
           'sandbox.tests.full.nova_walk', 'sandbox.tests.full.dashboard',
           'sandbox.tests.full.demonstration')
BROWSER_MODULES = ('sandbox.tests.full.panels',)
PICTURES = configuration.REPOSITORY / 'docs' / 'horizon'


def _test(names):
    """Whether the tests of these names pass on the cloud of case.FOLDER."""
    return not names or timed.run(names)


def _test_in_browser(names):
    """The same, for tests that need the packages of a browser."""
    if not names:
        return True
    done = subprocess.run(
        [environment.BROWSER.program('python'), '-W', 'ignore', '-m',
         'sandbox.tests.full.timed', *names],
        env={**os.environ, **environment.BROWSER.variables()})
    return not done.returncode


def _needs_browser(name):
    return name.startswith(BROWSER_MODULES)


def _test_all(names):
    plain = [name for name in names if not _needs_browser(name)]
    # Both, so that one failure does not hide another.
    return all([_test(plain), _test_in_browser(
        [name for name in names if _needs_browser(name)])])


def _require(names):
    """Check for what the tests need, before a cloud is started for them."""
    if any(map(_needs_browser, names)):
        environment.BROWSER.require()
        servers.require((servers.CHROMIUM, servers.CHROMEDRIVER))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--running', action='store_true')
    parser.add_argument('--pictures', action='store_true',
                        help='keep the pictures of Horizon in docs/horizon')
    parser.add_argument('names', nargs='*',
                        default=[*MODULES, *BROWSER_MODULES],
                        help='modules, classes or tests; all by default')
    options = parser.parse_args()
    _require(options.names)
    if options.pictures:
        os.environ[case.PICTURES] = str(PICTURES)
    if options.running:
        os.environ[case.FOLDER] = str(cloud.DEFAULT_FOLDER)
        return 0 if _test_all(options.names) else 1
    began = time.monotonic()

    def progress(line):
        print(f'[{time.monotonic() - began:5.1f} s] {line}', flush=True)

    with tempfile.TemporaryDirectory(prefix='test-cloud-') as folder:
        os.environ[case.FOLDER] = folder
        with sandbox.FullCloud(Path(folder), progress=progress):
            progress('testing')
            passed = _test_all(options.names)
            progress('stopping')
        progress('stopped')
    return 0 if passed else 1


if __name__ == '__main__':
    sys.exit(main())
