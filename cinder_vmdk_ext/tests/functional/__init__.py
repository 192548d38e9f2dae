# SPDX-License-Identifier: Apache-2.0
"""Tests of the plugin with the simulated vCenter, over SOAP."""
