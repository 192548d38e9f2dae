# SPDX-License-Identifier: Apache-2.0
"""What datastores, hosts and clusters a vCenter has."""
