# SPDX-License-Identifier: Apache-2.0
"""Tests on a whole cloud; `sandbox.tests.full_cloud_run` starts it."""
