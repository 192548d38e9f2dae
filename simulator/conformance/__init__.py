# SPDX-License-Identifier: Apache-2.0
"""The simulated vCenter behaves as vSphere documents it: by pyVmomi and oslo.vmware, not by the plugin."""
