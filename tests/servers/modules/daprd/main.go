// Dapr's own runtime with the one component that the tests need, the lock store of Redis.
//
// Dapr's own program carries the components of every cloud, in which the lock store, an alpha, is
// not even among the stable ones; and its default way to find other programs is multicast. Here
// there is none, so that nothing is sent beyond loopback, and a build takes minutes less. The
// command line, the two APIs and the component are Dapr's, unchanged.
package main

import (
	"context"
	"os"

	"github.com/dapr/components-contrib/lock/redis"
	"github.com/dapr/dapr/cmd/daprd/options"
	locks "github.com/dapr/dapr/pkg/components/lock"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/metrics"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/dapr/pkg/runtime/registry"
	"github.com/dapr/dapr/pkg/security"
	"github.com/dapr/kit/concurrency"
	"github.com/dapr/kit/logger"
	"github.com/dapr/kit/signals"
)

var log = logger.NewLogger("daprd")

func main() {
	given, err := options.New(os.Args[1:])
	if err != nil {
		log.Fatal(err)
	}
	known := locks.NewRegistry()
	known.Logger = log
	known.RegisterComponent(redis.NewStandaloneRedisLock, "redis")
	ctx, health := signals.Context(), healthz.New()
	trust, err := security.New(ctx, security.Options{
		AppID:                   given.AppID,
		Mode:                    modes.DaprMode(given.Mode),
		ControlPlaneTrustDomain: given.ControlPlaneTrustDomain,
		ControlPlaneNamespace:   given.ControlPlaneNamespace,
		Healthz:                 health,
	})
	if err != nil {
		log.Fatal(err)
	}
	serve := func(ctx context.Context) error {
		handler, err := trust.Handler(ctx)
		if err != nil {
			return err
		}
		daprd, err := runtime.FromConfig(ctx, config(given, known, handler, health))
		if err != nil {
			return err
		}
		return daprd.Run(ctx)
	}
	if err := concurrency.NewRunnerManager(trust.Run, serve).Run(ctx); err != nil {
		log.Fatal(err)
	}
}

func config(
	given *options.Options, known *locks.Registry, handler security.Handler, health healthz.Healthz,
) *runtime.Config {
	return &runtime.Config{
		AppID:                         given.AppID,
		Mode:                          given.Mode,
		ResourcesPath:                 given.ResourcesPath,
		DaprHTTPPort:                  given.DaprHTTPPort,
		DaprAPIGRPCPort:               given.DaprAPIGRPCPort,
		DaprAPIListenAddresses:        given.DaprAPIListenAddresses,
		DaprInternalGRPCPort:          given.DaprInternalGRPCPort,
		DaprInternalGRPCListenAddress: given.DaprInternalGRPCListenAddress,
		DaprPublicPort:                given.DaprPublicPort,
		DaprPublicListenAddress:       given.DaprPublicListenAddress,
		ProfilePort:                   given.ProfilePort,
		SchedulerStreams:              given.SchedulerJobStreams,
		DaprBlockShutdownDuration:     given.DaprBlockShutdownDuration,
		AllowedOrigins:                given.AllowedOrigins,
		AppProtocol:                   given.AppProtocol,
		AppMaxConcurrency:             given.AppMaxConcurrency,
		MaxRequestSize:                given.MaxRequestSize,
		ReadBufferSize:                given.ReadBufferSize,
		DaprGracefulShutdownSeconds:   given.DaprGracefulShutdownSeconds,
		AppHealthCheckPath:            given.AppHealthCheckPath,
		AppHealthProbeInterval:        given.AppHealthProbeInterval,
		AppHealthProbeTimeout:         given.AppHealthProbeTimeout,
		AppHealthThreshold:            given.AppHealthThreshold,
		EnableAPILogging:              given.EnableAPILogging,
		Config:                        given.Config,
		Metrics: metrics.Options{
			Enabled:       given.Metrics.Enabled(),
			Log:           log,
			Port:          given.Metrics.Port(),
			Namespace:     metrics.DefaultMetricNamespace,
			Healthz:       health,
			ListenAddress: given.Metrics.ListenAddress(),
		},
		Registry: registry.NewOptions().WithLocks(known),
		Security: handler,
		Healthz:  health,
	}
}
