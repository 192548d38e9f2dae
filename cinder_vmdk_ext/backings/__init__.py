# SPDX-License-Identifier: Apache-2.0
"""The shadow VMs that hold the disks of volumes."""
