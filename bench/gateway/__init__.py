"""What the gateway costs: requests per second, latency and processor time, beside plain Envoy in the same run."""
