# SPDX-License-Identifier: Apache-2.0
"""What images are made of: VMDKs, OVAs, and what is neither.

Their bytes come from a tenant. All here is pure, reads from front to back,
and keeps a bounded part in memory, whatever the bytes say.
"""
