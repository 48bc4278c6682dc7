"""The programs that the benchmarks start: each says what happens to it, one JSON line an event."""
