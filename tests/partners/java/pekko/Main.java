import com.typesafe.config.Config;
import com.typesafe.config.ConfigFactory;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.pekko.actor.ActorSystem;
import org.apache.pekko.coordination.lease.javadsl.Lease;
import org.apache.pekko.coordination.lease.javadsl.LeaseProvider;

/**
 * A member of a Pekko lease: PORT CA-FILE TOKEN-FILE NAMESPACE LEASE OWNER TIMEOUT-MS INTERVAL-MS
 *
 * It holds for as long as the lease says so (`checkLease`), which is what its users are told to ask. A
 * beat is a tenth of a second of work, and is said when it is done.
 */
final class Main {
    private static final String LEASE = "pekko.coordination.lease.kubernetes";

    private Main() {}

    public static void main(String[] words) throws Exception {
        Lines.leaveInOrder();
        ActorSystem system = ActorSystem.create("member", config(words));
        Lease lease = LeaseProvider.get(system).getLease(words[4], LEASE, words[5]);
        boolean waits = false;
        while (!Lines.leaving()) {
            boolean acquired = false;
            try {
                acquired = lease.acquire().toCompletableFuture().get(30, TimeUnit.SECONDS);
            } catch (java.util.concurrent.ExecutionException error) {
                Lines.say("note", "text", error.getCause());
            }
            if (acquired) {
                hold(lease);
            } else if (!waits) {
                Lines.say("waiting");
            }
            waits = !acquired;
            Lines.pause();
        }
        system.terminate();
    }

    private static void hold(Lease lease) throws Exception {
        Lines.say("holding");
        while (!Lines.leaving()) {
            if (!lease.checkLease()) {
                Lines.say("stopped", "why", "the lease is lost");
                return;
            }
            Lines.pause();
            Lines.say("beat");
        }
        Lines.say("stopped");
        lease.release().toCompletableFuture().get(30, TimeUnit.SECONDS);
    }

    private static Config config(String[] words) {
        Map<String, Object> settings = Map.of(
                LEASE + ".api-service-host", "127.0.0.1",
                LEASE + ".api-service-port", words[0],
                LEASE + ".api-ca-path", words[1],
                LEASE + ".api-token-path", words[2],
                LEASE + ".namespace", words[3],
                LEASE + ".heartbeat-timeout", words[6] + "ms",
                LEASE + ".heartbeat-interval", words[7] + "ms",
                // It has to be less than half of the timeout, and one request less than that.
                LEASE + ".lease-operation-timeout", Long.parseLong(words[6]) * 4 / 10 + "ms",
                LEASE + ".api-server-request-timeout", Long.parseLong(words[6]) * 3 / 10 + "ms",
                "pekko.loglevel", "WARNING");
        Config ours = ConfigFactory.parseMap(Map.of(
                // The lease is given up in order by `Lines`, while the system still works.
                "pekko.jvm-shutdown-hooks", "off",
                "pekko.coordinated-shutdown.run-by-jvm-shutdown-hook", "off",
                // The output is for events.
                "pekko.loggers", List.of("org.apache.pekko.event.slf4j.Slf4jLogger"),
                "pekko.stdout-loglevel", "OFF"));
        return ConfigFactory.parseMap(settings)
                .withFallback(ours)
                .withFallback(ConfigFactory.load());
    }
}
