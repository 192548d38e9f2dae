# SPDX-License-Identifier: Apache-2.0
"""The Python side of the simulated vCenter: client, control, conformance."""
