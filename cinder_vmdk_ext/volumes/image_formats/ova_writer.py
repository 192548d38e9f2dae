# SPDX-License-Identifier: Apache-2.0
"""Writes an OVA: a tar archive of an OVF, its manifest and one disk.

The formats are those of DMTF's DSP0243, as vSphere and ovftool import them.
The VM that the OVF describes has the disk, its controller, one CPU and a
little memory; an import may change all of them.
"""

import hashlib
import tarfile
from collections.abc import Iterable
from collections.abc import Iterator
from typing import NamedTuple
from xml.sax import saxutils

from cinder_vmdk_ext.volumes.image_formats import ova

# The largest size that a header of the plain format holds.
_MOST_PLAIN_BYTES = 8 << 30
_STREAM_FORMAT = ('http://www.vmware.com/interfaces/specifications/vmdk.html'
                  '#streamOptimized')
# vmware_adaptertype -> resource type and subtype of the controller.
_CONTROLLERS = {'lsiLogic': (6, 'lsilogic'),
                'lsiLogicsas': (6, 'lsilogicsas'),
                'busLogic': (6, 'buslogic'),
                'paraVirtual': (6, 'VirtualSCSI'),
                'ide': (5, '')}
_OVF = '''\
<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" \
xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" \
xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/\
CIM_ResourceAllocationSettingData" \
xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/\
CIM_VirtualSystemSettingData" \
xmlns:vmw="http://www.vmware.com/schema/ovf">
  <References>
    <File ovf:id="file1" ovf:href="{href}" ovf:size="{size}"/>
  </References>
  <DiskSection>
    <Info>The virtual disk</Info>
    <Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" \
ovf:capacity="{capacity}" ovf:capacityAllocationUnits="byte" \
ovf:format="{format}"/>
  </DiskSection>
  <VirtualSystem ovf:id="vm">
    <Info>A virtual machine with the disk of a volume</Info>
    <Name>{name}</Name>
    <OperatingSystemSection ovf:id="1" vmw:osType="otherGuest">
      <Info>The operating system is not known</Info>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-10</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:ElementName>1 virtual CPU</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>1</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:ElementName>1024 MiB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>1024</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:ElementName>Controller</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
{subtype}        <rasd:ResourceType>{kind}</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:ElementName>Hard Disk 1</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
'''


class WholeDisk(NamedTuple):
    """A streamOptimized disk that is complete."""

    size_bytes: int  # of the data
    sha256: str  # of the data, hexadecimal
    capacity_bytes: int
    adapter: str | None  # vmware_adaptertype


def write(stem: str, name: str, disk: WholeDisk,
          data: Iterable[bytes]) -> Iterator[bytes]:
    """Make an OVA.

    :param stem: the files' names without their endings; only letters, digits
        and hyphens
    :param name: of the VM
    :param data: the disk's
    """
    href = f'{stem}-disk1.vmdk'
    ovf = describe(href, name, disk)
    manifest = (f'SHA256({stem}.ovf)= {hashlib.sha256(ovf).hexdigest()}\n'
                f'SHA256({href})= {disk.sha256}\n').encode()
    # In the order of DSP0243: a reader need not go back.
    yield from _member(f'{stem}.ovf', len(ovf), [ovf])
    yield from _member(f'{stem}.mf', len(manifest), [manifest])
    yield from _member(href, disk.size_bytes, data)
    yield bytes(2 * ova.BLOCK_BYTES)


def describe(href: str, name: str, disk: WholeDisk) -> bytes:
    """The OVF of a VM with one disk."""
    kind, subtype = _CONTROLLERS.get(disk.adapter or '',
                                     _CONTROLLERS['lsiLogic'])
    return _OVF.format(
        href=href, size=disk.size_bytes, capacity=disk.capacity_bytes,
        format=_STREAM_FORMAT, name=saxutils.escape(_printable(name)),
        kind=kind, subtype=subtype and (
            f'        <rasd:ResourceSubType>{subtype}'
            '</rasd:ResourceSubType>\n')).encode()


def _printable(name: str) -> str:
    """A name without the characters that XML cannot hold."""
    return ''.join(each if each.isprintable() else '?' for each in name)


def _member(name: str, size_bytes: int,
            data: Iterable[bytes]) -> Iterator[bytes]:
    member = tarfile.TarInfo(name)
    member.size = size_bytes
    yield member.tobuf(
        tarfile.USTAR_FORMAT if size_bytes < _MOST_PLAIN_BYTES
        else tarfile.GNU_FORMAT)
    yield from data
    yield bytes(-size_bytes % ova.BLOCK_BYTES)
