# SPDX-License-Identifier: Apache-2.0
"""The plugin against the simulated vCenter, over SOAP."""
