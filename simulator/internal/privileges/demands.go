// SPDX-License-Identifier: Apache-2.0

package privileges

import (
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/places"
)

// demand is a privilege that is needed on an object.
type demand struct {
	object    ref
	privilege string
}

// demands collects what a call needs.
type demands struct {
	judge *judge
	ctx   *simulator.Context
	call  *core.Call
	list  []demand
}

func (d *demands) add(object ref, privilege string) {
	if privilege == "" || privilege == anonymous {
		return
	}
	need := demand{d.judge.subject(d.ctx, object), privilege}
	if !slices.Contains(d.list, need) {
		d.list = append(d.list, need)
	}
}

func (d *demands) on(object *ref, privilege string) {
	if object != nil {
		d.add(*object, privilege)
	}
}

// demandsOf lists what a call needs. It is not known for methods that neither the reference nor this package says anything
// about.
func (j *judge) demandsOf(ctx *simulator.Context, call *core.Call) (list []demand, known bool) {
	d := &demands{judge: j, ctx: ctx, call: call}
	named := d.named()
	return d.list, d.dynamic() || named || free[call.Name]
}

// free are methods that need nothing beyond the session that made their object, or that is asked about.
var free = map[string]bool{
	"Fetch": true, // see filter.go
	"Login": true, "Logout": true, "RetrieveServiceContent": true, "PbmRetrieveServiceContent": true,
	"DestroyPropertyFilter": true, "ResetListViewFromView": true,
	"HttpNfcLeaseGetManifest": true, "HttpNfcLeaseSetManifestChecksumType": true, "HttpNfcLeaseComplete": true,
	"HttpNfcLeaseAbort": true, "HttpNfcLeaseProgress": true, "HttpNfcLeaseProbeUrls": true,
	"SetCollectorPageSize": true, "RewindCollector": true, "ResetCollector": true, "DestroyCollector": true,
	"ReadNextTasks": true, "ReadPreviousTasks": true, "ReadNextEvents": true, "ReadPreviousEvents": true,
	"RetrieveUserGroups": true,
}

// named adds the privileges that the reference names, on the object that is called and on those in parameters.
func (d *demands) named() (known bool) {
	rule, found := reference.method(d.call.This.Type, d.call.Name)
	if !found {
		return false
	}
	d.add(d.call.This, rule.self)
	body := reflect.ValueOf(d.call.Body).Elem()
	for _, p := range rule.parameters {
		for _, object := range objects(body.FieldByName(p.field)) {
			if d.ctx.Map.Get(object) != nil { // one that is gone is the method's to tell
				d.add(object, p.privilege)
			}
		}
	}
	return rule.self != "" || len(rule.parameters) > 0
}

func objects(field reflect.Value) []ref {
	if !field.IsValid() {
		return nil
	}
	switch value := field.Interface().(type) {
	case ref:
		return []ref{value}
	case *ref:
		if value != nil {
			return []ref{*value}
		}
	case []ref:
		return value
	}
	return nil
}

// byType is a privilege that depends on the type of the entity.
type byType map[string]string

// of finds the privilege for an object, whose type may be derived from one that is listed.
func (b byType) of(object ref) string {
	for kind := object.Type; kind != ""; kind = reference.parents[kind] {
		if privilege, found := b[kind]; found {
			return privilege
		}
	}
	return ""
}

