"""Spangate: keyless, identity-aware access from an Istio mesh to Cloud Spanner."""

__version__ = "0.1.0"
