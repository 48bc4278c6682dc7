// Command clientgo-raw replaces a Lease and watches it, with client-go's typed client and nothing else.
//
// It is the least that a handover can be made of, as a client in Go has it: the yardstick beside that of
// our own HTTP layer. Every event is one JSON line on standard output, stamped with CLOCK_BOOTTIME:
//
//	ready  the Lease exists and the watch is open
//	put    a PUT was answered: its version, and sent_ns, the instant at which it was sent
//	seen   the watch has delivered a version
//	batch  all PUTs of a batch are answered; a batch is written for each SIGUSR1
//
// client-go's own limit of five requests a second is off: it would measure itself.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/clientcmd"
)

type event struct {
	Event      string `json:"event"`
	BoottimeNs int64  `json:"boottime_ns"`
	SentNs     int64  `json:"sent_ns,omitempty"`
	Version    int64  `json:"version,omitempty"`
}

var output sync.Mutex

func tell(e event) {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	output.Lock()
	defer output.Unlock()
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		os.Exit(1)
	}
}

func boottimeNs() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(err)
	}
	return now.Nano()
}

func version(lease *coordinationv1.Lease) int64 {
	number, err := strconv.ParseInt(lease.ResourceVersion, 10, 64)
	if err != nil {
		panic(err)
	}
	return number
}

func follow(watcher watch.Interface) {
	for change := range watcher.ResultChan() {
		now := boottimeNs()
		if lease, ok := change.Object.(*coordinationv1.Lease); ok {
			tell(event{Event: "seen", BoottimeNs: now, Version: version(lease)})
		}
	}
}

func run(kubeconfig, namespace, name string, batch int) error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := coordinationclient.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, leases := context.Background(), client.Leases(namespace)

	holder, seconds, transitions, now := "raw", int32(15), int32(0), metav1.NowMicro()
	lease, err := leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       &holder,
			LeaseDurationSeconds: &seconds,
			AcquireTime:          &now,
			RenewTime:            &now,
			LeaseTransitions:     &transitions,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	watcher, err := leases.Watch(ctx, metav1.ListOptions{
		FieldSelector:   "metadata.name=" + name,
		ResourceVersion: lease.ResourceVersion,
	})
	if err != nil {
		return err
	}
	go follow(watcher)
	tell(event{Event: "ready", BoottimeNs: boottimeNs()})

	for range asked {
		for range batch {
			time.Sleep(5*time.Millisecond + time.Duration(rand.Int63n(int64(20*time.Millisecond))))
			renewed := metav1.NowMicro()
			lease.Spec.RenewTime = &renewed
			sentNs := boottimeNs()
			lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
			if err != nil {
				return err
			}
			tell(event{Event: "put", BoottimeNs: boottimeNs(), SentNs: sentNs, Version: version(lease)})
		}
		tell(event{Event: "batch", BoottimeNs: boottimeNs()})
	}
	return nil
}

func main() {
	kubeconfig := flag.String("kubeconfig", "", "path of the kubeconfig file")
	namespace := flag.String("namespace", "default", "namespace of the Lease")
	name := flag.String("name", "raw", "name of the Lease")
	batch := flag.Int("batch", 25, "how many PUTs there are in a batch")
	flag.Parse()
	if err := run(*kubeconfig, *namespace, *name, *batch); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
