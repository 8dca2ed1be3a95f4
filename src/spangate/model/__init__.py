"""Shared nouns as frozen values. Everything imports this; this imports nothing of ours."""
