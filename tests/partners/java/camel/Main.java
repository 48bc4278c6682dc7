import io.fabric8.kubernetes.client.KubernetesClient;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import org.apache.camel.CamelContext;
import org.apache.camel.cluster.CamelClusterEventListener;
import org.apache.camel.component.kubernetes.KubernetesConfiguration;
import org.apache.camel.component.kubernetes.KubernetesHelper;
import org.apache.camel.component.kubernetes.cluster.KubernetesClusterService;
import org.apache.camel.component.kubernetes.cluster.KubernetesClusterView;
import org.apache.camel.component.kubernetes.cluster.LeaseResourceType;
import org.apache.camel.impl.engine.SimpleCamelContext;

/**
 * A member of a Camel cluster: PORT CA-FILE TOKEN-FILE NAMESPACE GROUP POD LEASE-MS TYPE
 *
 * TYPE is Lease or ConfigMap. It holds for as long as its view tells its listeners that it leads, as
 * routes of camel-master do. A beat is a tenth of a second of work, and is said when it is done.
 * Camel gives a lock up only when the view is disabled; a context that is stopped just goes away.
 */
final class Main {
    private static volatile boolean leads;
    private static volatile boolean looked;

    private Main() {}

    public static void main(String[] words) throws Exception {
        Lines.leaveInOrder();
        String group = words[4];
        String pod = words[5];
        KubernetesConfiguration configuration = new KubernetesConfiguration();
        configuration.setMasterUrl("https://127.0.0.1:" + words[0]);
        configuration.setCaCertFile(words[1]);
        configuration.setOauthToken(Files.readString(Path.of(words[2])).strip());
        configuration.setNamespace(words[3]);
        CamelContext context = new SimpleCamelContext();
        context.start();
        KubernetesClusterService service = service(context, configuration, words);
        context.addService(service);
        KubernetesClusterView view = service.getView(group);
        view.addEventListener((CamelClusterEventListener.Leadership) (of, leader) -> {
            looked |= leader != null;
            leads = leader != null && leader.isLocal();
        });
        service.startView(group);
        contend();
        view.setDisabled(true);
        boolean held = leads;
        while (leads) {
            Lines.say("beat");
            Lines.pause();
        }
        if (held) {
            Lines.say("stopped");
            awaitYielded(configuration, words[3], group, pod);
        }
        service.stop();
    }

    private static KubernetesClusterService service(
            CamelContext context, KubernetesConfiguration configuration, String[] words) throws Exception {
        long leaseMs = Long.parseLong(words[6]);
        KubernetesClusterService service = new KubernetesClusterService(context, configuration);
        service.setKubernetesResourcesNamespace(words[3]);
        service.setPodName(words[5]);
        service.setLeaseResourceType(LeaseResourceType.valueOf(words[7]));
        // The proportions are its own: 15 s, 10 s and 2 s.
        service.setLeaseDurationMillis(leaseMs);
        service.setRenewDeadlineMillis(leaseMs * 2 / 3);
        service.setRetryPeriodMillis(leaseMs * 2 / 15);
        return service;
    }

    private static void contend() throws InterruptedException {
        boolean held = false;
        boolean waits = false;
        while (!Lines.leaving()) {
            boolean now = leads;
            if (now && !held) {
                Lines.say("holding");
            } else if (now) {
                Lines.pause();
                Lines.say("beat");
                continue;
            } else if (held) {
                Lines.say("stopped");
            } else if (looked && !waits) {
                Lines.say("waiting");
                waits = true;
            }
            held = now;
            Lines.pause();
        }
    }

    /** It works no more, and gives the lock up one lease duration later. */
    private static void awaitYielded(
            KubernetesConfiguration configuration, String namespace, String group, String pod)
            throws InterruptedException {
        try (KubernetesClient client = KubernetesHelper.getKubernetesClient(configuration)) {
            while (pod.equals(ofLease(client, namespace, group)) || pod.equals(ofMap(client, namespace, group))) {
                Lines.pause();
            }
        }
    }

    private static String ofLease(KubernetesClient client, String namespace, String group) {
        return Optional.ofNullable(client.leases().inNamespace(namespace).withName("leaders-" + group).get())
                .map(found -> found.getSpec().getHolderIdentity())
                .orElse(null);
    }

    private static String ofMap(KubernetesClient client, String namespace, String group) {
        return Optional.ofNullable(client.configMaps().inNamespace(namespace).withName("leaders").get())
                .map(found -> found.getData().get("leader.pod." + group))
                .orElse(null);
    }
}
