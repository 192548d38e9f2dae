# SPDX-License-Identifier: Apache-2.0
"""Reports pools to the scheduler, and places disks on datastores."""
