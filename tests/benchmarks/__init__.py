"""The benchmarks are themselves tried, with next to nothing to do: they must not rot unseen."""
