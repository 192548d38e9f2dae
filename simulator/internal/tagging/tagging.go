// SPDX-License-Identifier: Apache-2.0

// Package tagging is what a vCenter's tagging service has beside the library's: its place in the saved state, and the newer
// REST paths under /api.
package tagging

import (
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"sync"

	"github.com/vmware/govmomi/vapi/tags"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
)

// Feature keeps tags, their categories and what they are attached to, and serves them under /api.
var Feature = core.Feature{Name: "tags", Start: start}

func start(s *core.Sim) error {
	s.Keep("tags", core.Keep{
		Save: func() any { return save(Of(s)) },
		Load: func(text []byte) error {
			var k kept
			if err := json.Unmarshal(text, &k); err != nil {
				return err
			}
			s.OnServe(func() { k.load(Of(s)) }) // the library makes its handler at last
			return nil
		},
	})
	serve(s)
	return nil
}

// Service is what the library's handler of tags tells in Go.
type Service interface {
	sync.Locker // which its HTTP methods hold, and those here do not
	http.Handler
	AttachedTags(types.ManagedObjectReference) ([]string, types.BaseMethodFault)
	AttachedObjects(string) ([]types.ManagedObjectReference, types.BaseMethodFault)
	AttachTag(types.ManagedObjectReference, string) types.BaseMethodFault
	GetTagCategoryAndName(string) (string, string, types.BaseMethodFault)
}

// Of finds the library's handler of tags, which is there as soon as the vCenter is served; until then it is nil.
func Of(s *core.Sim) Service {
	request := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/rest/com/vmware/cis/tagging/tag"}}
	handler, _ := s.Model.Service.ServeMux.Handler(request)
	service, _ := handler.(Service)
	return service
}

// kept is what is saved with the vCenter's state.
type kept struct {
	Categories []*tags.Category                          `json:"categories"`
	Tags       []*tags.Tag                               `json:"tags"`
	Attached   map[string][]types.ManagedObjectReference `json:"attached"` // by tag
}

// save reads the library's tables, whose names are its handler's only.
func save(service Service) kept {
	k := kept{Attached: make(map[string][]types.ManagedObjectReference)}
	if service == nil {
		return k
	}
	service.Lock()
	defer service.Unlock()
	for _, category := range table[tags.Category](service, "Category") {
		copied := *category
		k.Categories = append(k.Categories, &copied)
	}
	for id, tag := range table[tags.Tag](service, "Tag") {
		copied := *tag
		k.Tags = append(k.Tags, &copied)
		k.Attached[id], _ = service.AttachedObjects(id)
	}
	return k
}

func (k *kept) load(service Service) {
	service.Lock()
	defer service.Unlock()
	for _, category := range k.Categories {
		table[tags.Category](service, "Category")[category.ID] = category
	}
	associations := reflect.ValueOf(service).Elem().FieldByName("Association")
	for _, tag := range k.Tags {
		table[tags.Tag](service, "Tag")[tag.ID] = tag
		associations.SetMapIndex(reflect.ValueOf(tag.ID), reflect.MakeMap(associations.Type().Elem()))
		for _, ref := range k.Attached[tag.ID] {
			service.AttachTag(ref, tag.ID)
		}
	}
}

func table[T any](service Service, name string) map[string]*T {
	return reflect.ValueOf(service).Elem().FieldByName(name).Interface().(map[string]*T)
}
