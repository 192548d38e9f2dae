// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"sync"

	"github.com/google/uuid"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/logins"
)

// maxObjects is what one answer holds at most, as at a vCenter, where RetrieveOptions.maxObjects can only lower it.
const maxObjects = 100

// book holds the pages that clients have not turned yet, by token. A token is good once, for the session and the collector
// that it was given to.
type book struct {
	whole bool // no page unless the client asks for one

	lock  sync.Mutex
	pages map[string]*page
}

type page struct {
	session   string
	collector types.ManagedObjectReference
	objects   []types.ObjectContent
	most      int
}

func newBook(s *core.Sim) *book {
	b := &book{whole: s.Lenient("paging"), pages: make(map[string]*page)}
	logins.OnEnd(s, b.sessionEnded)
	return b
}

func (b *book) sessionEnded(key string) {
	b.lock.Lock()
	defer b.lock.Unlock()
	for token, page := range b.pages {
		if page.session == key {
			delete(b.pages, token)
		}
	}
}

// size is how many objects an answer holds at most; 0 is without limit.
func (b *book) size(asked int32) (int, types.BaseMethodFault) {
	switch {
	case asked < 0:
		return 0, &types.InvalidArgument{InvalidProperty: "options.maxObjects"}
	case b.whole:
		return int(asked), nil
	case asked == 0: // unset, as far as can be told
		return maxObjects, nil
	}
	return min(maxObjects, int(asked)), nil
}

// cut makes an answer of the first objects, and keeps the others.
func (b *book) cut(
	ctx *simulator.Context, collector types.ManagedObjectReference, objects []types.ObjectContent, most int,
) *types.RetrieveResult {
	result := &types.RetrieveResult{Objects: objects}
	if most == 0 || len(objects) <= most || ctx.Session == nil {
		return result
	}
	result.Objects, result.Token = objects[:most:most], uuid.NewString()
	b.lock.Lock()
	defer b.lock.Unlock()
	b.pages[result.Token] = &page{session: ctx.Session.Key, collector: collector, objects: objects[most:], most: most}
	return result
}

// take finds a page that the caller may turn, and forgets it. A token of another session, or of another collector, is none.
func (b *book) take(ctx *simulator.Context, collector types.ManagedObjectReference, token string) *page {
	b.lock.Lock()
	defer b.lock.Unlock()
	found := b.pages[token]
	if found == nil || ctx.Session == nil || found.session != ctx.Session.Key || found.collector != collector {
		return nil
	}
	delete(b.pages, token)
	return found
}

// onContinue implements PropertyCollector.ContinueRetrievePropertiesEx.
func (b *book) onContinue(
	ctx *simulator.Context, req *types.ContinueRetrievePropertiesEx, _ core.Next,
) soap.HasFault {
	found := b.take(ctx, req.This, req.Token)
	if found == nil {
		return core.Fault(&types.InvalidArgument{InvalidProperty: "token"})
	}
	return &methods.ContinueRetrievePropertiesExBody{Res: &types.ContinueRetrievePropertiesExResponse{
		Returnval: *b.cut(ctx, req.This, found.objects, found.most)}}
}

// onCancel implements PropertyCollector.CancelRetrievePropertiesEx.
func (b *book) onCancel(ctx *simulator.Context, req *types.CancelRetrievePropertiesEx, _ core.Next) soap.HasFault {
	if b.take(ctx, req.This, req.Token) == nil {
		return core.Fault(&types.InvalidArgument{InvalidProperty: "token"})
	}
	return &methods.CancelRetrievePropertiesExBody{Res: &types.CancelRetrievePropertiesExResponse{}}
}
