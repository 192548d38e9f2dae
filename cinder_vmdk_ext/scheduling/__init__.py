# SPDX-License-Identifier: Apache-2.0
"""Pools for the scheduler, and the placement of disks on datastores."""
