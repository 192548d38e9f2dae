# SPDX-License-Identifier: Apache-2.0
"""Runs many operations on a cluster while its services are killed."""
