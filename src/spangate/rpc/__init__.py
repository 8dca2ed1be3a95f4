"""Spanner request bytes -> shape. Pure."""
