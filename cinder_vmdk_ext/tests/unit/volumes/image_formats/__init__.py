# SPDX-License-Identifier: Apache-2.0
"""Tests of the modules in volumes/image_formats/."""
