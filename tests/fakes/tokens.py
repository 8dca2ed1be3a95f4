"""A JwtAuthority in memory, for whatever needs one."""

from __future__ import annotations

from typing import Any

from spangate.adapters.key_keepers import MemoryKeys
from spangate.adapters.keys import SystemKeys
from spangate.authority.jwt_keys import KeptJwtKeys
from spangate.authority.jwt_svid import JwtAuthority


def kept() -> KeptJwtKeys:
    return KeptJwtKeys(MemoryKeys(), lambda: f"{SystemKeys().new_serial() % 2**64:016x}")


def jwt_authority(
    clock: Any, trust_domain: str = "shop.example", issuer: str = "https://id.shop.example"
) -> JwtAuthority:
    return JwtAuthority(
        trust_domain=trust_domain,
        issuer=issuer,
        clock=clock,
        serials=SystemKeys(),
        store=kept(),
        record=lambda _: None,
    )
