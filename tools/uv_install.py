# SPDX-License-Identifier: Apache-2.0
"""Install with uv what pip would install, in an eighth of pip's CPU seconds.

    python tools/uv_install.py ARGUMENTS OF pip install

Installs for the Python that runs it. uv does not read where pip is configured
to find packages; it is given that. The exit status is not 0, and pip has to
do it, when uv cannot be had, does not succeed, or pip is configured in a way
that is not known here.
"""

import os
import shlex
import subprocess
import sys

# The variable of uv's that says what an option of pip does.
VARIABLES = {
    'index-url': 'UV_DEFAULT_INDEX',
    'extra-index-url': 'UV_INDEX',
    'find-links': 'UV_FIND_LINKS',
    'trusted-host': 'UV_INSECURE_HOST',
    'cert': 'SSL_CERT_FILE',
    'proxy': 'ALL_PROXY',
    'default-timeout': 'UV_HTTP_TIMEOUT',
    'timeout': 'UV_HTTP_TIMEOUT',
}
# They do not change what is installed.
NOT_NEEDED = {
    'break-system-packages', 'cache-dir', 'disable-pip-version-check',
    'no-cache-dir', 'no-input', 'no-warn-script-location', 'progress-bar',
    'quiet', 'retries', 'root-user-action',
}


def variables(configured: str) -> dict[str, str] | None:
    """uv's environment variables for what ``pip config list`` printed.

    :returns: None if an option of pip's is not known here
    """
    # As pip does: the best version of all indexes.
    found = {'UV_INDEX_STRATEGY': 'unsafe-best-match'}
    for line in configured.splitlines():
        key, _, value = line.partition('=')
        option = key.rpartition('.')[2]
        if option in NOT_NEEDED:
            continue
        if option not in VARIABLES:
            return None
        words = ' '.join(shlex.split(value)).replace('\\n', ' ').split()
        if option == 'find-links':
            # pip passes over a folder that does not exist.
            words = [','.join(one for one in words
                              if '://' in one or os.path.exists(one))]
        # pip names the options of the environment first, and they hold.
        found.setdefault(VARIABLES[option], ' '.join(words))
    return {name: value for name, value in found.items() if value}


def main() -> int:
    pip = [sys.executable, '-m', 'pip']
    configured = subprocess.run([*pip, 'config', 'list'], check=True,
                                stdout=subprocess.PIPE, text=True).stdout
    chosen = variables(configured)
    if chosen is None:
        print('pip is configured in a way that is not known for uv')
        return 1
    subprocess.run([*pip, 'install', '--quiet', 'uv'], check=True)
    return subprocess.run(
        [os.path.join(sys.prefix, 'bin', 'uv'), 'pip', 'install',
         '--python', sys.executable, *sys.argv[1:]],
        env={**chosen, **os.environ}).returncode


if __name__ == '__main__':
    sys.exit(main())
