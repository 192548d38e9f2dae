# SPDX-License-Identifier: Apache-2.0
"""The Cinder volume driver: upstream's, with one pool per datastore.

The class is put together from one class for each kind of operation, all on
:class:`cinder_vmdk_ext.wiring.WiredDriver`.
"""

from cinder import interface

from cinder_vmdk_ext import adoption
from cinder_vmdk_ext import connections
from cinder_vmdk_ext import failclosed
from cinder_vmdk_ext import groups
from cinder_vmdk_ext import healing
from cinder_vmdk_ext import images
from cinder_vmdk_ext import spread


@interface.volumedriver
@spread.holding(*spread.CHOOSING)
class VmdkExtDriver(healing.Healing, failclosed.FailClosed, spread.Spread,
                    images.Images, connections.Connections,
                    adoption.Adoption, groups.Groups):
    """VMDK volumes in vCenter, one scheduler pool per datastore.

    .. code-block:: default

      0.1.0 - one pool per datastore, placement on the scheduler's pool
    """

    VERSION = '0.1.0'
