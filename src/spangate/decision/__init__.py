"""Policy x identity x accesses -> Decision with reasons. Pure."""
