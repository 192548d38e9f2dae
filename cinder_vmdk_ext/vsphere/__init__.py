# SPDX-License-Identifier: Apache-2.0
"""How the plugin speaks to a vCenter; independent of Cinder."""
