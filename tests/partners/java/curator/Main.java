import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.framework.recipes.leader.LeaderLatch;
import org.apache.curator.framework.recipes.locks.InterProcessMutex;
import org.apache.curator.framework.state.ConnectionState;
import org.apache.curator.retry.RetryForever;

/**
 * A member of a queue of Curator's: HOSTS PATH ID SESSION-MS latch|mutex [deaf].
 *
 * `deaf` is a member that holds on whatever it hears of its connection, as one does that has no
 * listener. Its token is the czxid of its node.
 */
final class Main {
    private static final AtomicBoolean lost = new AtomicBoolean();

    private Main() {}

    public static void main(String[] words) throws Exception {
        Lines.leaveInOrder();
        int sessionMs = Integer.parseInt(words[3]);
        boolean deaf = words.length > 5 && words[5].equals("deaf");
        CuratorFramework client = CuratorFrameworkFactory.newClient(
                words[0], sessionMs, 15_000, new RetryForever(200));
        if (!deaf) {
            client.getConnectionStateListenable().addListener((of, state) -> {
                if (state == ConnectionState.SUSPENDED || state == ConnectionState.LOST) {
                    lost.set(true);
                }
            });
        }
        client.start();
        try {
            if (words[4].equals("latch")) {
                latch(client, words[1], words[2]);
            } else {
                mutex(client, words[1]);
            }
        } finally {
            client.close();
        }
    }

    private static void latch(CuratorFramework client, String path, String id) throws Exception {
        LeaderLatch latch = new LeaderLatch(client, path, id);
        latch.start();
        boolean told = false;
        while (!Lines.leaving() && !latch.await(100, TimeUnit.MILLISECONDS)) {
            // It is in the queue once its participants name it.
            if (!told && latch.getParticipants().stream().anyMatch(p -> p.getId().equals(id))) {
                Lines.say("waiting");
                told = true;
            }
        }
        if (!Lines.leaving()) {
            hold(client, latch.getOurPath());
        }
        latch.close();
    }

    private static void mutex(CuratorFramework client, String path) throws Exception {
        InterProcessMutex mutex = new InterProcessMutex(client, path);
        boolean[] held = new boolean[1];
        Thread waits = new Thread(() -> {
            try {
                mutex.acquire();
                held[0] = true;
                String node = mutex.getParticipantNodes().iterator().next();
                hold(client, node);
                mutex.release();
            } catch (Exception error) {
                error.printStackTrace();
            }
        });
        waits.setDaemon(true);
        int before = count(client, path);
        waits.start();
        while (!held[0] && !Lines.leaving() && count(client, path) <= before) {
            Lines.pause();
        }
        if (!held[0]) {
            Lines.say("waiting");
        }
        while (waits.isAlive() && (held[0] || !Lines.leaving())) {
            Lines.pause();
        }
    }

    private static int count(CuratorFramework client, String path) throws Exception {
        return client.checkExists().forPath(path) == null
                ? 0
                : client.getChildren().forPath(path).size();
    }

    private static void hold(CuratorFramework client, String node) throws Exception {
        Lines.say("holding", "token", client.checkExists().forPath(node).getCzxid());
        while (!Lines.leaving() && !lost.get()) {
            Lines.pause();
            Lines.say("beat");
        }
        Lines.say("stopped");
    }
}
