# SPDX-License-Identifier: Apache-2.0
"""Cinder's records, the vCenter's VMs and the datastores' files compared."""
