// SPDX-License-Identifier: Apache-2.0

// Package vimservice carries the WSDL of the vSphere API, as generate.py makes it from pyVmomi's type tables.
package vimservice

import _ "embed"

// Packed is vimService.wsdl, gzipped.
//
//go:embed vimService.wsdl.gz
var Packed []byte
