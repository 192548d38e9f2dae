# SPDX-License-Identifier: Apache-2.0
"""The datastores, hosts and clusters of a vCenter."""
