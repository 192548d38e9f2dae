# SPDX-License-Identifier: Apache-2.0
"""The world beside a volume driver, by pyVmomi only: Nova, Storage DRS, a backup product, a second OpenStack and strangers.

Each actor does with a vCenter what the real one does, in its order, and knows nothing of a driver but the connection
information that Cinder gives to Nova: the volume's id, which is the instanceUuid of the volume's shadow VM.
"""
