"""The brokers of the consumers' benchmark, the loops by hand, and the gap of a handover."""
