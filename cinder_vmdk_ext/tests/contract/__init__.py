# SPDX-License-Identifier: Apache-2.0
"""What the plugin relies on in Cinder, and the rules of its own code."""
