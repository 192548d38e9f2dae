# SPDX-License-Identifier: Apache-2.0
"""Tests of the sandbox, and of the plugin in a real Cinder."""
