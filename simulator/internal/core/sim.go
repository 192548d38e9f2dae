// SPDX-License-Identifier: Apache-2.0

// Package core is the frame that the features of the simulated vCenter stand in.
//
// govmomi's simulator answers every SOAP call by a method of the object that is called. Core puts itself in front of that
// (Registry.Handler redirects each call to one object of ours), so that a feature, in a package of its own, can
//
//   - answer a method itself, or change what the library's method does, before and after it: Override;
//   - see every call, of whatever method: Sim.Around;
//   - start a task that runs supervised and fails as a vCenter's does, inside TaskInfo.error: StartTask;
//   - serve HTTP beside the SOAP endpoint (Sim.Front), or between the socket and everything else (Sim.WrapHTTP);
//   - offer tests a control over HTTP on loopback: Sim.Control.
//
// Nothing of the library is patched.
package core

import (
	"flag"
	"net/http"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/types"
)

// Feature is one part of the simulated vCenter's behaviour. main.go lists the features in the order in which they start.
type Feature struct {
	// Name appears in messages about the feature.
	Name string
	// Flags declares command line flags of the feature's own. Optional.
	Flags func(*flag.FlagSet)
	// Rules are those in which the feature is as strict as a vCenter unless -lenient names them. Optional.
	Rules []Rule
	// Start registers what the feature does. The inventory exists by then, and no client is connected yet.
	Start func(*Sim) error
}

// Sim is one simulated vCenter.
type Sim struct {
	// Model is the library's inventory; Model.Map() finds every object of it.
	Model *simulator.Model
	// Settings are the flags that concern more than one feature.
	Settings Settings
	// NoSessionFault is the fault that callers without a session get, one of NoSessionFaults; "" is the first.
	NoSessionFault string
	// Front is asked before the library's own HTTP endpoints. A pattern here replaces the library's.
	Front *http.ServeMux
	// Control serves tests, on a loopback port of its own, if -control is given.
	Control *http.ServeMux

	dispatcher *dispatcher
	inner      *innerTasks
	arounds    []Around
	overrides  map[string][]override
	wrappers   []func(http.Handler) http.Handler
	stops      []func()
	begins     []func()
	kept       map[string]Keep
	serving    chan struct{}

	sessionsLock sync.Mutex
	sessions     map[string]string // session key -> user name
}

// Settings are the flags that concern more than one feature.
type Settings struct {
	APIVersion string
	User       string
	Password   string
	// Lenient are the rules that -lenient named; Sim.Lenient asks for one.
	Lenient []string
	// Restored tells that the inventory was loaded, with all that is in it: flags that add to it, and defaults, do not apply.
	Restored bool
	// DataDir holds everything that the simulator keeps on disk. It is removed at the end.
	DataDir string
}

// New makes the frame around a model that has been created.
func New(model *simulator.Model, settings Settings) *Sim {
	s := &Sim{
		Model:     model,
		Settings:  settings,
		Front:     http.NewServeMux(),
		Control:   http.NewServeMux(),
		overrides: make(map[string][]override),
		sessions:  make(map[string]string),
		serving:   make(chan struct{}),
	}
	s.dispatcher = &dispatcher{sim: s}
	s.dispatcher.Self = types.ManagedObjectReference{Type: "Dispatcher", Value: "dispatcher"}
	s.Attach(model.Map())
	s.inner = newInnerTasks(model.Map())
	listenForBirths(model.Map())
	s.trackSessions()
	return s
}

// Attach lets the calls to a registry (the vSphere API's, the storage policy API's) pass through the frame.
func (s *Sim) Attach(registry *simulator.Registry) {
	registry.Put(s.dispatcher)
	registry.Handler = s.dispatcher.redirect
}

// Map is the vSphere API's registry of managed objects.
func (s *Sim) Map() *simulator.Registry { return s.Model.Map() }

// Context is a new context for work that no client asked for. Each has locks of its own.
func (s *Sim) Context() *simulator.Context { return NewContext(s.Model.Service.Context) }

// NewContext copies a context, so that the copy holds no locks of the original: the library's locks belong to contexts.
func NewContext(ctx *simulator.Context) *simulator.Context {
	own := *ctx
	if own.Map.Path != vim25.Path { // tasks and entities live in the vSphere API's registry
		own.Map = ctx.For(vim25.Path).Map
	}
	return &own
}

// WrapHTTP puts a handler between the socket and everything that is served there. The last one given is the outermost.
func (s *Sim) WrapHTTP(wrap func(http.Handler) http.Handler) { s.wrappers = append(s.wrappers, wrap) }

// Handler is all that the simulated vCenter serves: the wrappers, then Front, then the library.
func (s *Sim) Handler() http.Handler {
	if _, pattern := s.Front.Handler(&http.Request{Method: http.MethodGet, URL: rootURL}); pattern == "" {
		s.Front.Handle("/", s.Model.Service.ServeMux)
	}
	h := envoy(s.Front)
	for _, wrap := range s.wrappers {
		h = wrap(h)
	}
	return h
}

// Serving is closed when the vCenter serves. What a feature does by itself, in goroutines, waits for it: until then the library
// changes its registry without a lock.
func (s *Sim) Serving() <-chan struct{} { return s.serving }

// OnServe has f called when all is there and no client is answered yet: the library makes some of its handlers at last.
func (s *Sim) OnServe(f func()) { s.begins = append(s.begins, f) }

// Serve says that the vCenter serves.
func (s *Sim) Serve() {
	for _, f := range s.begins {
		f()
	}
	close(s.serving)
}

// OnStop has f called when the simulator ends.
func (s *Sim) OnStop(f func()) { s.stops = append(s.stops, f) }

// Stop runs what OnStop was given, the last first.
func (s *Sim) Stop() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i]()
	}
	s.stops = nil
}
