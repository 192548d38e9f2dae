# SPDX-License-Identifier: Apache-2.0
"""How volumes come into being."""

from typing import Any

from cinder.volume.drivers.vmware import vmdk

from cinder_vmdk_ext import promises
from cinder_vmdk_ext import wiring


class Creation(wiring.WiredDriver):
    """Creation of volumes, each on the pool in its host."""

    def create_volume(self, volume: Any) -> dict[str, str]:
        """Create a volume on the datastore of the pool in its host.

        With ``vmware_lazy_create`` its space is promised there and taken at
        first use.

        :raises InvalidExtraSpec: the type asks for what does not exist
        :raises NoPlacement: with the reason for each datastore considered
        """
        self._check_specs(lambda: self._volume_specs(volume))
        super().create_volume(volume)
        lazy = self.configuration.vmware_lazy_create
        return {'provider_id':
                promises.PROMISED if lazy else promises.BACKED}

    def _create_backing(self, volume: Any, host: Any = None,
                        create_params: Any = None) -> Any:
        backing = super()._create_backing(volume, host, create_params)
        temporary = (create_params or {}).get(vmdk.CREATE_PARAM_TEMP_BACKING)
        if promises.is_promised(volume) and not temporary:
            volume.provider_id = promises.BACKED
            volume.save()
        return backing
