# SPDX-License-Identifier: Apache-2.0
"""What the driver costs, measured beside upstream's in the same run."""
