// SPDX-License-Identifier: Apache-2.0

// Package supervisor runs a simulated vCenter in a child process and starts it again, from its state, if it ends by itself.
package supervisor

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

// Flags say who is who.
type Flags struct {
	// Supervise makes this process the parent.
	Supervise bool
	// Parent is the process that supervises this one, and Dir the folder that both use; 0 and "" if there is none.
	Parent int
	Dir    string
}

// Declare declares the flags.
func (f *Flags) Declare(set *flag.FlagSet) {
	set.BoolVar(&f.Supervise, "supervise", false,
		"start the simulator again, from its state and with the same addresses and certificate, should it end by itself")
	set.IntVar(&f.Parent, "supervised-by", 0, "`PID` of the supervising process (what -supervise uses)")
	set.StringVar(&f.Dir, "supervised-in", "", "`FOLDER` of the supervising process (what -supervise uses)")
}

const (
	// A simulator that ends so often within that time is beyond help.
	mostStarts  = 5
	countWithin = time.Minute
	// patience is how long the child may take to end when it is told to.
	patience = 30 * time.Second
)

var announced = regexp.MustCompile(`^export GOVC_URL=https://[^@]*@([^/]+)/sdk GOVC_SIM_PID=\d+(?: VCENTER_SIM_CONTROL=http://(\S+))?`)

// Certificate writes the certificate and the key to serve with into a folder, and returns the two files.
type Certificate func(dir string) (cert, key string, err error)

type supervisor struct {
	args    []string // of the child, as the user gave them
	dir     string
	fixed   []string // what makes a child the same vCenter as the last one
	stop    chan os.Signal
	reload  string // a saved state with which to start the next child
	starts  []time.Time
	printed bool
}

// Run supervises until it is told to end. Its result is the process's exit status.
func Run(args []string, certificate Certificate) (int, error) {
	dir, err := os.MkdirTemp("", "vcenter-sim-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return 1, err
	}
	s := &supervisor{args: args, dir: dir, stop: make(chan os.Signal, 1)}
	signal.Notify(s.stop, syscall.SIGTERM, syscall.SIGINT)
	cert, key, err := certificate(dir)
	if err != nil {
		return 1, err
	}
	s.fixed = []string{
		"-supervise=false", "-supervised-by", fmt.Sprint(os.Getpid()), "-supervised-in", dir,
		"-state-follow", s.state(), "-tlscert", cert, "-tlskey", key,
	}
	for {
		status, again, err := s.child()
		if !again {
			return status, err
		}
	}
}

func (s *supervisor) state() string { return filepath.Join(s.dir, "state") }

// child runs one child until it ends, and reports whether another one shall follow.
func (s *supervisor) child() (status int, again bool, err error) {
	command, output, line, err := s.start()
	if err != nil {
		return 1, false, err
	}
	ended := make(chan error, 1)
	go func() {
		announce(output, line)
		_, _ = io.Copy(io.Discard, output)
		ended <- command.Wait()
	}()
	for {
		select {
		case <-s.stop:
			return s.end(command, ended), false, nil
		case text := <-line:
			s.ready(text)
		case <-ended:
			return s.judge(command)
		}
	}
}

// start starts a child. Its standard input is a pipe that closes when this process ends, however it does.
func (s *supervisor) start() (*exec.Cmd, io.Reader, chan string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	args := append(append([]string{}, s.args...), s.fixed...)
	switch {
	case s.reload != "":
		args = append(args, "-state-load", s.reload)
		s.reload = ""
		_ = os.RemoveAll(s.state())
	case s.hasState():
		args = append(args, "-state-load", s.state())
	default:
		_ = os.RemoveAll(s.state())
	}
	command := exec.Command(program, args...)
	command.Env = append(os.Environ(), "TMPDIR="+filepath.Join(s.dir, "tmp"))
	command.Stderr = os.Stderr
	if _, err := command.StdinPipe(); err != nil {
		return nil, nil, nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	// A signal to the terminal's group is for this process only; the child is told by it.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.starts = append(s.starts, time.Now())
	return command, output, make(chan string, 1), command.Start()
}

func (s *supervisor) hasState() bool {
	_, err := os.Stat(filepath.Join(s.state(), "state.json"))
	return err == nil
}

// announce waits for the line with which a child says that it is ready.
func announce(output io.Reader, line chan<- string) {
	scanner := bufio.NewScanner(output)
	for scanner.Scan() {
		if announced.MatchString(scanner.Text()) {
			line <- scanner.Text()
			return
		}
	}
}

// ready passes the first child's line on, and has all others take the same addresses.
func (s *supervisor) ready(line string) {
	if s.printed {
		log.Print("vcenter-sim: started again")
		return
	}
	s.printed = true
	found := announced.FindStringSubmatch(line)
	s.fixed = append(s.fixed, "-l", found[1])
	if found[2] != "" {
		s.fixed = append(s.fixed, "-control", found[2])
	}
	fmt.Println(line)
}

// end tells the child to end, and waits until it has.
func (s *supervisor) end(command *exec.Cmd, ended <-chan error) int {
	_ = command.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(patience):
		_ = command.Process.Kill()
		<-ended
	}
	return max(command.ProcessState.ExitCode(), 0)
}

// judge looks at a child that has ended without being told to.
func (s *supervisor) judge(command *exec.Cmd) (status int, again bool, err error) {
	status = command.ProcessState.ExitCode()
	if text, err := os.ReadFile(filepath.Join(s.dir, reloadFile)); err == nil {
		_ = os.Remove(filepath.Join(s.dir, reloadFile))
		s.reload = string(text)
		return 0, true, nil
	}
	if !s.printed { // it has never been ready, and has said why
		return max(status, 1), false, nil
	}
	recent := 0
	for _, at := range s.starts {
		if time.Since(at) < countWithin {
			recent++
		}
	}
	if recent >= mostStarts {
		return 1, false, fmt.Errorf("the simulator has ended %d times within %s (at last: %s); it is not started again",
			recent, countWithin, command.ProcessState)
	}
	log.Printf("vcenter-sim: the simulator has ended (%s); it is started again from its state", command.ProcessState)
	return status, true, nil
}

// reloadFile tells the supervisor with which saved state to start the next child.
const reloadFile = "reload"

// Reload has the supervisor start this vCenter again from a saved state, once this process has ended.
func (f *Flags) Reload(dir string) error {
	if f.Dir == "" {
		return errors.New("only a supervised simulator can be started again: start it with -supervise")
	}
	return os.WriteFile(filepath.Join(f.Dir, reloadFile), []byte(dir), 0o600)
}

// Orphaned is closed when the supervising process has gone away, if there was one.
func (f *Flags) Orphaned() <-chan struct{} {
	gone := make(chan struct{})
	if f.Parent == 0 {
		return gone
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	return gone
}
