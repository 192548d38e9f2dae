# SPDX-License-Identifier: Apache-2.0
"""``cinder-vmdk-ext quarantine list``, ``restore`` and ``purge``."""

import argparse
from typing import Any

from oslo_utils import timeutils
from oslo_utils import uuidutils

from cinder import exception

from cinder_vmdk_ext.audit import aside
from cinder_vmdk_ext.audit import collect
from cinder_vmdk_ext.audit import quarantine
from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext import locks

_UNMARKED = ('left: it has no mark of this deployment; give its reference '
             'if it is yours')
_NOT_BEGUN = 'left: not begun'
_REFERENCE_HELP = ('reference or name, as quarantine list shows it; a name '
                   'that several objects have is refused')
_COLUMNS = (
    columns.Column('backend', 'Backend', telling=True),
    columns.Column('thing', 'Thing'),
    columns.Column('name', 'Name'),
    columns.Column('reference', 'Reference'),
    columns.Column('owner', 'Owner', long=True),
    columns.Column('place', 'Place'),
    columns.Column('size_bytes', 'Size', columns.size),
    columns.Column('moved_at', 'Moved at', long=True),
    columns.Column('age_seconds', 'For', columns.duration),
    columns.Column('kind', 'Why'),
    columns.Column('detail', 'Detail', long=True),
    columns.Column('origin', 'Was in', long=True),
    columns.Column('mine', 'Marked ours', columns.truth, long=True),
    columns.Column('used_by', 'Used by', columns.listed, long=True),
    columns.Column('hindrance', 'Not restorable', long=True))


class ListQuarantine(command.Listing):
    """List what a sweep has moved to quarantine, with the reason and time.

    What has the mark of another deployment of Cinder is not listed. What an
    older release has moved is listed without the time and the reason.
    """

    COLUMNS = _COLUMNS

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Read the items in quarantine."""
        return [_row(name, item) for name, opened in self.opened(parsed_args)
                for item in aside.items(_reader(opened).read())]


class _Acting(command.Listing):
    """A command that changes items, and lists each with the result."""

    COLUMNS = (*_COLUMNS, columns.Column('done', 'Done'))
    VERB = ''

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        command.add_confirmation(parser, 'only list what would be done')
        return parser

    def chosen(self, item: aside.Item,
               parsed_args: argparse.Namespace) -> bool:
        """Whether an argument selects an item."""
        return any(map(item.is_called, parsed_args.reference))

    def why_not(self, item: aside.Item,
                parsed_args: argparse.Namespace) -> str:
        """Why a selected item is not changed; '': it is changed."""
        named = item.reference in parsed_args.reference
        return '' if item.mine or named else _UNMARKED

    def act(self, mover: quarantine.Quarantine, item: aside.Item) -> None:
        """Change one item."""
        raise NotImplementedError

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Choose, ask, read again, act."""
        rows: list[columns.Row] = []
        missing = set(parsed_args.reference)
        if missing and len(self.names(parsed_args)) > 1:
            # Before the first backend is changed.
            self._refuse_ambiguous(parsed_args, [
                (name, each) for name, opened in self.opened(parsed_args)
                for each in aside.items(_reader(opened).read())])
        with self.keeping(rows):
            for name, opened in self.opened(parsed_args):
                items = [each for each in aside.items(_reader(opened).read())
                         if self.chosen(each, parsed_args)]
                self._refuse_ambiguous(parsed_args,
                                       [(name, each) for each in items])
                missing -= {word for word in missing
                            if any(each.is_called(word) for each in items)}
                self._do(rows, name, opened, items, parsed_args)
            self.app.misused |= bool(missing) and not rows
            self.log_missing('this deployment has nothing in quarantine '
                             'with the name or reference', missing)
        return rows

    def _refuse_ambiguous(self, parsed_args: argparse.Namespace,
                          found: list[tuple[str, aside.Item]]) -> None:
        """Refuse an argument that names several items.

        :param found: the items, with their backends; two backends of one
            vCenter may have the same item
        """
        for word in parsed_args.reference:
            named = {(each.reference, each.name, each.at): backend
                     for backend, each in found if each.is_called(word)}
            if len(named) > 1:
                several = sorted(f'{reference} ({backend})' for (
                    reference, _name, _at), backend in named.items())
                with self.calling(LookupError):
                    raise LookupError(
                        f'{word!r} names several objects in quarantine: '
                        f'{exceptions.shortened(several)}; give the '
                        'reference of one, or its --backend')

    def _do(self, rows: list[columns.Row], name: str, opened: Any,
            items: list[aside.Item], parsed_args: argparse.Namespace) -> None:
        """Act on the items, and list each, also after an interrupt."""
        done = {each.reference: self.why_not(each, parsed_args)
                for each in items}
        try:
            self._act_on(opened, items, done, parsed_args)
        finally:
            rows += [(*_row(name, each), done[each.reference] or _NOT_BEGUN)
                     for each in items]

    def _act_on(self, opened: Any, items: list[aside.Item],
                done: dict[str, str],
                parsed_args: argparse.Namespace) -> None:
        for each in items:
            if done[each.reference]:
                continue
            if parsed_args.dry_run:
                done[each.reference] = f'would be {self.VERB}d'
            elif not self.agreed(
                    parsed_args,
                    f'{self.VERB.capitalize()} {each.thing} {each.name} '
                    f'({each.reference}, {columns.size(each.size_bytes)})?'):
                done[each.reference] = 'left'
        if not all(done.values()):
            # The questions may have taken time: read the items again.
            now = {each.reference: each
                   for each in aside.items(_reader(opened).read())}
            with self.app.backends.locking():
                for reference in [each for each in done if not done[each]]:
                    done[reference] = command.UNFINISHED
                    done[reference] = self._tried(
                        opened, now.get(reference))

    def _tried(self, opened: Any, item: aside.Item | None) -> str:
        if item is None:
            return 'left: it is no longer in quarantine'
        owner = [item.owner] if uuidutils.is_uuid_like(item.owner) else []
        try:
            with locks.volumes(*owner):
                self.act(quarantine.Quarantine(opened), item)
        except exceptions.QuarantineRefused as why:
            self.app.failed = True
            return f'refused: {why}'
        except (exceptions.VMWARE_ERRORS,
                exception.CinderException) as error:
            self.app.failed = True
            return f'failed: {exceptions.first_line(error)}'
        return f'{self.VERB}d'


