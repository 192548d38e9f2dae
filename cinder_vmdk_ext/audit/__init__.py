# SPDX-License-Identifier: Apache-2.0
"""Compares Cinder's records, the vCenter's VMs and the datastores' files."""
