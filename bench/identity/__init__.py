"""`python -m bench.identity`: what identities, tokens and connections cost."""
