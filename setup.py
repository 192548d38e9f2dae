# SPDX-License-Identifier: Apache-2.0
"""Everything but the version of a tree without Git is in setup.cfg."""

import os
import subprocess

import setuptools

# What a tree without usable Git metadata (an archive, a clone that belongs to
# another user) calls itself. pbr refuses to build such a tree unless it is
# given a version.
VERSION_WITHOUT_GIT = '0.1.0'


def _pbr_knows_the_version() -> bool:
    if os.path.exists('PKG-INFO'):
        return True
    try:
        top = subprocess.run(
            ['git', 'rev-parse', '--show-toplevel'],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    # An archive unpacked inside somebody else's repository must not take its
    # version from there.
    return os.path.realpath(top.strip()) == os.path.realpath(os.getcwd())


if not _pbr_knows_the_version():
    os.environ.setdefault('PBR_VERSION', VERSION_WITHOUT_GIT)


class WithoutTests(setuptools.Distribution):
    """What is installed: the package without its tests.

    pbr takes every package below ours, and every file that Git knows of.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        self.packages = [name for name in self.packages or ()
                         if 'tests' not in name.split('.')]
        # Of a tree without Git, too.
        self.package_data = {'': ['*.txt']}
        self.exclude_package_data = {'': ['tests/*']}


setuptools.setup(distclass=WithoutTests, setup_requires=['pbr>=6.1.1'],
                 pbr=True)
