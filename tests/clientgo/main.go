// Command clientgo-candidate is one candidate of client-go's own leader election on a Lease.
//
// The interoperability tests run it next to our candidates on the same Lease: what client-go does is the
// definition of the protocol, so it has to be the real thing. It adds no behaviour of its own; it reports.
//
// Every event is one JSON line on standard output, written at once, stamped with CLOCK_BOOTTIME, which
// all processes of a machine share and no clock adjustment moves:
//
//	ready       the candidacy starts
//	acquired    a write took the Lease; renewed, released: a later write kept it, gave it up
//	started     OnStartedLeading; its resource_version is that of the write that acquired
//	stopped     OnStoppedLeading, which client-go also calls for a candidate that never led ("led")
//	new_leader  OnNewLeader, for itself too
//
// client-go starts its callbacks in goroutines: their lines may come in another order than their causes.
//
// With --marks it also appends "transitions boottime_ns pid" to a file about every millisecond while it
// believes that it leads, so that marks of two holders that overlap prove a violation. On SIGTERM or
// SIGINT it stops marking before it cancels the election, as a program must whose release is immediate.
//
// Like the programs that use client-go it ends with the first term: status 0 after a signal, 3 after a
// lost Lease, 1 after an error. client-go's log goes to standard error.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

const (
	statusError = 1
	statusLost  = 3

	markInterval = time.Millisecond
)

type options struct {
	kubeconfig      string
	namespace       string
	name            string
	id              string
	leaseDuration   time.Duration
	renewDeadline   time.Duration
	retryPeriod     time.Duration
	releaseOnCancel bool
	marks           string
}

func parseOptions() (options, error) {
	var o options
	klog.InitFlags(nil)
	flag.StringVar(&o.kubeconfig, "kubeconfig", "", "path of the kubeconfig file")
	flag.StringVar(&o.namespace, "namespace", "default", "namespace of the Lease")
	flag.StringVar(&o.name, "name", "", "name of the Lease")
	flag.StringVar(&o.id, "id", "", "identity of this candidate")
	flag.DurationVar(&o.leaseDuration, "lease-duration", 15*time.Second, "as in client-go")
	flag.DurationVar(&o.renewDeadline, "renew-deadline", 10*time.Second, "as in client-go")
	flag.DurationVar(&o.retryPeriod, "retry-period", 2*time.Second, "as in client-go")
	flag.BoolVar(&o.releaseOnCancel, "release-on-cancel", false, "release the Lease when told to end")
	flag.StringVar(&o.marks, "marks", "", "file to append a line to per millisecond of leadership")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.kubeconfig == "" || o.name == "" || o.id == "" {
		return o, errors.New("--kubeconfig, --name and --id are required")
	}
	return o, nil
}

func boottimeNs() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

type event struct {
	Event           string `json:"event"`
	BoottimeNs      int64  `json:"boottime_ns"`
	ID              string `json:"id"`
	PID             int    `json:"pid"`
	Leader          string `json:"leader,omitempty"`
	ResourceVersion string `json:"resource_version,omitempty"`
	Transitions     *int32 `json:"transitions,omitempty"`
	Led             *bool  `json:"led,omitempty"`
}

type reporter struct {
	mutex sync.Mutex
	id    string
}

// report stamps within the mutex, so that the order of the lines is that of their times.
func (r *reporter) report(e event) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	e.ID = r.id
	e.PID = os.Getpid()
	e.BoottimeNs = boottimeNs()
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		os.Exit(statusError)
	}
}

// term is the version and the count of transitions of the Lease that a write acquired.
type term struct {
	resourceVersion string
	transitions     int32
}

// writes stands between client-go's lock and its client, because the lock does not show the Lease that
// its writes returned. A term begins with the first write that names this candidate with a new
// acquireTime; later writes of the same term keep that time.
type writes struct {
	coordinationclient.LeasesGetter
	reporter *reporter

	mutex      sync.Mutex
	acquiredAt *metav1.MicroTime
	term       term
}

func (w *writes) Leases(namespace string) coordinationclient.LeaseInterface {
	return &observedLeases{LeaseInterface: w.LeasesGetter.Leases(namespace), writes: w}
}

func (w *writes) current() term {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.term
}

