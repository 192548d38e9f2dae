# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext pool drain`` and ``pool undrain``."""

import argparse
import dataclasses
from typing import Any

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import model
from cinder_vmdk_ext.scheduling import eligibility
from cinder_vmdk_ext.scheduling import pool_names
from cinder_vmdk_ext.vsphere import custom_fields
from cinder_vmdk_ext.vsphere import references

# Room for a sentence; each report of the pool contains it.
_LONGEST_REASON = 200


class _Changing(command.Listing):
    """A command that changes the drain attribute of a pool's datastores."""

    COLUMNS = (
        columns.Column('backend', 'Backend', telling=True),
        columns.Column('pool', 'Pool'),
        columns.Column('datastore', 'Datastore'),
        columns.Column('reference', 'Reference', long=True),
        columns.Column('before', 'Attribute before', long=True),
        columns.Column('after', 'Attribute'),
        columns.Column('state', 'Takes no volumes, for'),
        columns.Column('done', 'Done'))
    #: The word for the change, as 'drained'.
    DONE = ''

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument('pool', metavar='POOL',
                            help='name of the pool, as pool list shows it')
        command.add_confirmation(parser, 'only list what would be done')
        return parser

    def wanted(self, before: str, parsed_args: argparse.Namespace) -> str:
        """The attribute's value after the change."""
        raise NotImplementedError

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Find the pool, ask, and set the attribute."""
        rows: list[columns.Row] = []
        # All are checked before the first one is changed.
        having = self._having(parsed_args)
        with self.keeping(rows):
            for name, opened in self.opened(parsed_args, having):
                attribute = self._attribute(name, opened.settings)
                inventory = opened.inventory()
                pool = pool_names.resolve(parsed_args.pool, inventory,
                                          opened.settings)
                names = pool_names.by_datastore(inventory, opened.settings)
                for datastore in pool_names.with_twins(
                        pool, inventory) if pool else ():
                    row = self._changed(opened, attribute, datastore,
                                        inventory, parsed_args)
                    rows.append((name, names.get(datastore.moref, ''), *row))
        return rows

    def _having(self, parsed_args: argparse.Namespace) -> list[str]:
        """The backends that have the pool; each has the attribute."""
        found: list[str] = []
        known: list[str] = []
        for name, opened in self.opened(parsed_args):
            inventory = opened.inventory()
            if pool_names.resolve(parsed_args.pool, inventory,
                                  opened.settings) is None:
                known += [each.name for each in pool_names.listed(
                    inventory, opened.settings)]
                continue
            self._attribute(name, opened.settings)
            found.append(name)
        if not found:
            with self.calling(LookupError):
                raise LookupError(
                    f'there is no pool {parsed_args.pool!r}; the pools are '
                    + exceptions.shortened(known))
        return found

    def _attribute(self, name: str, settings: model.Settings) -> str:
        if not settings.drain_attribute:
            with self.calling(ValueError):
                raise ValueError(
                    f'backend {name} has no vmdk_ext_drain_attribute, which '
                    'its services would read; set it, or use maintenance '
                    'mode')
        return str(settings.drain_attribute)

    def _changed(self, opened: Any, attribute: str,
                 datastore: model.Datastore, inventory: model.Inventory,
                 parsed_args: argparse.Namespace) -> columns.Row:
        before = inventory.attribute(datastore, attribute) or ''
        after = self.wanted(before, parsed_args)
        done = self._done(opened, attribute, datastore, inventory,
                          before, after, parsed_args)
        now = after if done == self.DONE or done.startswith('would') else (
            before)
        return (datastore.plain_name, datastore.moref, before, now, _state(
            datastore, inventory, opened.settings, attribute, now), done)

    def _done(self, opened: Any, attribute: str, datastore: model.Datastore,
              inventory: model.Inventory, before: str, after: str,
              parsed_args: argparse.Namespace) -> str:
        if before == after:
            return f'it was {self.DONE} already'
        if parsed_args.dry_run:
            return f'would be {self.DONE}'
        if not self.agreed(
                parsed_args,
                f'{datastore.plain_name} ({datastore.moref}) will be '
                f'{self.DONE}: attribute {attribute!r} from {before!r} to '
                f'{after!r}. Continue?'):
            return 'left'
        try:
            _set(opened, attribute, datastore, inventory, after)
        except exceptions.VMWARE_ERRORS as error:
            self.app.failed = True
            return f'failed: {exceptions.first_line(error)}'
        return self.DONE


class DrainPool(_Changing):
    """Stop a pool from taking new volumes, and record the reason.

    Volumes on the pool work as before. The pool stays listed, with no free
    capacity and with the reason, so that Cinder's scheduler chooses other
    pools. All services see the change within seconds, because it is a custom
    attribute of the datastore (vmdk_ext_drain_attribute). The attribute is
    created if it does not exist. Another datastore that shows the same
    storage, as an NFS export that two datacenters mount, is drained as well.
    """

    DONE = 'drained'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            '--reason', required=True, metavar='TEXT', type=_reason,
            help='reason that is shown with the pool; at most '
                 f'{_LONGEST_REASON} characters')
        return parser

    def wanted(self, before: str, parsed_args: argparse.Namespace) -> str:
        """The attribute's value that drains the pool."""
        return eligibility.drain_value(parsed_args.reason)


class UndrainPool(_Changing):
    """Let a drained pool take volumes again.

    Other reasons against new volumes, such as maintenance mode or a tag, are
    listed and not changed. Another datastore that shows the same storage is
    undrained as well.
    """

    DONE = 'undrained'

    def wanted(self, before: str, parsed_args: argparse.Namespace) -> str:
        """No value; a value that does not drain is not changed."""
        return '' if eligibility.is_drain(before) else before


def _reason(text: str) -> str:
    """Check a reason: one line of text (argparse type)."""
    text = text.strip()
    if not text or not text.isprintable() or len(text) > _LONGEST_REASON:
        raise argparse.ArgumentTypeError(
            'a reason is one line of 1 to '
            f'{_LONGEST_REASON} characters')
    return text


def _set(opened: Any, attribute: str, datastore: model.Datastore,
         inventory: model.Inventory, value: str) -> None:
    fields = custom_fields.CustomFields(opened.session, opened.client)
    key = _key(attribute, inventory)
    if key is None:
        key = _key(attribute, opened.inventory_source.read())
    if key is None:
        key = fields.define(attribute, 'Datastore')
    fields.set(references.Ref('Datastore', datastore.moref), key, value)


def _key(attribute: str, inventory: model.Inventory) -> int | None:
    return next((key for key, name in inventory.attributes.items()
                 if name == attribute), None)


def _state(datastore: model.Datastore, inventory: model.Inventory,
           settings: model.Settings, attribute: str, value: str) -> str:
    """Why a datastore takes no volumes with this value; '': it takes them."""
    key = _key(attribute, inventory)
    attributes = inventory.attributes
    if key is None:
        key = max(attributes, default=0) + 1
        attributes = {**attributes, key: attribute}
    values = dict(datastore.custom_values) | {key: value}
    changed = dataclasses.replace(datastore,
                                  custom_values=tuple(values.items()))
    why = eligibility.ineligibility(changed, dataclasses.replace(
        inventory, attributes=attributes,
        datastores={**inventory.datastores, datastore.moref: changed}),
        settings)
    return why.reason if why else ''
