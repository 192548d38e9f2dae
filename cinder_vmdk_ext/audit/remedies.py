# SPDX-License-Identifier: Apache-2.0
"""Says what is to be done about a finding, in one sentence."""

from cinder_vmdk_ext.audit import compare

_REPAIR = 'cinder-vmdk-ext repair {owner}'
_AGAIN = ('if it is gone for good, cinder-vmdk-ext repair {owner} removes '
          'its record')
#: Where the kind does not say it.
OF_CAUSES = {
    'gone': 'look for it in backups; ' + _AGAIN,
    'renamed': 'cinder-vmdk-ext snapshot relink {owner} --to REFERENCE',
    'host': _REPAIR + ', or wait: the service follows',
    'backend': _REPAIR,
    'status': _REPAIR + ' sets its status, if no service works on it',
    'identity': _REPAIR,
    'folder': _REPAIR,
    'foreign': 'find out which deployment uses it, before either does',
    'power': 'shut it down in the vCenter: it has no guest',
    'disks': "find out which disk is the volume's; remove the others from "
             'the VM, and keep their files',
    'foreign-disk': f'{_REPAIR} takes the disk from the VM, not its file',
    'small': _REPAIR + ' extends the disk',
    'large': _REPAIR + ' extends the volume in Cinder; the disk stays',
    'adapter': _REPAIR,
    'policy': _REPAIR,
    'io': _REPAIR,
    'template': _REPAIR,
    'point': 'if it is not needed: cinder-vmdk-ext sweep --act --also '
             '{reference}',
}
_OF_KINDS = {
    'lost': 'cinder-vmdk-ext volume relink {owner}, with --vm, --vmx or '
            '--disk; ' + _AGAIN,
    'at-risk': 'detach the volume; its disk then moves home',
    'shared': 'find out whose VM it is; remove the disk from it, and keep '
              'the file',
    'stuck': 'repeat the deletion',
    'unreachable': 'if it enters maintenance mode: cinder-vmdk-ext migrate '
                   'run POOL; else give hosts access to the datastore',
    'duplicated': 'check its content; cinder-vmdk-ext sweep --act --also '
                  '{reference} moves it to quarantine',
    'leftover': 'cinder-vmdk-ext sweep --act',
    'orphan': 'cinder-vmdk-ext sweep --act; without a mark: --also '
              '{reference}',
    'quarantined': 'cinder-vmdk-ext quarantine restore or purge {reference}',
}
_LOST_SNAPSHOT = ('cinder-vmdk-ext snapshot relink {owner}, if its template '
                  'was removed from the inventory; ' + _AGAIN)


def remedy(finding: compare.Finding) -> str:
    """What is to be done about a finding."""
    text = OF_CAUSES.get(finding.cause) or _OF_KINDS.get(finding.kind, '')
    if finding.kind == 'lost' and finding.thing == 'snapshot' and (
            finding.cause != 'renamed'):
        text = _LOST_SNAPSHOT
    return text.format(owner=finding.owner, reference=finding.reference)
