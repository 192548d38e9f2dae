# SPDX-License-Identifier: Apache-2.0
"""Tests of Cinder's code that the plugin uses, and of its own rules."""