class RestoreQuarantine(_Acting):
    """Restore the name, the marks and the place of items in quarantine.

    A later sweep moves them again when they are old enough, unless Cinder has
    a record of them by then. Refused before anything changes if the former
    folder is gone, another VM has the instance UUID, or the file exists.
    """

    VERB = 'restore'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'reference', nargs='+', metavar='REFERENCE',
            help=_REFERENCE_HELP)
        return parser

    def act(self, mover: quarantine.Quarantine, item: aside.Item) -> None:
        """Restore one item."""
        mover.restore(item)


class PurgeQuarantine(_Acting):
    """Destroy items in quarantine, with their disks.

    An item is left if a VM uses one of its files. Without its reference, it
    is also left if it has no mark of this deployment, or if the time of its
    move is unknown.
    """

    VERB = 'purge'

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            'reference', nargs='*', metavar='REFERENCE', default=[],
            help=_REFERENCE_HELP)
        parser.add_argument(
            '--older-than', metavar='DAYS',
            type=command.number('days', '30, or 0 for all'),
            help='all items that have been in quarantine for so long')
        return parser

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Choose, ask, read again, destroy."""
        if not parsed_args.reference and parsed_args.older_than is None:
            with self.calling(ValueError):
                raise ValueError('give a REFERENCE, or --older-than DAYS')
        return super().rows(parsed_args)

    def chosen(self, item: aside.Item,
               parsed_args: argparse.Namespace) -> bool:
        """Whether an argument or ``--older-than`` selects an item."""
        if super().chosen(item, parsed_args):
            return True
        days = parsed_args.older_than
        age_seconds = _age(item)
        return days is not None and (
            age_seconds is None or age_seconds >= days * 86400)

    def why_not(self, item: aside.Item,
                parsed_args: argparse.Namespace) -> str:
        """Why a selected item is not changed; '': it is changed."""
        if _age(item) is None and not super().chosen(item, parsed_args):
            return ('left: the time of its move is unknown; give its '
                    'reference')
        return super().why_not(item, parsed_args)

    def act(self, mover: quarantine.Quarantine, item: aside.Item) -> None:
        """Destroy one item."""
        mover.purge(item)


def _reader(opened: Any) -> collect.EvidenceReader:
    return collect.EvidenceReader(opened)


def _age(item: aside.Item) -> float | None:
    if item.at is None:
        return None
    return max(0.0, (timeutils.utcnow(with_timezone=True)
                     - item.at).total_seconds())


def _row(backend: str, item: aside.Item) -> columns.Row:
    record = item.record or aside.Record('')
    return (backend, item.thing, item.name, item.reference, item.owner,
            item.place, item.size_bytes,
            item.at.isoformat() if item.at else None, _age(item),
            record.kind, record.detail, record.origin, item.mine,
            list(item.users), item.hindrance)
