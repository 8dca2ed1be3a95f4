"""Audit records: what happened, joined from the gateway's lines and the checkpoint's decisions. Pure."""
