# SPDX-License-Identifier: Apache-2.0
"""One module at a time; no vCenter, no network."""
