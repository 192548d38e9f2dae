# SPDX-License-Identifier: Apache-2.0
"""The operations on volumes, snapshots and groups."""
