"""The work itself: periodic tasks, pollers, consumers, and what runs them."""
