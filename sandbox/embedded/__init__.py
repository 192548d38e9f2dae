# SPDX-License-Identifier: Apache-2.0
"""Parts of Cinder in the caller's own process: database, configuration."""
