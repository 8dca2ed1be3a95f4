"""The decision service: identify -> decide -> record."""
