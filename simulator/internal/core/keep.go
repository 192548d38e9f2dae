// SPDX-License-Identifier: Apache-2.0

package core

// Keep is how a feature's own tables are saved with the vCenter's state.
type Keep struct {
	// Save returns what is to be kept, for encoding/json.
	Save func() any
	// Load takes it back.
	Load func(text []byte) error
}

// Keep has a feature's own tables saved and loaded. Objects of the inventory are kept in any case.
func (s *Sim) Keep(name string, keep Keep) {
	if s.kept == nil {
		s.kept = make(map[string]Keep)
	}
	s.kept[name] = keep
}

// Kept is what features keep, by name.
func (s *Sim) Kept() map[string]Keep { return s.kept }

// TaskNumber is the number of the task that was made last; references of tasks are never used twice.
func TaskNumber() int64 { return taskNumber.Load() }

// SetTaskNumber goes on from a number.
func SetTaskNumber(number int64) { taskNumber.Store(number) }