var (
	destroying = byType{
		"VirtualMachine": "VirtualMachine.Inventory.Delete", "Folder": "Folder.Delete", "Datastore": "Datastore.Delete",
		"Datacenter": "Datacenter.Delete", "ResourcePool": "Resource.DeletePool", "VirtualApp": "VApp.Delete",
		"ComputeResource": "Host.Inventory.DeleteCluster", "HostSystem": "Host.Inventory.RemoveHostFromCluster",
		"Network": "Network.Delete", "DistributedVirtualSwitch": "DVSwitch.Delete",
		"DistributedVirtualPortgroup": "DVPortgroup.Delete",
	}
	renaming = byType{
		"VirtualMachine": "VirtualMachine.Config.Rename", "Folder": "Folder.Rename", "Datastore": "Datastore.Rename",
		"Datacenter": "Datacenter.Rename", "ResourcePool": "Resource.RenamePool", "VirtualApp": "VApp.Rename",
		"ComputeResource": "Host.Inventory.RenameCluster", "Network": "Network.Config",
		"DistributedVirtualSwitch": "DVSwitch.Modify", "DistributedVirtualPortgroup": "DVPortgroup.Modify",
	}
	moving = byType{
		"VirtualMachine": "VirtualMachine.Inventory.Move", "Folder": "Folder.Move", "Datastore": "Datastore.Move",
		"Datacenter": "Datacenter.Move", "ComputeResource": "Host.Inventory.MoveCluster", "Network": "Network.Move",
		"DistributedVirtualSwitch": "DVSwitch.Move",
	}
)

func (d *demands) parent(object ref) *ref {
	if entity, ok := d.ctx.Map.Get(object).(mo.Entity); ok {
		return entity.Entity().Parent
	}
	return nil
}

// dynamic adds what depends on the content of a request; the sources are the methods' descriptions in the reference.
func (d *demands) dynamic() (known bool) {
	return d.inventory() || d.machines() || d.files() || d.storage() || d.others()
}

func (d *demands) inventory() bool {
	this := d.call.This
	switch r := d.call.Body.(type) {
	case *types.Destroy_Task: // "on the parent of the destroyed entity as well as the entity itself"
		d.destroy(this)
		d.on(d.parent(this), destroying.of(this))
	case *types.Rename_Task:
		d.add(this, renaming.of(this))
	case *types.MoveIntoFolder_Task: // "against the source container, destination container, and the object"
		for _, object := range r.List {
			privilege := moving.of(object)
			d.on(d.parent(object), privilege)
			d.add(this, privilege)
			d.add(object, privilege)
		}
	case *types.SetCustomValue:
		d.add(this, "Global.SetCustomField")
	case *types.MoveIntoResourcePool:
		for _, object := range r.List {
			if object.Type == "VirtualMachine" {
				d.add(this, "Resource.AssignVMToPool")
				d.add(object, "Resource.AssignVMToPool")
			} else {
				d.add(this, "Resource.MovePool")
				d.add(object, "Resource.MovePool")
			}
		}
	case *types.UpdateConfig, *types.UpdateChildResourceConfiguration:
		d.add(this, "Resource.EditPool")
	case *types.DestroyChildren:
		d.add(this, "Resource.DeletePool")
	default:
		return false
	}
	return true
}

// destroy adds what the removal of an entity needs; a folder's destroys what is in it.
func (d *demands) destroy(object ref) {
	d.add(object, destroying.of(object))
	if folder, ok := d.ctx.Map.Get(object).(*simulator.Folder); ok {
		for _, child := range folder.ChildEntity {
			if child.Type == "VirtualMachine" || child.Type == "Folder" {
				d.destroy(child)
			}
		}
	}
}

func (d *demands) storage() bool {
	const manage = "Datastore.FileManagement"
	switch r := d.call.Body.(type) {
	case *types.ConfigureDatastoreIORM_Task:
		d.add(r.Datastore, "Datastore.ConfigIOManagement")
	case *types.ApplyStorageDrsRecommendationToPod_Task:
		d.add(r.Pod, "Resource.ApplyRecommendation")
	case *types.ApplyStorageDrsRecommendation_Task:
		for _, pod := range d.ctx.Map.All("StoragePod") {
			d.add(pod.Reference(), "Resource.ApplyRecommendation")
		}
	default:
		if !reference.isA(d.call.This.Type, "VStorageObjectManagerBase") { // first class disks
			return false
		}
		if writes(d.call.Name) {
			for _, datastore := range datastoresIn(reflect.ValueOf(d.call.Body).Elem(), 0) {
				d.add(datastore, manage)
			}
		}
	}
	return true
}

