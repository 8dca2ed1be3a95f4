"""As many file descriptors as this process may have, within bounds."""

from __future__ import annotations

import resource

# Twice what 10,000 connections with a descriptor for their process take.
DESCRIPTORS_MAX = 65_536


def more_descriptors() -> int:
    """How many there are now: what the system allows without asking, DESCRIPTORS_MAX at most."""
    now, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if allowed == resource.RLIM_INFINITY else min(DESCRIPTORS_MAX, allowed)
    if now == resource.RLIM_INFINITY or now >= wanted:
        return DESCRIPTORS_MAX if now == resource.RLIM_INFINITY else now
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, allowed))
    return wanted
