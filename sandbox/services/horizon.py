# SPDX-License-Identifier: Apache-2.0
"""Horizon: the cloud in a browser."""
from __future__ import annotations

from pathlib import Path
import secrets

from sandbox import configuration
from sandbox import processes
from sandbox.services import accounts as accounts_module
from sandbox.services import environment

_MODULE = 'sandbox_dashboard'
_SETTINGS = '''\
from openstack_dashboard.settings import *

ALLOWED_HOSTS = ['127.0.0.1', 'localhost']
SECRET_KEY = %(secret)r
OPENSTACK_KEYSTONE_URL = %(keystone)r
OPENSTACK_KEYSTONE_DEFAULT_DOMAIN = %(domain)r
OPENSTACK_API_VERSIONS = {'identity': 3, 'image': 2, 'volume': 3}
SESSION_ENGINE = 'django.contrib.sessions.backends.file'
SESSION_FILE_PATH = %(sessions)r
CACHES = {'default': {
    'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}}
STATIC_ROOT = COMPRESS_ROOT = %(static)r
COMPRESS_OFFLINE = True
OPENSTACK_CINDER_FEATURES = {'enable_backup': True}
# What it says stays until it is read.
HORIZON_CONFIG['auto_fade_alerts']['types'] = []
# There is no network, so nothing about it is asked.
OPENSTACK_NEUTRON_NETWORK = {
    **OPENSTACK_NEUTRON_NETWORK, 'enable_router': False,
    'enable_quotas': False, 'enable_ipv6': False}
'''


def settings(folder: Path, accounts: accounts_module.Accounts) -> str:
    """The text of a Django settings module above Horizon's own."""
    home = folder / 'horizon'
    return _SETTINGS % {
        'secret': secrets.token_hex(16),
        'keystone': accounts.auth_url,
        'domain': accounts_module.DOMAIN,
        'sessions': str(home / 'sessions'),
        'static': str(_static()),
    }


def _static() -> Path:
    return environment.DASHBOARD.folder / 'static'


def start(folder: Path, accounts: accounts_module.Accounts
          ) -> processes.ManagedProcess:
    """Start Horizon, without waiting for it.

    The first time its style sheets and scripts are made ready, which takes
    a while; they are kept beside it.
    """
    home = folder / 'horizon'
    (home / 'sessions').mkdir(parents=True)
    configuration.write_private(home / ('%s.py' % _MODULE),
                                settings(folder, accounts))
    variables = environment.DASHBOARD.variables({
        'DJANGO_SETTINGS_MODULE': _MODULE, 'PYTHONPATH': str(home)})
    django = [environment.DASHBOARD.program('python'), '-W', 'ignore',
              '-m', 'django']
    if not (_static() / '.complete').exists():
        for command in (('collectstatic', '--noinput', '--clear'),
                        ('compress', '--force')):
            environment.run('horizon-files', [*django, *command], folder,
                            variables)
        (_static() / '.complete').touch()
    return processes.ManagedProcess.start(
        'horizon', [*django, 'runserver', '--noreload', '--insecure',
                    '127.0.0.1:%d' % accounts.ports.horizon],
        folder, environment=variables)
