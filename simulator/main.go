// SPDX-License-Identifier: Apache-2.0

// Command vcenter-sim is a simulated vCenter for volume drivers. See README.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
	"vcenter-sim/internal/state"
	"vcenter-sim/internal/supervisor"
)

// startBytes is the memory above which garbage is collected more often while the inventory is made.
const startBytes = 3 << 29

func main() {
	log.SetFlags(log.Ltime | log.Lmicroseconds)
	options, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	status := 0
	switch {
	case err != nil:
	case options.processes.Supervise:
		status, err = supervisor.Run(os.Args[1:], options.server.KeepCertificate)
	default:
		err = run(options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vcenter-sim:", err)
		status = 1
	}
	os.Exit(status)
}

// run serves until it is told to end.
func run(options *options) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)

	server, err := options.server.Prepare()
	if err != nil {
		return err
	}
	defer server.Close()

	// Most of what is made at the start stays. Of an inventory as large as a vCenter may have, 0.7 GB do.
	settled, limit := debug.SetGCPercent(300), debug.SetMemoryLimit(startBytes)
	shape := options.inventory
	var saved *state.Saved
	if options.state.Load != "" {
		if saved, err = state.Open(options.state.Load); err != nil {
			return err
		}
		options.inventory, shape = saved.Options(), saved.Bare()
	}
	model, err := inventory.Create(shape)
	if err != nil {
		return err
	}
	defer model.Remove()
	if saved != nil {
		if err := saved.Restore(model.Model, model.Dir); err != nil {
			return fmt.Errorf("-state-load: %w", err)
		}
	}

	sim := core.New(model.Model, core.Settings{
		APIVersion: options.inventory.APIVersion,
		User:       options.server.User,
		Password:   options.server.Password,
		Lenient:    options.lenient.Given,
		Restored:   saved != nil,
		DataDir:    model.Dir,
	})
	defer sim.Stop()
	server.Register(sim)
	for _, feature := range features {
		if err := feature.Start(sim); err != nil {
			return fmt.Errorf("%s: %w", feature.Name, err)
		}
	}
	if saved != nil {
		if err := saved.Finish(sim); err != nil {
			return fmt.Errorf("-state-load: %w", err)
		}
	}
	options.state.Reload = options.processes.Reload
	if err := options.state.Start(sim, options.inventory); err != nil {
		return err
	}
	sim.SetDelays(options.delays)
	debug.SetGCPercent(settled)
	debug.SetMemoryLimit(limit)
	if err := server.Serve(sim); err != nil {
		return err
	}
	fmt.Println(server.Announcement())
	select {
	case <-signals:
	case <-options.state.Reloads():
	case <-options.processes.Orphaned():
		return os.RemoveAll(options.processes.Dir)
	}
	return nil
}
