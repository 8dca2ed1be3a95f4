"""Where the microseconds of a checked request go."""
