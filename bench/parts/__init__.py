"""What the measuring programs share: processes, load, clients, numbers."""
