# SPDX-License-Identifier: Apache-2.0
"""python -m sandbox start | stop | demo"""
from __future__ import annotations

import argparse
from collections.abc import Callable
import functools
from pathlib import Path
import signal
import sys
import textwrap
import time

from sandbox import clients
from sandbox import cloud
from sandbox import configuration
from sandbox import errors


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = _parser().parse_args(arguments)
    # On SIGTERM, end the processes that it has started first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code: int = options.command(options)
        return code
    except errors.SandboxError as exc:
        print('sandbox: %s' % exc, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('sandbox: interrupted', file=sys.stderr)
        return 130


def _start(options: argparse.Namespace) -> int:
    began = time.monotonic()

    def progress(line: str) -> None:
        print('[%5.1f s] %s' % (time.monotonic() - began, line), flush=True)

    sandbox = _sandbox(options, options.dir, progress)
    sandbox.start()
    progress('ready: %s' % sandbox.cinder_url)
    print(_how_to_talk(sandbox))
    return 0


def _stop(options: argparse.Namespace) -> int:
    stopped = cloud.stop(options.dir)
    print('stopped: %s' % ', '.join(stopped) if stopped
          else 'nothing was running in %s' % options.dir)
    return 0


def _demo(options: argparse.Namespace) -> int:
    from sandbox import demo
    options.sim_arg = [*demo.SIMULATOR_ARGUMENTS, *options.sim_arg]
    return demo.run(lambda folder, progress:
                    _sandbox(options, folder, progress))


def _sandbox(options: argparse.Namespace, folder: Path,
             progress: object) -> cloud.Sandbox:
    overrides: dict[str, dict[str, str]] = {}
    for text in options.option:
        section, option, value = configuration.parse_override(text)
        overrides.setdefault(section, {})[option] = value
    if options.debug:
        overrides.setdefault('DEFAULT', {})['debug'] = 'true'
    kind: Callable[..., cloud.Sandbox] = cloud.Sandbox
    if options.cloud and options.glance:
        raise errors.SandboxError('--cloud has a Glance of its own; leave '
                                  '--glance out')
    if options.cluster is not None and options.glance:
        raise errors.SandboxError(
            '--glance and --cluster do not go together: services of a '
            'cluster look at images as root; leave one of them out')
    if options.cloud:
        # Its libraries are not needed without.
        from sandbox import full_cloud
        kind = functools.partial(full_cloud.FullCloud,
                                 size=options.cluster or 1)
    elif options.cluster is not None:
        # Its libraries are not needed without.
        from sandbox import cluster
        kind = functools.partial(cluster.Cluster, size=options.cluster)
    return kind(
        folder, runtime=options.runtime, driver=options.driver,
        options={'vmware_lazy_create': options.lazy}, overrides=overrides,
        extra_backends=[configuration.Backend(name, options={
            'vmware_lazy_create': options.lazy})
                        for name in options.backend],
        simulator_arguments=options.sim_arg, with_glance=options.glance,
        progress=progress)


def _how_to_talk(sandbox: cloud.Sandbox) -> str:
    described = sandbox.description()
    if 'clouds_yaml' in described:
        return _HOW_TO_TALK_TO_A_CLOUD % {
            **described, 'description':
            cloud.description_files(sandbox.folder)[-1],
            'log': sandbox.cinder_log, 'python': sys.executable}
    environments = '\n'.join(
        '    %s:\n%s' % (program, textwrap.indent(
            clients.export_lines(variables), '        '))
        for program, variables in sandbox.clients.environments.items())
    return '''
To talk to it:
    . %(folder)s/rc
    openstack volume create --type thin --size 1 first
    openstack volume show first
    cinder get-pools --detail
Volume types: %(types)s
What that sets for each client, should you want it elsewhere:
%(environments)s
%(glance)sLog: %(log)s
For scripts: %(description)s
To stop it: %(python)s -m sandbox stop --dir %(folder)s''' % {
        'folder': sandbox.folder,
        'environments': environments,
        'types': ', '.join(one.name for one in configuration.volume_types(
            sandbox.backends)),
        'glance': ('Glance: %s\n' % sandbox.glance_url
                   if sandbox.with_glance else ''),
        'log': sandbox.cinder_log,
        'description': cloud.description_files(sandbox.folder)[-1],
        'python': sys.executable}


_HOW_TO_TALK_TO_A_CLOUD = '''
In a browser: %(dashboard_url)s
    Users and passwords are in %(clouds_yaml)s (domain: Default).
To talk to it:
    . %(dir)s/rc
    openstack volume create --size 1 first
    openstack server create --flavor tiny --image tiny --nic none one
    openstack server add volume one first
    OS_CLOUD=admin openstack volume service list
Logs: %(log)s
For scripts: %(description)s
To stop it: %(python)s -m sandbox stop --dir %(dir)s'''


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m sandbox',
        description='A local cloud: a real Cinder on a simulated vCenter.')
    commands = parser.add_subparsers(required=True, metavar='COMMAND')

    start = commands.add_parser(
        'start', help='start one and leave it running')
    _add_folder(start)
    _add_what_to_run(start)
    start.add_argument('--cluster', metavar='N', type=int,
                       help='N cinder-volume processes, active at once, on '
                            'RabbitMQ, MariaDB and Redis')
    start.add_argument('--cloud', action='store_true',
                       help='Keystone, Glance, Nova and Horizon beside '
                            'Cinder (see "make cloud")')
    start.set_defaults(command=_start)

    stop = commands.add_parser('stop', help='stop it')
    _add_folder(stop)
    stop.set_defaults(command=_stop)

    demo = commands.add_parser(
        'demo', help='start one of its own, show volumes, check, stop')
    _add_what_to_run(demo)
    demo.add_argument('--cloud', action='store_true',
                      help='by a member of a project, in a whole cloud')
    demo.set_defaults(command=_demo, cluster=None)
    return parser


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--dir', type=Path, default=cloud.DEFAULT_FOLDER,
                        help='its folder (default: build/sandbox)')


def _add_what_to_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--runtime', choices=configuration.RUNTIMES,
                        default='eventlet',
                        help='how Cinder does concurrency')
    parser.add_argument('--driver', metavar='CLASS',
                        default=configuration.PLUGIN_DRIVER,
                        help='the volume driver; %s to compare'
                             % configuration.UPSTREAM_DRIVER)
    parser.add_argument('--backend', metavar='NAME', action='append',
                        default=[],
                        help='one more backend on the same vCenter')
    parser.add_argument('--lazy', action='store_true',
                        help="create a volume's disk at its first attachment")
    parser.add_argument('--option', metavar='SECTION.OPTION=VALUE',
                        action='append', default=[],
                        help='for cinder.conf, e.g. '
                             'vcenter.vmware_snapshot_format=COW')
    parser.add_argument('--glance', action='store_true',
                        help='a Glance for images (see "make glance")')
    parser.add_argument('--debug', action='store_true',
                        help='let Cinder log at level DEBUG')
    parser.add_argument('--sim-arg', metavar='FLAG', action='append',
                        default=[],
                        help='for vcenter-sim, e.g. --sim-arg=-ds=8')


if __name__ == '__main__':
    sys.exit(main())
