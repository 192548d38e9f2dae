# SPDX-License-Identifier: Apache-2.0
"""A Cinder volume driver for VMware vCenter with one scheduler pool per
datastore.
"""
