// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/collector"
)

type ref = types.ManagedObjectReference

// record is one object of the inventory on disk.
type record struct {
	Type   string                     `json:"type"`
	Value  string                     `json:"value"`
	Object json.RawMessage            `json:"object"`        // the API's properties
	Own    map[string]json.RawMessage `json:"own,omitempty"` // what the library keeps beside them
}

// kept are the types of object that are saved, with the library's own fields among them. Those with a maker can be made anew;
// the others exist in every inventory of the same options.
var kept = map[string]struct {
	make func() mo.Reference
	own  []string
}{
	"ServiceInstance":                {},
	"Datacenter":                     {make: func() mo.Reference { return &simulator.Datacenter{} }},
	"Folder":                         {make: func() mo.Reference { return &simulator.Folder{} }},
	"StoragePod":                     {make: func() mo.Reference { return &simulator.StoragePod{} }},
	"ComputeResource":                {},
	"ClusterComputeResource":         {own: []string{"ruleKey"}},
	"HostSystem":                     {},
	"HostDatastoreSystem":            {},
	"HostStorageSystem":              {},
	"HostNetworkSystem":              {},
	"EnvironmentBrowser":             {},
	"ResourcePool":                   {make: func() mo.Reference { return &simulator.ResourcePool{} }},
	"VirtualApp":                     {make: func() mo.Reference { return &simulator.VirtualApp{} }},
	"VirtualMachine":                 {make: func() mo.Reference { return &simulator.VirtualMachine{} }, own: []string{"log", "sid", "uid"}},
	"VirtualMachineSnapshot":         {make: func() mo.Reference { return &simulator.VirtualMachineSnapshot{} }},
	"Datastore":                      {make: func() mo.Reference { return &simulator.Datastore{} }, own: []string{"namespace"}},
	"HostDatastoreBrowser":           {make: func() mo.Reference { return &simulator.HostDatastoreBrowser{} }},
	"Network":                        {make: func() mo.Reference { return &mo.Network{} }},
	"DistributedVirtualPortgroup":    {make: func() mo.Reference { return &simulator.DistributedVirtualPortgroup{} }},
	"VmwareDistributedVirtualSwitch": {},
	"DistributedVirtualSwitch":       {},
	"Alarm":                          {make: func() mo.Reference { return &simulator.Alarm{} }},
	"CustomFieldsManager":            {own: []string{"nextKey"}},
	"ExtensionManager":               {},
	"OptionManager":                  {},
	"VcenterVStorageObjectManager":   {own: []string{"objects"}},
}

// encode writes an object. The caller has locked it.
func encode(obj mo.Reference) ([]byte, error) {
	self := obj.Reference()
	text, err := marshal(collector.ManagedValue(obj).Addr().Interface())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", self, err)
	}
	r := record{Type: self.Type, Value: self.Value, Object: text}
	for _, name := range kept[self.Type].own {
		field := ownField(obj, name)
		if !field.IsValid() {
			continue
		}
		if text, err = encodeOwn(field); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", self, name, err)
		}
		if r.Own == nil {
			r.Own = make(map[string]json.RawMessage)
		}
		r.Own[name] = text
	}
	return json.Marshal(r)
}

// decode reads into an object, which becomes what it was. The caller has locked it, if others know it.
func (r *record) decode(obj mo.Reference) error {
	value := collector.ManagedValue(obj)
	fresh := reflect.New(value.Type())
	if err := unmarshal(r.Object, fresh.Interface()); err != nil {
		return fmt.Errorf("%s:%s: %w", r.Type, r.Value, err)
	}
	nameTwice(fresh.Elem())
	if manager, ok := obj.(*simulator.OptionManager); ok {
		keepHome(manager, fresh.Interface().(*mo.OptionManager))
	}
	if entity, ok := fresh.Interface().(mo.Entity); ok {
		entity.Entity().RecentTask = nil // tasks are not kept
	}
	value.Set(fresh.Elem())
	for name, text := range r.Own {
		field := ownField(obj, name)
		if !field.IsValid() {
			continue
		}
		if err := decodeOwn(text, field); err != nil {
			return fmt.Errorf("%s:%s: %s: %w", r.Type, r.Value, name, err)
		}
	}
	return nil
}

// nameTwice sets the name that a network has as a ManagedEntity, too: JSON tells only the one that hides it.
func nameTwice(value reflect.Value) {
	name, inner := value.FieldByName("Name"), value.FieldByName("ManagedEntity")
	if name.IsValid() && inner.IsValid() {
		inner.FieldByName("Name").Set(name)
	}
}

// keepHome leaves the setting alone by which the library finds this process's own folder.
func keepHome(manager *simulator.OptionManager, saved *mo.OptionManager) {
	for _, setting := range manager.Setting {
		if current := setting.GetOptionValue(); current.Key == "vcsim.home" {
			for _, other := range saved.Setting {
				if value := other.GetOptionValue(); value.Key == current.Key {
					value.Value = current.Value
				}
			}
		}
	}
}

func marshal(value any) ([]byte, error) {
	var text bytes.Buffer
	err := types.NewJSONEncoder(&text).Encode(value)
	return bytes.TrimSpace(text.Bytes()), err
}

func unmarshal(text []byte, value any) error {
	return types.NewJSONDecoder(bytes.NewReader(text)).Decode(value)
}

// ownField reaches a field that the library keeps to itself: without them a virtual machine would forget where its log is and
// which snapshot number comes next.
func ownField(obj any, name string) reflect.Value {
	value := reflect.ValueOf(obj).Elem()
	field := value.FieldByName(name)
	if !field.IsValid() || !field.CanAddr() {
		return reflect.Value{}
	}
	return reflect.NewAt(field.Type(), unsafe.Pointer(field.UnsafeAddr())).Elem()
}

// pair is one entry of a map whose keys JSON does not allow.
type pair struct {
	Key   json.RawMessage `json:"key"`
	Value json.RawMessage `json:"value"`
}

func encodeOwn(value reflect.Value) ([]byte, error) {
	switch value.Kind() {
	case reflect.Map:
	case reflect.Pointer:
		return marshal(value.Interface())
	default:
		return json.Marshal(value.Interface())
	}
	pairs := make([]pair, 0, value.Len())
	for _, key := range value.MapKeys() {
		keyText, err := encodeOwn(key)
		if err != nil {
			return nil, err
		}
		valueText, err := encodeOwn(value.MapIndex(key))
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, pair{keyText, valueText})
	}
	return json.Marshal(pairs)
}

func decodeOwn(text []byte, value reflect.Value) error {
	switch value.Kind() {
	case reflect.Map:
	case reflect.Pointer:
		return unmarshal(text, value.Addr().Interface())
	default:
		return json.Unmarshal(text, value.Addr().Interface())
	}
	var pairs []pair
	if err := json.Unmarshal(text, &pairs); err != nil {
		return err
	}
	value.Set(reflect.MakeMap(value.Type()))
	for _, p := range pairs {
		key, element := reflect.New(value.Type().Key()).Elem(), reflect.New(value.Type().Elem()).Elem()
		if err := decodeOwn(p.Key, key); err != nil {
			return err
		}
		if err := decodeOwn(p.Value, element); err != nil {
			return err
		}
		value.SetMapIndex(key, element)
	}
	return nil
}
