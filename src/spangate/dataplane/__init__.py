"""The data plane: the Lua filter that runs inside Envoy, as package data."""
