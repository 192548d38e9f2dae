# SPDX-License-Identifier: Apache-2.0
"""Readers of image formats: VMDK, OVA, and names of other formats.

A tenant controls the bytes. So these modules only compute, read the bytes
once from beginning to end, and hold a bounded number of them in memory.
"""
