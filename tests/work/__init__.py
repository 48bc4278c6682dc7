"""Programs that show the work itself: `python -m tests.work.dst`, and others beside it."""
