# SPDX-License-Identifier: Apache-2.0
"""Installs packages with uv like pip, in an eighth of pip's CPU time.

    python tools/uv_install.py ARGUMENTS OF pip install

It installs for the Python that runs it. uv does not read pip's configuration,
so this script passes the configured package indexes to uv. The exit status is
not 0 if uv is not available or fails, or if pip has an option that is not
known here; the caller then uses pip.
"""

import os
import shlex
import subprocess
import sys

# It takes half a minute on a slow network; pip is tried where it hangs.
LIMIT_SECONDS = 300
# The variable of uv that corresponds to an option of pip.
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
    """uv's environment variables for the output of ``pip config list``.

    :returns: None if an option of pip's is not known here
    """
    # Like pip, take the best version of all indexes.
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
            # pip ignores a folder that does not exist.
            words = [','.join(one for one in words
                              if '://' in one or os.path.exists(one))]
        # pip lists options of the environment first; they take precedence.
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
        env={**chosen, **os.environ}, timeout=LIMIT_SECONDS).returncode


if __name__ == '__main__':
    sys.exit(main())
