// SPDX-License-Identifier: Apache-2.0

package updates

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"

	"vcenter-sim/internal/collector"
)

// containerView is a ContainerView that is kept up to date by looking from a changed object up to the container. (The
// library's looks from the container down, through the whole inventory, for every object that is made.)
type containerView struct {
	mo.ContainerView

	engine  *engine
	session string
	place   map[ref]int // where an object stands in View
}

// containers are the types in which a view may be rooted, and entities those of which it may consist, with those that
// they are derived from.
var (
	containers = map[string]bool{
		"Folder": true, "StoragePod": true, "Datacenter": true, "ComputeResource": true, "ClusterComputeResource": true,
		"HostSystem": true, "ResourcePool": true, "VirtualApp": true,
	}
	entities = map[string]string{
		"ManagedEntity": "", "Folder": "ManagedEntity", "StoragePod": "Folder", "Datacenter": "ManagedEntity",
		"ComputeResource": "ManagedEntity", "ClusterComputeResource": "ComputeResource", "HostSystem": "ManagedEntity",
		"ResourcePool": "ManagedEntity", "VirtualApp": "ResourcePool", "VirtualMachine": "ManagedEntity",
		"Datastore": "ManagedEntity", "Network": "ManagedEntity", "OpaqueNetwork": "Network",
		"DistributedVirtualPortgroup": "Network", "DistributedVirtualSwitch": "ManagedEntity",
		"VmwareDistributedVirtualSwitch": "DistributedVirtualSwitch",
	}
)

// createContainerView implements ViewManager.CreateContainerView.
func (e *engine) createContainerView(ctx *simulator.Context, req *types.CreateContainerView) (
	*containerView, types.BaseMethodFault,
) {
	root := ctx.Map.Get(req.Container)
	switch {
	case root == nil:
		return nil, &types.ManagedObjectNotFound{Obj: req.Container}
	case !containers[req.Container.Type]:
		return nil, &types.InvalidArgument{InvalidProperty: "container"}
	}
	for _, kind := range req.Type {
		if _, known := entities[kind]; !known {
			return nil, &types.InvalidArgument{InvalidProperty: "type"}
		}
	}
	v := &containerView{engine: e, session: ctx.Session.Key, place: make(map[ref]int)}
	v.Self.Type = "ContainerView"
	v.Container, v.Recursive, v.Type = req.Container, req.Recursive, req.Type
	ctx.Session.Put(v)
	e.lock.Lock()
	e.views[v.Self] = v // before it is filled, so that nothing is missed; what comes twice counts once
	e.lock.Unlock()
	found := children(ctx, req.Container, req.Recursive)
	ctx.WithLock(v, func() {
		for _, obj := range found {
			v.add(obj)
		}
	})
	return v, nil
}

// children walks down from a container.
func children(ctx *simulator.Context, container ref, recursive bool) []ref {
	var found []ref
	seen := map[ref]bool{container: true}
	var walk func(ref)
	walk = func(obj ref) {
		whole, value := collector.Managed(ctx, obj)
		if !value.IsValid() {
			return
		}
		var below []ref
		ctx.WithLock(whole, func() {
			for _, path := range downwards[obj.Type] {
				below = append(below, collector.References(value, path)...)
			}
		})
		for _, child := range below {
			if seen[child] {
				continue
			}
			seen[child] = true
			found = append(found, child)
			if recursive {
				walk(child)
			}
		}
	}
	walk(container)
	return found
}

// downwards are the properties that lead from a container to what is in it.
var downwards = map[string][]string{
	"Datacenter":             {"vmFolder", "hostFolder", "datastoreFolder", "networkFolder"},
	"Folder":                 {"childEntity"},
	"StoragePod":             {"childEntity"},
	"ComputeResource":        {"host", "resourcePool"},
	"ClusterComputeResource": {"host", "resourcePool"},
	"ResourcePool":           {"resourcePool", "vm"},
	"VirtualApp":             {"resourcePool", "vm"},
	"HostSystem":             {"vm"},
}

