"""What is done in a term, written once for both faces."""
