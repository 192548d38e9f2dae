# SPDX-License-Identifier: Apache-2.0
"""Readers and writers of image formats: VMDK, OVA, qcow2; names of others.

A tenant controls the bytes. So these modules only compute, and hold a bounded
number of bytes in memory. They read once, from beginning to end; qcow2 alone
needs a file that can be read in any order.
"""
