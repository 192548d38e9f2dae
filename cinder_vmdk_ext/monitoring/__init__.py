# SPDX-License-Identifier: Apache-2.0
"""Tells how a backend is: figures, as text for Prometheus and over HTTP."""