func (w *writes) observe(sent coordinationv1.LeaseSpec, lease *coordinationv1.Lease) {
	e := event{ResourceVersion: lease.ResourceVersion, Transitions: lease.Spec.LeaseTransitions}
	switch {
	case sent.HolderIdentity == nil || *sent.HolderIdentity == "":
		e.Event = "released"
	case w.begins(sent.AcquireTime, lease):
		e.Event = "acquired"
	default:
		e.Event = "renewed"
	}
	w.reporter.report(e)
}

func (w *writes) begins(acquireTime *metav1.MicroTime, lease *coordinationv1.Lease) bool {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.acquiredAt.Equal(acquireTime) {
		return false
	}
	w.acquiredAt = acquireTime
	w.term = term{resourceVersion: lease.ResourceVersion}
	if lease.Spec.LeaseTransitions != nil {
		w.term.transitions = *lease.Spec.LeaseTransitions
	}
	return true
}

type observedLeases struct {
	coordinationclient.LeaseInterface
	writes *writes
}

func (l *observedLeases) Create(
	ctx context.Context, lease *coordinationv1.Lease, opts metav1.CreateOptions,
) (*coordinationv1.Lease, error) {
	created, err := l.LeaseInterface.Create(ctx, lease, opts)
	if err == nil {
		l.writes.observe(lease.Spec, created)
	}
	return created, err
}

func (l *observedLeases) Update(
	ctx context.Context, lease *coordinationv1.Lease, opts metav1.UpdateOptions,
) (*coordinationv1.Lease, error) {
	updated, err := l.LeaseInterface.Update(ctx, lease, opts)
	if err == nil {
		l.writes.observe(lease.Spec, updated)
	}
	return updated, err
}

// marker appends to the marks file while a term lasts and nothing has stopped it.
type marker struct {
	file *os.File

	mutex   sync.Mutex
	stopped bool
}

func openMarker(path string) (*marker, error) {
	if path == "" {
		return &marker{stopped: true}, nil
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	return &marker{file: file}, err
}

func (m *marker) run(leading context.Context, transitions int32) {
	ticker := time.NewTicker(markInterval)
	defer ticker.Stop()
	for m.mark(leading, transitions) {
		<-ticker.C
	}
}

func (m *marker) mark(leading context.Context, transitions int32) bool {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	if m.stopped || leading.Err() != nil {
		return false
	}
	if _, err := fmt.Fprintf(m.file, "%d %d %d\n", transitions, boottimeNs(), os.Getpid()); err != nil {
		klog.ErrorS(err, "Cannot write a mark")
		os.Exit(statusError)
	}
	return true
}

// stop returns when no further mark will be written.
func (m *marker) stop() {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.stopped = true
}

func run(o options) (int, error) {
	config, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return statusError, err
	}
	// The bound that client-go's own NewFromKubeconfig sets, so that one lost answer costs no term.
	config.Timeout = max(o.renewDeadline/2, time.Second)
	client, err := coordinationclient.NewForConfig(config)
	if err != nil {
		return statusError, err
	}
	marks, err := openMarker(o.marks)
	if err != nil {
		return statusError, err
	}

	events := &reporter{id: o.id}
	observed := &writes{LeasesGetter: client, reporter: events}

	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: o.namespace, Name: o.name},
			Client:     observed,
			LockConfig: resourcelock.ResourceLockConfig{Identity: o.id},
		},
		LeaseDuration:   o.leaseDuration,
		RenewDeadline:   o.renewDeadline,
		RetryPeriod:     o.retryPeriod,
		ReleaseOnCancel: o.releaseOnCancel,
		Name:            o.name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				acquired := observed.current()
				events.report(event{
					Event:           "started",
					Leader:          o.id,
					ResourceVersion: acquired.resourceVersion,
					Transitions:     &acquired.transitions,
				})
				marks.run(leading, acquired.transitions)
			},
			OnStoppedLeading: func() {
				marks.stop()
				led := observed.current() != term{}
				events.report(event{Event: "stopped", Led: &led})
			},
			OnNewLeader: func(identity string) {
				events.report(event{Event: "new_leader", Leader: identity})
			},
		},
	})
	if err != nil {
		return statusError, err
	}

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		marks.stop()
		cancel()
	}()

	events.report(event{Event: "ready"})
	elector.Run(ctx)
	if ctx.Err() == nil {
		return statusLost, nil
	}
	return 0, nil
}

func main() {
	o, err := parseOptions()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	status, err := run(o)
	klog.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}
