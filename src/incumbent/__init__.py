"""Many replicas, exactly one active, highly available."""
