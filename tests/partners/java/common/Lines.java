import java.time.Duration;

/** What a member says and hears: the lines of tests/partners/member.py, and SIGTERM. */
final class Lines {
    static final Duration BEAT = Duration.ofMillis(100);

    private static volatile boolean leaving;

    private Lines() {}

    /** Write one line: an event, and names and values of more in turn. */
    static synchronized void say(String event, Object... more) {
        StringBuilder line = new StringBuilder();
        line.append("{\"event\": ").append(quoted(event));
        line.append(", \"at\": ").append(System.nanoTime() / 1e9);
        for (int i = 0; i < more.length; i += 2) {
            line.append(", ").append(quoted(more[i].toString())).append(": ");
            Object value = more[i + 1];
            boolean plain = value == null || value instanceof Number || value instanceof Boolean;
            line.append(plain ? String.valueOf(value) : quoted(value.toString()));
        }
        System.out.println(line.append("}"));
        System.out.flush();
    }

    /** Call this first, on the main thread: SIGTERM then waits until that thread has ended. */
    static void leaveInOrder() {
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            leaving = true;
            try {
                main.join(30_000);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }));
    }

    /** Whether SIGTERM has come: then give the lock up in order, and return from main. */
    static boolean leaving() {
        return leaving;
    }

    /** Wait for a tenth of a second. */
    static void pause() throws InterruptedException {
        Thread.sleep(BEAT.toMillis());
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ') {
                out.append(String.format("\\u%04x", (int) c));
            } else {
                out.append(c);
            }
        }
        return out.append('"').toString();
    }
}
