import java.sql.SQLException;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;
import javax.sql.DataSource;
import net.javacrumbs.shedlock.core.ClockProvider;
import net.javacrumbs.shedlock.core.LockConfiguration;
import net.javacrumbs.shedlock.core.LockProvider;
import net.javacrumbs.shedlock.core.SimpleLock;
import net.javacrumbs.shedlock.provider.jdbc.JdbcLockProvider;
import net.javacrumbs.shedlock.provider.jdbctemplate.JdbcTemplateLockProvider;
import org.mariadb.jdbc.MariaDbDataSource;
import org.postgresql.ds.PGSimpleDataSource;
import org.springframework.jdbc.core.JdbcTemplate;

/**
 * A member of a ShedLock lock: JDBC-URL USER PASSWORD LOCK AT-MOST-MS WORD...
 *
 * It extends the lock three times in its time, as ShedLock's own keep-alive does. The words:
 * `client-time` (plain JDBC, the member's own clock; without it the database's), `ahead=MS` (that
 * clock is ahead by so much), `never-extends` (a task that outlives its lockAtMostFor and does not
 * know of it).
 */
final class Main {
    private Main() {}

    public static void main(String[] words) throws Exception {
        Lines.leaveInOrder();
        String name = words[3];
        Duration atMost = Duration.ofMillis(Long.parseLong(words[4]));
        boolean clientTime = false;
        boolean extends_ = true;
        for (int i = 5; i < words.length; i++) {
            if (words[i].equals("client-time")) {
                clientTime = true;
            } else if (words[i].startsWith("ahead=")) {
                long ahead = Long.parseLong(words[i].substring("ahead=".length()));
                ClockProvider.setClock(Clock.offset(Clock.systemUTC(), Duration.ofMillis(ahead)));
            } else if (words[i].equals("never-extends")) {
                extends_ = false;
            } else {
                throw new IllegalArgumentException(words[i]);
            }
        }
        LockProvider provider = provider(source(words[0], words[1], words[2]), clientTime);
        while (!Lines.leaving()) {
            Optional<SimpleLock> lock = provider.lock(configuration(name, atMost));
            if (lock.isPresent()) {
                hold(lock.get(), atMost, extends_);
            } else {
                Lines.say("waiting");
            }
            Lines.pause();
        }
    }

    private static void hold(SimpleLock first, Duration atMost, boolean extends_)
            throws InterruptedException {
        SimpleLock lock = first;
        Lines.say("holding");
        Instant next = Instant.now().plus(atMost.dividedBy(3));
        while (!Lines.leaving()) {
            Lines.pause();
            Lines.say("beat");
            if (extends_ && Instant.now().isAfter(next)) {
                Optional<SimpleLock> longer = lock.extend(atMost, Duration.ZERO);
                if (longer.isEmpty()) {
                    Lines.say("stopped", "why", "it could not be extended");
                    return;
                }
                lock = longer.get();
                next = Instant.now().plus(atMost.dividedBy(3));
            }
        }
        Lines.say("stopped");
        lock.unlock();
    }

    private static LockConfiguration configuration(String name, Duration atMost) {
        return new LockConfiguration(ClockProvider.now(), name, atMost, Duration.ZERO);
    }

    private static LockProvider provider(DataSource source, boolean clientTime) {
        if (clientTime) {
            return new JdbcLockProvider(source);
        }
        return new JdbcTemplateLockProvider(JdbcTemplateLockProvider.Configuration.builder()
                .withJdbcTemplate(new JdbcTemplate(source))
                .usingDbTime()
                .build());
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
