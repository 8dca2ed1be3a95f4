"""Measuring programs. Nothing here asserts a time."""
