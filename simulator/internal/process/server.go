// SPDX-License-Identifier: Apache-2.0

package process

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"

	_ "github.com/vmware/govmomi/vapi/simulator" // REST: tags
	_ "github.com/vmware/govmomi/vslm/simulator" // first class disks

	"vcenter-sim/internal/core"
)

// Server is the sockets of a simulated vCenter.
type Server struct {
	options     *Options
	certificate tls.Certificate
	control     net.Listener
	url         *url.URL
	close       func()
}

// Prepare takes the control socket and reads or makes the certificate, before anything expensive is done and while relative
// file names still mean what the caller meant.
func (o *Options) Prepare() (*Server, error) {
	s := &Server{options: o, close: func() {}}
	var err error
	if s.certificate, err = o.certificate(); err != nil {
		return nil, err
	}
	if probe, err := net.Listen("tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("-l: %w", err)
	} else {
		_ = probe.Close() // the library listens by itself, and panics if it cannot
	}
	if o.CACertOut != "" {
		if err := writeCertificate(o.CACertOut, s.certificate); err != nil {
			return nil, err
		}
	}
	if o.Control != "" {
		if s.control, err = net.Listen("tcp", o.Control); err != nil {
			return nil, fmt.Errorf("-control: %w", err)
		}
	}
	return s, nil
}

// Register tells the library where and for whom it serves, and makes its endpoints.
func (s *Server) Register(sim *core.Sim) {
	service := sim.Model.Service
	service.Listen = &url.URL{Host: s.options.Listen, User: url.UserPassword(s.options.User, s.options.Password)}
	service.TLS = &tls.Config{
		Certificates: []tls.Certificate{s.certificate}, MinVersion: tls.VersionTLS12,
		// The library listens before it is told, in Serve, who answers.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			<-sim.Serving()
			return nil, nil
		},
	}
	service.RegisterEndpoints = true
	service.RegisterSDK(sim.Map(), sim.Map().Path+"/vimService")
}

// Serve starts to serve.
func (s *Server) Serve(sim *core.Sim) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%v", cause) // the library's way to say that it cannot listen
		}
	}()
	server := sim.Model.Service.NewServer()
	server.Config.Handler = sim.Handler()
	s.url = server.URL
	sim.Serve()
	s.close = func() {
		_ = server.Listener.Close()
		server.CloseClientConnections()
	}
	if s.control != nil {
		go func() { _ = http.Serve(s.control, sim.Control) }()
	}
	return nil
}

// Announcement is the line that says where the server is, in the form in which vcsim says it.
func (s *Server) Announcement() string {
	pid := os.Getpid()
	if s.options.PID != 0 {
		pid = s.options.PID
	}
	line := fmt.Sprintf("export GOVC_URL=%s GOVC_SIM_PID=%d", s.url, pid)
	if s.control != nil {
		line += fmt.Sprintf(" VCENTER_SIM_CONTROL=http://%s", s.control.Addr())
	}
	return line
}

// Close ends all connections.
func (s *Server) Close() {
	s.close()
	if s.control != nil {
		_ = s.control.Close()
	}
}
