# SPDX-License-Identifier: Apache-2.0
"""The services beside Cinder in a sandbox that is a whole cloud."""
