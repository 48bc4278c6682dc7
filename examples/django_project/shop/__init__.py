"""A shop: its orders are taken by every worker, and counted by one."""
