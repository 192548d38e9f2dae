# SPDX-License-Identifier: Apache-2.0
"""What whoever attaches a volume is told, and what is kept from them.

Nova attaches by the vCenter's reference of the disk's VM. os-brick's vmdk
connector instead logs in to the vCenter by itself, so upstream's driver gives
the user and the password to every connector that says it runs on a platform:
any member of a project can say so by Cinder's API. See docs/security.md.
"""

from typing import Any

from cinder_vmdk_ext.backings import finder
from cinder_vmdk_ext import exceptions

# By these os-brick's connectors are told from Nova's.
_OS_BRICK = ('platform', 'os_type')


class Connections(finder.Exchange):
    """Attachments without the vCenter's credentials, unless they are asked for
    by the option ``vmdk_ext_connector_credentials``.
    """

    def validate_connector(self, connector: Any) -> None:
        """Refuse what could not attach without a password (Cinder hook).

        :raises ConnectorRefused: with the option that would permit it
        """
        if self._is_os_brick(connector) and not self._gives_credentials():
            raise exceptions.ConnectorRefused()
        super().validate_connector(connector)

    def _get_connection_info(self, volume: Any, backing: Any,
                             connector: Any) -> dict[str, Any]:
        if not self._gives_credentials():
            connector = {name: value for name, value in connector.items()
                         if name not in _OS_BRICK}
        return super()._get_connection_info(volume, backing, connector)

    def _gives_credentials(self) -> bool:
        return bool(self.configuration.safe_get(
            'vmdk_ext_connector_credentials'))

    @staticmethod
    def _is_os_brick(connector: Any) -> bool:
        return ('instance' not in connector
                and all(name in connector for name in _OS_BRICK))
