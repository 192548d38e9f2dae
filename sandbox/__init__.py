# SPDX-License-Identifier: Apache-2.0
"""A local cloud for trying and testing: a real Cinder, a simulated vCenter.

Tests and scripts use `Sandbox`; people use `python -m sandbox`.
"""
from typing import TYPE_CHECKING
from typing import Any

if TYPE_CHECKING:
    from sandbox.cloud import Sandbox
    from sandbox.cluster import Cluster
    from sandbox.configuration import Backend
    from sandbox.errors import SandboxError
    from sandbox.full_cloud import FullCloud

__all__ = ['Backend', 'Cluster', 'FullCloud', 'Sandbox', 'SandboxError']

_HOMES = {'Backend': 'sandbox.configuration',
          'Cluster': 'sandbox.cluster',
          'FullCloud': 'sandbox.full_cloud',
          'Sandbox': 'sandbox.cloud',
          'SandboxError': 'sandbox.errors'}


def __getattr__(name: str) -> Any:
    # Imported on demand: the Cinder process lives in this package too, and
    # eventlet has to patch the standard library before anything that the
    # clients pull in (urllib3) is imported.
    if name not in _HOMES:
        raise AttributeError(name)
    import importlib
    return getattr(importlib.import_module(_HOMES[name]), name)
