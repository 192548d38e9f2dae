# SPDX-License-Identifier: Apache-2.0
"""Measures the cost of this driver and of upstream's in the same run."""