// upwards are the objects in which an object is, one step up.
func upwards(obj mo.Reference) []ref {
	var found []ref
	if entity, ok := obj.(mo.Entity); ok && entity.Entity().Parent != nil {
		found = append(found, *entity.Entity().Parent)
	}
	if vm, ok := obj.(*simulator.VirtualMachine); ok {
		if vm.Runtime.Host != nil {
			found = append(found, *vm.Runtime.Host)
		}
		if vm.ResourcePool != nil {
			found = append(found, *vm.ResourcePool)
		}
	}
	return found
}

// includes reports whether a type is one of those asked for.
func (v *containerView) includes(kind string) bool {
	if len(v.Type) == 0 {
		return true
	}
	for _, asked := range v.Type {
		for k := kind; k != ""; k = entities[k] {
			if k == asked {
				return true
			}
		}
	}
	return false
}

// contains reports whether an object is in the container.
func (v *containerView) contains(ctx *simulator.Context, obj mo.Reference) bool {
	for _, up := range upwards(obj) {
		if up == v.Container {
			return true
		}
		if above := ctx.Map.Get(up); v.Recursive && above != nil && v.contains(ctx, above) {
			return true
		}
	}
	return false
}

// add and drop change the list. The view is locked.
func (v *containerView) add(obj ref) bool {
	if _, known := v.place[obj]; known || !v.includes(obj.Type) {
		return false
	}
	v.place[obj] = len(v.View)
	v.View = append(v.View, obj)
	return true
}

func (v *containerView) drop(obj ref) bool {
	at, known := v.place[obj]
	if !known {
		return false
	}
	last := v.View[len(v.View)-1]
	v.View[at] = last
	v.place[last] = at
	v.View = v.View[:len(v.View)-1]
	delete(v.place, obj)
	return true
}

func (v *containerView) has(ctx *simulator.Context, obj ref) (has bool) {
	ctx.WithLock(v, func() { _, has = v.place[obj] })
	return has
}

// DestroyView implements View.DestroyView.
func (v *containerView) DestroyView(ctx *simulator.Context, _ *types.DestroyView) soap.HasFault {
	v.engine.lock.Lock()
	delete(v.engine.views, v.Self)
	if w := v.engine.watches[v.Self]; w != nil {
		for n := range w.nodes {
			n.filter.notes().gone[v.Self] = true
		}
		for f := range w.members {
			f.notes().gone[v.Self] = true
		}
	}
	v.engine.lock.Unlock()
	ctx.Session.Remove(ctx, v.Self)
	return &methods.DestroyViewBody{Res: &types.DestroyViewResponse{}}
}

// updateViews takes an object that was made or moved into the views to which it belongs.
func (e *engine) updateViews(ctx *simulator.Context, obj mo.Reference) {
	self := core.Ref(obj)
	for _, v := range e.viewsOf(self.Type) {
		in := v.contains(ctx, obj)
		changed := false
		ctx.WithLock(v, func() {
			if in {
				changed = v.add(self)
			} else {
				changed = v.drop(self)
			}
		})
		if changed {
			e.viewChanged(v, self)
		}
	}
}

func (e *engine) dropFromViews(ctx *simulator.Context, self ref) {
	for _, v := range e.viewsOf(self.Type) {
		changed := false
		ctx.WithLock(v, func() { changed = v.drop(self) })
		if changed {
			e.viewChanged(v, self)
		}
	}
}

func (e *engine) viewsOf(kind string) []*containerView {
	e.lock.Lock()
	defer e.lock.Unlock()
	var found []*containerView
	for _, v := range e.views {
		if v.includes(kind) {
			found = append(found, v)
		}
	}
	return found
}

func (e *engine) viewChanged(v *containerView, obj ref) {
	e.lock.Lock()
	defer e.lock.Unlock()
	e.listed(v.Self, []ref{obj})
}

// listed tells all who look at a view that objects came into it, or left it. The engine is locked.
func (e *engine) listed(view ref, objects []ref) {
	w := e.watches[view]
	if w == nil || len(objects) == 0 {
		return
	}
	for n := range w.nodes {
		if n.spec.Path == "view" {
			for _, obj := range objects {
				n.filter.notes().touch(n, obj)
			}
		}
	}
	for f := range w.members {
		f.notes().property(view, "view")
	}
}
