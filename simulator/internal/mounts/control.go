// SPDX-License-Identifier: Apache-2.0

package mounts

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
	"vcenter-sim/internal/reply"
)

var modes = []string{string(types.HostMountModeReadOnly), string(types.HostMountModeReadWrite)}

var states = []types.HostSystemConnectionState{
	types.HostSystemConnectionStateConnected, types.HostSystemConnectionStateDisconnected,
	types.HostSystemConnectionStateNotResponding,
}

// control serves what no client of a vCenter can do: have a path fail, have a host stop to answer.
//
//	POST /mounts {"datastore": NAME, "host": NAME, "accessible": false, "mounted": true, "accessMode": "readOnly",
//	              "inaccessibleReason": "AllPathsDown_Start"}   all but datastore are optional; without a host, all mounts
//	POST /hosts  {"host": NAME, "connectionState": "notResponding"}
func control(s *core.Sim) {
	s.Control.HandleFunc("POST /mounts", func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Datastore, Host string
			Change
		}
		if reply.Read(w, r, &request) {
			reply.Result(w, nil, changeMount(s.Context(), request.Datastore, request.Host, request.Change))
		}
	})
	s.Control.HandleFunc("POST /hosts", func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Host            string
			ConnectionState types.HostSystemConnectionState
		}
		if reply.Read(w, r, &request) {
			reply.Result(w, nil, changeHost(s.Context(), request.Host, request.ConnectionState))
		}
	})
}

func changeMount(ctx *simulator.Context, datastoreName, hostName string, change Change) error {
	datastore := places.Datastore(ctx, nil, datastoreName)
	if datastore == nil {
		return fmt.Errorf("there is no datastore %q", datastoreName)
	}
	var host *simulator.HostSystem
	if hostName != "" {
		if host = places.Host(ctx, hostName); host == nil {
			return fmt.Errorf("there is no host %q", hostName)
		}
	}
	if change.AccessMode != nil && !slices.Contains(modes, *change.AccessMode) {
		return fmt.Errorf("accessMode %q: give one of %q", *change.AccessMode, modes)
	}
	if !Apply(ctx, datastore, host, change) {
		return fmt.Errorf("host %q does not mount datastore %q", hostName, datastoreName)
	}
	return nil
}

func changeHost(ctx *simulator.Context, name string, state types.HostSystemConnectionState) error {
	host := places.Host(ctx, name)
	if host == nil {
		return fmt.Errorf("there is no host %q", name)
	}
	if !slices.Contains(states, state) {
		return fmt.Errorf("connectionState %q: give one of %q", state, states)
	}
	setConnection(ctx, host, state)
	return nil
}
