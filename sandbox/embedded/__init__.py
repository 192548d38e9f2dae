# SPDX-License-Identifier: Apache-2.0
"""Runs parts of Cinder in the caller's process: database, configuration."""
