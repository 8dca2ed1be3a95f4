"""Google's names for providers, pools and principals.

Rules: a provider is named exactly, with the project's number, never its id; a principal is named by its pool.
Source: sts v1 (audience), IAM principal identifiers.
Not here: whether anything of that name exists (config.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from spangate.model.google import POOL, PROJECT_NUMBER
from spangate.standin.config import Pool
from spangate.standin.mapping import Mapped

_IAM = "iam.googleapis.com"
_AUDIENCE = re.compile(
    rf"//iam\.googleapis\.com/(projects/{PROJECT_NUMBER}/locations/global/workloadIdentityPools/{POOL})"
    rf"/providers/({POOL})",
    re.ASCII,
)


def read_audience(text: str) -> tuple[str, str] | None:
    """The pool's resource name and the provider's id, or None if `text` names no provider."""
    match = _AUDIENCE.fullmatch(text)
    return (match[1], match[2]) if match else None


def default_audiences(pool: Pool, provider: str) -> frozenset[str]:
    """`aud` of tokens for a provider that lists none: its name, with or without `https:`."""
    name = f"//{_IAM}/{pool.name}/providers/{provider}"
    return frozenset({name, f"https:{name}"})


def principal(pool: str, subject: str) -> str:
    """One federated identity. `pool` is a resource name."""
    return f"principal://{_IAM}/{pool}/subject/{subject}"


def members(pool: str, mapped: Mapped) -> Iterator[str]:
    """Every name by which a policy may mean this identity."""
    yield principal(pool, mapped.subject)
    every = f"principalSet://{_IAM}/{pool}"
    yield f"{every}/*"
    for group in mapped.groups:
        yield f"{every}/group/{group}"
    for name, value in mapped.attributes.items():
        yield f"{every}/attribute.{name}/{value}"
