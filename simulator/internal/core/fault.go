// SPDX-License-Identifier: Apache-2.0

package core

import (
	"fmt"
	"reflect"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type faultBody struct {
	Reason *soap.Fault `xml:"http://schemas.xmlsoap.org/soap/envelope/ Fault,omitempty"`
}

func (b *faultBody) Fault() *soap.Fault { return b.Reason }

// Fault answers a call with a SOAP fault.
func Fault(fault types.BaseMethodFault) soap.HasFault { return FaultMessage(Message(fault), fault) }

// worded is a fault with a message of its own.
type worded struct {
	types.BaseMethodFault
	words string
}

// Worded gives a fault a message of its own, for a task's result.
func Worded(fault types.BaseMethodFault, message string) types.BaseMethodFault {
	return &worded{BaseMethodFault: fault, words: message}
}

func plain(fault types.BaseMethodFault) types.BaseMethodFault {
	if w, ok := fault.(*worded); ok {
		return w.BaseMethodFault
	}
	return fault
}

// FaultMessage answers a call with a SOAP fault and a message of its own.
func FaultMessage(message string, fault types.BaseMethodFault) soap.HasFault {
	return &faultBody{Reason: simulator.Fault(message, fault)}
}

// Message is what a vCenter would say in words about a fault.
func Message(fault types.BaseMethodFault) string {
	switch f := fault.(type) {
	case *worded:
		return f.words
	case *types.NoDiskSpace:
		return fmt.Sprintf("There is not enough space on datastore '%s' for '%s'.", f.Datastore, f.File)
	case *types.FileNotFound:
		return fmt.Sprintf("File %s was not found", f.File)
	case *types.FileAlreadyExists:
		return fmt.Sprintf("Cannot complete the operation because the file or folder %s already exists", f.File)
	case *types.FileLocked:
		return fmt.Sprintf("Unable to access file %s since it is locked", f.File)
	case *types.CannotAccessFile:
		return fmt.Sprintf("Unable to access file %s", f.File)
	case *types.InvalidDatastorePath:
		return fmt.Sprintf("Invalid datastore path '%s'.", f.DatastorePath)
	case *types.DuplicateName:
		return fmt.Sprintf("The name '%s' already exists.", f.Name)
	case *types.InvalidArgument:
		return fmt.Sprintf("A specified parameter was not correct: %s", f.InvalidProperty)
	case *types.ManagedObjectNotFound:
		return fmt.Sprintf("The object '%s' has already been deleted or has not been completely created", f.Obj)
	case *types.ResourceInUse:
		return fmt.Sprintf("The resource '%s' is in use.", f.Name)
	case *types.SystemError:
		return "A general system error occurred: " + f.Reason
	case *types.InvalidDatastore:
		return fmt.Sprintf("Invalid datastore '%s'.", f.Name)
	case *types.InaccessibleDatastore:
		return fmt.Sprintf("Unable to access the datastore '%s'.", f.Name)
	case *types.DatastoreNotWritableOnHost:
		return fmt.Sprintf("Unable to write to the datastore '%s' on host '%s'.", f.Name, f.Host.Value)
	case *types.InvalidDatastoreState:
		return fmt.Sprintf("The operation is not allowed in the current state of the datastore '%s'.", f.DatastoreName)
	case *types.InvalidState:
		return "The operation is not allowed in the current state."
	case *types.InvalidName:
		return fmt.Sprintf("The name '%s' is not valid.", f.Name)
	case *types.AlreadyExists:
		return fmt.Sprintf("The specified key, name, or identifier '%s' already exists.", f.Name)
	case *types.Timedout:
		return "Operation timed out."
	case *types.InvalidPowerState:
		return fmt.Sprintf("The attempted operation cannot be performed in the current state (%s).", f.ExistingState)
	case *types.NoPermission:
		return "Permission to perform this operation was denied."
	case *types.NotFound:
		return "The object or item referred to could not be found."
	case *types.RequestCanceled:
		return "The task was canceled by a user."
	}
	return "Fault: " + reflect.TypeOf(fault).Elem().Name()
}
