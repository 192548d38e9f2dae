// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"vcenter-sim/internal/core"
	"vcenter-sim/internal/inventory"
	"vcenter-sim/internal/process"
	"vcenter-sim/internal/state"
	"vcenter-sim/internal/supervisor"
)

// options are the command line.
type options struct {
	inventory inventory.Options
	server    process.Options
	delays    core.Delays
	state     state.Flags
	processes supervisor.Flags
	lenient   *core.Leniencies
}

// parse reads the command line. Its error is one line that names the flag, the value and the remedy.
func parse(args []string) (*options, error) {
	o := &options{inventory: inventory.Defaults(), lenient: core.NewLeniencies(features)}
	set := flag.NewFlagSet("vcenter-sim", flag.ContinueOnError)
	usage := set.Usage
	set.Usage = func() {}
	messages := &strings.Builder{}
	set.SetOutput(messages)

	set.StringVar(&o.server.Listen, "l", "127.0.0.1:8989", "listen on `HOST:PORT`; port 0 takes a free one")
	set.StringVar(&o.server.Control, "control", "", "serve the control endpoint for tests on loopback `HOST:PORT`")
	set.StringVar(&o.server.User, "username", "user", "the `NAME` of the administrator")
	set.StringVar(&o.server.Password, "password", "pass", "that user's `PASSWORD`")
	set.StringVar(&o.server.CertFile, "tlscert", "", "PEM `FILE` of the certificate to serve; one is made if not given")
	set.StringVar(&o.server.KeyFile, "tlskey", "", "PEM `FILE` of the key to -tlscert")
	set.StringVar(&o.server.CACertOut, "cacert-out", "", "write the certificate with which TLS verifies to `FILE`")

	i := &o.inventory
	set.StringVar(&i.APIVersion, "api-version", i.APIVersion, "API `VERSION`, for example 7.0.3.0, 8.0.3.0 or 9.0.0.0")
	set.StringVar(&i.InstanceUUID, "instance-uuid", "", "the vCenter's `UUID` (about.instanceUuid); a random one if not given")
	count(set, &i.Datacenters, "dc", "number of datacenters", 1)
	count(set, &i.Clusters, "cluster", "number of clusters per datacenter", 0)
	count(set, &i.ClusterHosts, "host", "number of hosts per cluster", 0)
	count(set, &i.StandaloneHosts, "standalone-host", "number of standalone hosts per datacenter", 0)
	count(set, &i.Datastores, "ds", "number of datastores per datacenter", 1)
	count(set, &i.Machines, "vm", "number of virtual machines per resource pool", 0)
	count(set, &i.Pools, "pool", "number of resource pools per cluster", 0)
	count(set, &i.Folders, "folder", "number of datacenters to place within folders", 0)
	count(set, &i.Pods, "pod", "number of datastore clusters (storage pods) per datacenter", 0)
	set.BoolVar(&i.Autostart, "autostart", true, "power on the virtual machines that are made at start")
	set.Var((*capacities)(i), "ds-capacity", "capacity of all datastores (`SIZE`, as 100GiB) or of one (NAME=SIZE); repeatable")
	set.BoolVar(&i.MountEverywhere, "ds-mount-all", false, "mount every datastore on every host of its datacenter")

	set.BoolVar(&i.MountByCluster, "ds-mount-cluster", false, "mount each datastore on the hosts of one cluster only, in turn")

	o.state.Declare(set)
	o.processes.Declare(set)
	delay := set.Int("delay", 0, "delay every call by this many `MILLISECONDS`")
	methodDelay := set.String("method-delay", "", "delay methods, as `METHOD:MILLISECONDS,...`")
	set.Float64Var(&o.delays.Jitter, "delay-jitter", 0, "variation `COEFFICIENT` (standard deviation/mean) of the delays")
	taskDelay := set.Int("task-delay", 0, "delay the work of every task by this many `MILLISECONDS`")
	set.Var(o.lenient, "lenient", "be less strict than a vCenter in `RULE[,RULE...]`, see README.md; repeatable")
	for _, feature := range features {
		if feature.Flags != nil {
			feature.Flags(set)
		}
	}

	if err := set.Parse(args); err != nil {
		if err == flag.ErrHelp {
			set.SetOutput(os.Stdout)
			usage()
			set.PrintDefaults()
			return nil, err
		}
		return nil, fmt.Errorf("%w (see -help)", err)
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: everything is given by flags (see -help)", set.Arg(0))
	}
	var err error
	o.delays.All = time.Duration(*delay) * time.Millisecond
	o.delays.Task = time.Duration(*taskDelay) * time.Millisecond
	if *delay < 0 || *taskDelay < 0 || o.delays.Jitter < 0 {
		return nil, fmt.Errorf("-delay, -delay-jitter and -task-delay must not be negative")
	}
	if o.delays.Methods, err = methodDelays(*methodDelay); err != nil {
		return nil, err
	}
	if err := o.inventory.Check(); err != nil {
		return nil, err
	}
	o.server.PID = o.processes.Parent
	if err := o.state.Check(); err != nil {
		return nil, err
	}
	return o, o.server.Check()
}

// count declares a flag for a number of things that is not less than least.
func count(set *flag.FlagSet, target *int, name, usage string, least int) {
	set.Func(name, fmt.Sprintf("%s (default %d)", usage, *target), func(text string) error {
		n, err := strconv.Atoi(text)
		if err != nil || n < least {
			return fmt.Errorf("give a whole number, at least %d", least)
		}
		*target = n
		return nil
	})
}

// methodDelays reads "METHOD:MILLISECONDS,...".
func methodDelays(text string) (map[string]time.Duration, error) {
	delays := make(map[string]time.Duration)
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, number, _ := strings.Cut(part, ":")
		milliseconds, err := strconv.Atoi(number)
		if err != nil || milliseconds < 0 || name == "" {
			return nil, fmt.Errorf("invalid value %q for flag -method-delay: give METHOD:MILLISECONDS, as CreateVM_Task:500", part)
		}
		delays[name] = time.Duration(milliseconds) * time.Millisecond
	}
	return delays, nil
}

// capacities is the flag -ds-capacity.
type capacities inventory.Options

// String implements flag.Value.
func (c *capacities) String() string { return "" }

// Set implements flag.Value.
func (c *capacities) Set(text string) error {
	name, size, named := strings.Cut(text, "=")
	if !named {
		name, size = "", text
	}
	bytes, err := inventory.ParseSize(size)
	if err != nil {
		return err
	}
	if named {
		c.CapacityOf[name] = bytes
	} else {
		c.Capacity = bytes
	}
	return nil
}
