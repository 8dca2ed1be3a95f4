"""The only code that touches the world: processes, sockets, files, clocks, randomness."""