// writes reports whether a method of the manager of first class disks needs more than to see them.
func writes(method string) bool {
	return !strings.HasPrefix(method, "Retrieve") && !strings.HasPrefix(method, "List")
}

// datastoresIn finds the datastores that a request names.
func datastoresIn(value reflect.Value, depth int) []ref {
	if depth > 6 {
		return nil
	}
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !value.IsNil() {
			return datastoresIn(value.Elem(), depth+1)
		}
	case reflect.Struct:
		if object, ok := value.Interface().(ref); ok {
			if object.Type == "Datastore" {
				return []ref{object}
			}
			return nil
		}
		var found []ref
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() {
				found = append(found, datastoresIn(value.Field(i), depth+1)...)
			}
		}
		return found
	}
	return nil
}

func (d *demands) others() bool {
	this := d.call.This
	switch d.call.Body.(type) {
	case *types.CancelTask: // its owner may
		if task, ok := d.ctx.Map.Get(this).(*simulator.Task); ok && !owns(d.ctx, task) {
			d.add(this, "Global.CancelTask")
		}
	case *types.UpdateOptions:
		d.add(this, "Global.Settings")
	case *types.ApplyRecommendation:
		d.add(this, "Resource.ApplyRecommendation")
	case *types.AcquireTicket:
		d.add(this, "VirtualMachine.Interact.ConsoleInteract")
	case *types.UpdateNetworkConfig, *types.AddVirtualNic, *types.UpdateVirtualNic:
		d.add(this, "Host.Config.Network")
	default:
		return false
	}
	return true
}

// owns reports whether the caller started a task.
func owns(ctx *simulator.Context, task *simulator.Task) (own bool) {
	ctx.WithLock(task, func() {
		reason, ok := task.Info.Reason.(*types.TaskReasonUser)
		own = ok && fold(reason.UserName) == fold(ctx.Session.UserName)
	})
	return own
}

// files adds what a datastore path needs on its datastore.
func (d *demands) files() bool {
	const manage, browse = "Datastore.FileManagement", "Datastore.Browse"
	switch r := d.call.Body.(type) {
	case *types.SearchDatastore_Task:
		d.path(nil, r.DatastorePath, browse)
	case *types.SearchDatastoreSubFolders_Task:
		d.path(nil, r.DatastorePath, browse)
	default:
		if this := d.call.This.Type; this != "FileManager" && this != "VirtualDiskManager" {
			return false
		}
		if d.call.Name == "QueryFileLockInfo" {
			return true
		}
		body := reflect.ValueOf(d.call.Body).Elem()
		for _, names := range [][2]string{
			{"Name", "Datacenter"}, {"SourceName", "SourceDatacenter"},
			{"DestName", "DestDatacenter"}, {"DestinationName", "DestinationDatacenter"},
		} {
			if path := body.FieldByName(names[0]); path.IsValid() {
				center, _ := body.FieldByName(names[1]).Interface().(*ref)
				if center == nil && names[1] != "Datacenter" { // the source's, if the destination's is not given
					center, _ = body.FieldByName("SourceDatacenter").Interface().(*ref)
				}
				d.path(center, path.String(), manage)
			}
		}
	}
	return true
}

// path adds a privilege on the datastore that a path "[name] ..." means: in a datacenter, or in that of the object called. A path
// that means none is the method's to refuse.
func (d *demands) path(center *ref, path, privilege string) {
	at := d.browsed()
	if center != nil {
		at = *center
	}
	if datastore := places.DatastoreOf(d.ctx, at, path); datastore != nil {
		d.add(datastore.Self, privilege)
	}
}

// browsed is where a datastore browser belongs: the entity that refers to it. For all else it is the object called.
func (d *demands) browsed() ref {
	if browser, ok := d.ctx.Map.Get(d.call.This).(*simulator.HostDatastoreBrowser); ok && len(browser.Datastore) > 0 {
		return browser.Datastore[0]
	}
	return d.call.This
}
