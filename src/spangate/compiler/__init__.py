"""Policy -> Envoy configuration. Pure: generates data for fixed programs."""
