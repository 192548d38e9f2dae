# SPDX-License-Identifier: Apache-2.0
"""Login, questions and results of the commands under ``vc``."""

import argparse
import contextlib
import os
from collections.abc import Iterator
from typing import Any

from cinder_vmdk_ext.cmd import columns
from cinder_vmdk_ext.cmd import command
from cinder_vmdk_ext import exceptions
from cinder_vmdk_ext.vsphere import storage_api
from cinder_vmdk_ext.vsphere import vcenter

#: Environment variables of the login; without them the command asks.
USER_VARIABLE = 'VCENTER_USERNAME'
PASSWORD_VARIABLE = 'VCENTER_PASSWORD'


class OfVcenter(command.OfBackends):
    """A command on a vCenter's storage, with a separate login."""

    @contextlib.contextmanager
    def api(self, parsed_args: argparse.Namespace
            ) -> Iterator[storage_api.StorageApi]:
        """Connect to the backends' vCenter; log out after the block."""
        options = self._connection(parsed_args)
        user, password = self._login(options)
        with storage_api.connect(
                options.vmware_host_ip, user, password,
                port=options.vmware_host_port,
                ca_file=options.vmware_ca_file,
                insecure=options.vmware_insecure,
                owner_of=self.app.backends.owner_of,
                owner_of_uuid=self.app.backends.owner_of_uuid,
                observe=self._show) as api, self.calling(
                    exceptions.UnknownObject):
            yield api

    def _connection(self, parsed_args: argparse.Namespace) -> Any:
        found = [self.app.backends.connection(name)
                 for name in self.names(parsed_args)]
        hosts = {(each.vmware_host_ip, each.vmware_host_port)
                 for each in found}
        if len(hosts) > 1:
            with self.calling(ValueError):
                raise ValueError(
                    'the backends use several vCenters; name one backend with '
                    '--backend')
        return found[0]

    def _login(self, options: Any) -> tuple[str, str]:
        user = os.environ.get(USER_VARIABLE) or self.app.ask(
            f'User of the vCenter {options.vmware_host_ip}: ')
        with self.calling(ValueError):
            if not user:
                raise ValueError(f'no user was given; set {USER_VARIABLE} '
                                 'or answer the question')
            if user.lower() == (options.vmware_host_username or '').lower():
                raise ValueError(
                    f'{user!r} is the account of cinder-volume, which these '
                    'commands do not use; log in as another user')
        password = os.environ.get(PASSWORD_VARIABLE) or self.app.ask(
            f'Password of {user}: ', secret=True)
        with self.calling(ValueError):
            if not password:
                raise ValueError('no password was given; set '
                                 f'{PASSWORD_VARIABLE} or answer the '
                                 'question')
        return user, password

    def _show(self, progress: vcenter.Progress) -> None:
        if self.app.stderr.isatty():
            name = progress.what.rpartition('.')[2]
            self.app.stderr.write(f'\r{name}: {progress.percent} % \r')
            self.app.stderr.flush()


class VcListing(OfVcenter, command.Listing):
    """A command that lists objects of a vCenter."""


class VcShowing(OfVcenter, command.Showing):
    """A command that shows one object of a vCenter."""


class VcChanging(VcListing):
    """A command that changes an object; its rows show the result."""

    COLUMNS = (
        columns.Column('name', 'Name'),
        columns.Column('reference', 'Reference'),
        columns.Column('done', 'Done'))
    #: The word for the change, as 'deleted'.
    DONE = ''

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """The options."""
        parser = super().get_parser(prog_name)
        command.add_confirmation(parser, 'make all checks; change nothing')
        return parser

    def act(self, api: storage_api.StorageApi,
            parsed_args: argparse.Namespace) -> list[tuple[str, str]]:
        """Change the object; in a dry run only make the checks.

        :returns: name and reference of each object that is changed
        """
        raise NotImplementedError

    def subject(self, things: list[tuple[str, str]],
                parsed_args: argparse.Namespace) -> str:
        """What the question names as the object of the change."""
        return columns.listed([name for name, _ref in things])

    def detail(self, api: storage_api.StorageApi,
               things: list[tuple[str, str]],
               parsed_args: argparse.Namespace) -> str:
        """How the question's sentence ends: into what it is changed."""
        return ''

    def _question(self, api: storage_api.StorageApi,
                  things: list[tuple[str, str]],
                  parsed_args: argparse.Namespace) -> str:
        return (f'{self.subject(things, parsed_args)} on {api.host} will be '
                f'{self.DONE}{self.detail(api, things, parsed_args)}. '
                'Continue?')

    def rows(self, parsed_args: argparse.Namespace) -> list[columns.Row]:
        """Check, ask, act."""
        with self.api(parsed_args) as api:
            with api.dry_run():
                things = self.act(api, parsed_args)
            if parsed_args.dry_run:
                done = f'would be {self.DONE}'
            elif not things:
                done = ''
            elif parsed_args.yes or self.agreed(
                    parsed_args, self._question(api, things, parsed_args)):
                things = self.act(api, parsed_args)
                done = self.DONE
            else:
                done = 'left'
            return [(*thing, done) for thing in things]
