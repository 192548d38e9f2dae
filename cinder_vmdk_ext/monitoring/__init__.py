# SPDX-License-Identifier: Apache-2.0
"""Reports the state of a backend, as text for Prometheus and over HTTP."""
