# SPDX-License-Identifier: Apache-2.0
"""Many operations on a cluster whose services are killed meanwhile."""
