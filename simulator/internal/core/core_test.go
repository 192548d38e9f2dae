// SPDX-License-Identifier: Apache-2.0

package core

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// start serves the library's default inventory through a frame.
func start(t *testing.T, register func(*Sim)) (*Sim, *govmomi.Client) {
	t.Helper()
	model := simulator.VPX()
	if err := model.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Remove)
	s := New(model, Settings{})
	if register != nil {
		register(s)
	}
	server := model.Service.NewServer()
	server.Config.Handler = s.Handler()
	t.Cleanup(server.Close)
	client, err := govmomi.NewClient(context.Background(), server.URL, true)
	if err != nil {
		t.Fatal(err)
	}
	return s, client
}

func machine(t *testing.T, client *govmomi.Client) *object.VirtualMachine {
	t.Helper()
	vm, err := find.NewFinder(client.Client).VirtualMachine(context.Background(), "DC0_H0_VM0")
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func TestOverridesWrapEachOtherAndTheLibrary(t *testing.T) {
	var order []string
	note := func(words string) func(*simulator.Context, *types.AcquireTicket, Next) soap.HasFault {
		return func(_ *simulator.Context, _ *types.AcquireTicket, next Next) soap.HasFault {
			order = append(order, words)
			return next()
		}
	}
	_, client := start(t, func(s *Sim) {
		Override(s, note("first"))
		Override(s, note("second"))
		for _, words := range []string{"inner", "outer"} {
			s.Around(func(_ *simulator.Context, call *Call, next Next) soap.HasFault {
				if call.Name == "AcquireTicket" {
					order = append(order, words)
				}
				return next()
			})
		}
	})
	_, err := methods.AcquireTicket(context.Background(), client, &types.AcquireTicket{This: machine(t, client).Reference()})
	if got := strings.Join(order, " "); got != "outer inner second first" {
		t.Errorf("the order is %q", got)
	}
	if !soap.IsSoapFault(err) {
		t.Errorf("the library does not know that method, and answered %v", err)
	} else if _, ok := soap.ToSoapFault(err).VimFault().(types.MethodNotFound); !ok {
		t.Errorf("%T", soap.ToSoapFault(err).VimFault())
	}
}

func TestWithoutASessionNothingIsAnswered(t *testing.T) {
	asked := false
	_, client := start(t, func(s *Sim) {
		Override(s, func(_ *simulator.Context, _ *types.CurrentTime, next Next) soap.HasFault {
			asked = true
			return next()
		})
	})
	if err := client.Logout(context.Background()); err != nil {
		t.Fatal(err)
	}
	_, err := methods.GetCurrentTime(context.Background(), client)
	if err == nil || asked {
		t.Errorf("asked: %v, %v", asked, err)
	}
}

func TestAPanicIsAFaultAndTheObjectIsFreeAgain(t *testing.T) {
	_, client := start(t, func(s *Sim) {
		Override(s, func(*simulator.Context, *types.CurrentTime, Next) soap.HasFault { panic("oh") })
	})
	for range 2 {
		_, err := methods.GetCurrentTime(context.Background(), client)
		if !soap.IsSoapFault(err) || !strings.Contains(err.Error(), "oh") {
			t.Fatal(err)
		}
	}
}

func TestTasksFailInsideTheirError(t *testing.T) {
	_, client := start(t, func(s *Sim) {
		Override(s, func(ctx *simulator.Context, req *types.ResetVM_Task, _ Next) soap.HasFault {
			return &methods.ResetVM_TaskBody{Res: &types.ResetVM_TaskResponse{Returnval: StartTask(ctx, req.This, "ResetVM_Task",
				func(*simulator.Context) (types.AnyType, types.BaseMethodFault) {
					return nil, &types.NoDiskSpace{Datastore: "full", FileFault: types.FileFault{File: "[full] x"}}
				})}}
		})
		Override(s, func(ctx *simulator.Context, req *types.SuspendVM_Task, _ Next) soap.HasFault {
			return &methods.SuspendVM_TaskBody{Res: &types.SuspendVM_TaskResponse{Returnval: StartTask(ctx, req.This, "SuspendVM_Task",
				func(*simulator.Context) (types.AnyType, types.BaseMethodFault) { panic("oh") })}}
		})
	})
	vm := machine(t, client)
	reset, err := vm.Reset(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	failed, ok := reset.Wait(context.Background()).(task.Error)
	if !ok {
		t.Fatal("the task did not fail")
	}
	if _, ok := failed.Fault().(*types.NoDiskSpace); !ok || !strings.Contains(failed.LocalizedMessage, "'full'") {
		t.Errorf("%T %q", failed.Fault(), failed.LocalizedMessage)
	}
	suspend, err := vm.Suspend(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := suspend.Wait(context.Background()); err == nil || !strings.Contains(err.Error(), "oh") {
		t.Error(err)
	}
}

func TestSessionsAreKnown(t *testing.T) {
	s, client := start(t, nil)
	keys := s.Sessions()
	if len(keys) != 1 || !s.LoggedIn(keys[0]) || s.LoggedIn("another") {
		t.Errorf("sessions: %d", len(keys))
	}
	if err := client.Logout(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s.LoggedIn(keys[0]) || len(s.Sessions()) != 0 {
		t.Error("a session outlives its logout")
	}
}

func TestWhatIsExpectedIsLockedUntilItIsReady(t *testing.T) {
	s, _ := start(t, nil)
	ctx := s.Context()
	ready := Expect(ctx, func(obj mo.Reference) bool {
		folder, ok := obj.(*simulator.Folder)
		return ok && folder.Name == "expected"
	})
	folder := &simulator.Folder{}
	folder.Name = "expected"
	s.Map().Put(folder)
	seen := make(chan string, 1)
	go s.Context().WithLock(folder, func() { seen <- folder.Name })
	select {
	case <-seen:
		t.Fatal("another one has locked it")
	case <-time.After(50 * time.Millisecond):
	}
	folder.Name = "filled in"
	ready()
	if name := <-seen; name != "filled in" {
		t.Errorf("it was seen as %q", name)
	}
}
