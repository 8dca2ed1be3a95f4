"""How many certificates and tokens a second an authority issues with one core.

A certificate as the authority issues it, from the signing request to what is handed out: the request's signature
verified, the certificate signed, read back, checked, recorded. Beside it what cryptography takes for the signature
alone, and the authority whose state is kept: keys in encrypted files, a record on the disk before the certificate is
handed out.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from bench.parts.numbers import lower_quartile, noise_percent, table
from bench.parts.program import Found
from bench.parts.rig import CHECKOUT, TRUST_DOMAIN
from spangate.adapters.authority_store import FILE, AuthorityFile
from spangate.adapters.clock import SystemClock
from spangate.adapters.key_keepers import KeyFiles, MemoryKeys
from spangate.adapters.keys import SystemKeys, request_pem
from spangate.authority.ca import Authority
from spangate.authority.jwt_keys import KeptJwtKeys
from spangate.authority.jwt_svid import IssuedJwt, JwtAuthority

SIGNATURE, CERTIFICATE, KEPT = "one P-256 signature", "a certificate", "a certificate, recorded on the disk"
TOKEN, KEPT_TOKEN = "a token", "a token, recorded on the disk"
# As many workloads ask in turn: none finds anything warm that was its own.
WORKLOADS = 50
AUDIENCE = "https://orders.example"


@dataclass
class Series:
    """Of one way, round by round, in microseconds."""

    cpu_us: list[float] = field(default_factory=list)
    took_us: list[float] = field(default_factory=list)


def measure(folder: Path, count: int, rounds: int) -> Found:
    """`count` of each in each round, one after the other."""
    ways = _ways(folder)
    series = {name: Series() for name in ways}
    names = list(ways)
    for name in names:
        ways[name](0)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            cpu, begin = time.thread_time(), time.perf_counter()
            for number in range(count):
                ways[name](number)
            series[name].took_us.append((time.perf_counter() - begin) / count * 1e6)
            series[name].cpu_us.append((time.thread_time() - cpu) / count * 1e6)
    rows = []
    values: dict[str, object] = {}
    for name, one in series.items():
        cpu = lower_quartile(one.cpu_us)
        took, noise = statistics.median(one.took_us), noise_percent(one.cpu_us)
        rows.append((name, f"{1e6 / cpu:,.0f}", f"{cpu:,.0f} us", f"{noise:.0f} %", f"{took:,.0f} us"))
        values[name] = {"a_second_and_core": round(1e6 / cpu), "cpu_us": round(cpu, 1), "took_us": round(took, 1)}
    return Found({"issued": values}, table(("issued", "a second and core", "CPU", "noise", "took"), rows))


def _ways(folder: Path) -> Mapping[str, Callable[[int], object]]:
    clock, keys = SystemClock(), SystemKeys()
    requests = [request_pem(keys.new_key()) for _ in range(WORKLOADS)]
    key, digest = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256())
    to_be_signed = x509.load_pem_x509_csr(requests[0].encode()).tbs_certrequest_bytes
    here = Authority.create(TRUST_DOMAIN, clock, keys)
    store = AuthorityFile(folder / FILE)
    keeper = KeyFiles(folder / "keys", b"not a passphrase but a bench's")
    kept = Authority.open(TRUST_DOMAIN, clock, keys, keeper, store, record=store.record)

    def tokens(keeper: MemoryKeys | KeyFiles, record: Callable[[IssuedJwt], None]) -> JwtAuthority:
        return JwtAuthority(
            trust_domain=TRUST_DOMAIN,
            issuer="https://issuer.example",
            clock=clock,
            serials=keys,
            store=KeptJwtKeys(keeper, lambda: f"{keys.new_serial() % 2**64:016x}"),
            record=record,
        )

    tokens_here, tokens_kept = tokens(MemoryKeys(), lambda _: None), tokens(keeper, store.record_token)
    return {
        SIGNATURE: lambda _: key.sign(to_be_signed, digest),
        CERTIFICATE: lambda number: here.sign(requests[number % WORKLOADS], CHECKOUT),
        KEPT: lambda number: kept.sign(requests[number % WORKLOADS], CHECKOUT),
        TOKEN: lambda _: tokens_here.sign(CHECKOUT, (AUDIENCE,)),
        KEPT_TOKEN: lambda _: tokens_kept.sign(CHECKOUT, (AUDIENCE,)),
    }
