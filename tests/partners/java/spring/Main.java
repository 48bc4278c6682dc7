import java.sql.SQLException;
import java.time.Duration;
import java.time.Instant;
import java.util.ConcurrentModificationException;
import javax.sql.DataSource;
import org.mariadb.jdbc.MariaDbDataSource;
import org.postgresql.ds.PGSimpleDataSource;
import org.springframework.integration.jdbc.lock.DefaultLockRepository;
import org.springframework.integration.jdbc.lock.JdbcLockRegistry;
import org.springframework.integration.support.locks.DistributedLock;
import org.springframework.jdbc.support.JdbcTransactionManager;

/**
 * A member of a lock of Spring Integration: JDBC-URL USER PASSWORD PREFIX LOCK TTL-MS WORD...
 *
 * It renews the lock three times in its time to live. The words: `never-renews` (work that outlives
 * the time to live and does not know of it).
 */
final class Main {
    private Main() {}

    public static void main(String[] words) throws Exception {
        Lines.leaveInOrder();
        DataSource source = source(words[0], words[1], words[2]);
        Duration ttl = Duration.ofMillis(Long.parseLong(words[5]));
        boolean renews = words.length < 7 || !words[6].equals("never-renews");
        DefaultLockRepository repository = new DefaultLockRepository(source);
        repository.setPrefix(words[3]);
        repository.setTransactionManager(new JdbcTransactionManager(source));
        repository.afterPropertiesSet();
        repository.afterSingletonsInstantiated();
        repository.start();
        JdbcLockRegistry registry = new JdbcLockRegistry(repository, ttl);
        DistributedLock lock = registry.obtain(words[4]);
        boolean waits = false;
        while (!Lines.leaving()) {
            boolean holds = lock.tryLock();
            if (holds) {
                hold(registry, lock, words[4], ttl, renews);
            } else if (!waits) {
                Lines.say("waiting");
            }
            waits = !holds;
            Lines.pause();
        }
    }

    private static void hold(
            JdbcLockRegistry registry, DistributedLock lock, String name, Duration ttl,
            boolean renews) throws InterruptedException {
        Lines.say("holding");
        Instant next = Instant.now().plus(ttl.dividedBy(3));
        String why = null;
        while (!Lines.leaving() && why == null) {
            Lines.pause();
            Lines.say("beat");
            if (renews && Instant.now().isAfter(next)) {
                try {
                    registry.renewLock(name, ttl);
                } catch (IllegalStateException error) {
                    why = error.getMessage();
                }
                next = Instant.now().plus(ttl.dividedBy(3));
            }
        }
        Lines.say("stopped", "why", why);
        try {
            lock.unlock();
        } catch (ConcurrentModificationException error) {
            Lines.say("unlocked", "error", error.getMessage());
        }
    }

    private static DataSource source(String url, String user, String password)
            throws SQLException {
        if (url.startsWith("jdbc:postgresql:")) {
            PGSimpleDataSource source = new PGSimpleDataSource();
            source.setUrl(url);
            source.setUser(user);
            source.setPassword(password);
            return source;
        }
        MariaDbDataSource source = new MariaDbDataSource(url);
        source.setUser(user);
        source.setPassword(password);
        return source;
    }
}
