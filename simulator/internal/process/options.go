// SPDX-License-Identifier: Apache-2.0

// Package process is what a simulated vCenter is to the machine: sockets, certificate, files, its one line of output.
package process

import (
	"fmt"
	"net"
)

// Options say how to be reached.
type Options struct {
	Listen   string // HOST:PORT
	Control  string // HOST:PORT, or "" for none
	User     string
	Password string
	// CertFile and KeyFile are PEM files; without them a certificate is made.
	CertFile, KeyFile string
	// PID is the process to signal, if it is not this one.
	PID int
	// CACertOut is a file to write the certificate to with which TLS verifies.
	CACertOut string
}

// Check finds what cannot work.
func (o *Options) Check() error {
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return fmt.Errorf("invalid value %q for flag -l: give HOST:PORT, as 127.0.0.1:8989", o.Listen)
	}
	if o.Control != "" {
		host, _, err := net.SplitHostPort(o.Control)
		if err != nil {
			return fmt.Errorf("invalid value %q for flag -control: give HOST:PORT, as 127.0.0.1:0", o.Control)
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("invalid value %q for flag -control: it obeys anyone, so it listens on loopback only, as 127.0.0.1:0",
				o.Control)
		}
	}
	if o.User == "" || o.Password == "" {
		return fmt.Errorf("-username and -password must not be empty")
	}
	if (o.CertFile == "") != (o.KeyFile == "") {
		return fmt.Errorf("-tlscert and -tlskey go together: give both or none")
	}
	return nil
}
