"""Whatever identity is asked for: other people's verifiers accept the chain, for that identity and for now only."""

from __future__ import annotations

import shutil
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError, VerifiedClient
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.clock import NOON, FakeClock
from fakes.keys import FakeKeys
from spangate.adapters.keys import request_pem
from spangate.authority.ca import Authority
from spangate.model.identity import SpiffeId

REQUEST = request_pem(ec.generate_private_key(ec.SECP256R1()))
SEGMENT = st.text("abcXYZ019._-", min_size=1, max_size=40).filter(lambda text: text not in {".", ".."})
TRUST_DOMAIN = st.text("abcxyz019._-", min_size=1, max_size=60)


def verified_by_cryptography(chain_pem: str, bundle_pem: str, moment: datetime) -> VerifiedClient:
    leaf, *intermediates = x509.load_pem_x509_certificates(chain_pem.encode())
    roots = x509.load_pem_x509_certificates(bundle_pem.encode())
    return PolicyBuilder().store(Store(roots)).time(moment).build_client_verifier().verify(leaf, intermediates)


@settings(max_examples=60, deadline=None)
@given(TRUST_DOMAIN, st.lists(SEGMENT, min_size=1, max_size=8), st.integers(0, 3600))
def test_a_signed_identity_verifies_from_its_beginning_to_its_end_and_names_nobody_else(
    trust_domain: str, segments: list[str], seconds: int
) -> None:
    identity = SpiffeId.parse(f"spiffe://{trust_domain}/{'/'.join(segments)}")
    authority = Authority.create(trust_domain, FakeClock(), FakeKeys())
    chain = authority.sign(REQUEST, identity).chain_pem
    found = verified_by_cryptography(chain, authority.bundle_pem(), NOON + timedelta(seconds=seconds))
    assert found.subjects == [x509.UniformResourceIdentifier(str(identity))]


@pytest.mark.parametrize("moment", [NOON - timedelta(seconds=31), NOON + timedelta(hours=1, seconds=1)])
def test_before_its_beginning_and_after_its_end_it_does_not_verify(moment: datetime) -> None:
    authority = Authority.create("shop.example", FakeClock(), FakeKeys())
    chain = authority.sign(REQUEST, SpiffeId.parse("spiffe://shop.example/a")).chain_pem
    with pytest.raises(VerificationError):
        verified_by_cryptography(chain, authority.bundle_pem(), moment)


def test_another_authority_of_the_same_trust_domain_does_not_verify_it() -> None:
    authority, other = (Authority.create("shop.example", FakeClock(), FakeKeys()) for _ in range(2))
    chain = authority.sign(REQUEST, SpiffeId.parse("spiffe://shop.example/a")).chain_pem
    with pytest.raises(VerificationError):
        verified_by_cryptography(chain, other.bundle_pem(), NOON)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the second opinion is the openssl command's")
@pytest.mark.parametrize("purpose", ["sslclient", "sslserver"])
def test_openssl_accepts_the_chain_in_its_strict_mode_and_refuses_a_leaf_as_issuer(
    tmp_path: Path, purpose: str
) -> None:
    authority = Authority.create("shop.example", FakeClock(), FakeKeys())
    issued = authority.sign(REQUEST, SpiffeId.parse("spiffe://shop.example/ns/a/sa/b"), ("localhost",))
    (tmp_path / "chain.pem").write_text(issued.chain_pem)
    (tmp_path / "root.pem").write_text(authority.bundle_pem())

    def verify(*options: str) -> int:
        command = ["openssl", "verify", "-x509_strict", "-attime", str(int(NOON.timestamp())), *options, "chain.pem"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode

    assert verify("-CAfile", "root.pem", "-untrusted", "chain.pem", "-purpose", purpose) == 0
    assert verify("-CAfile", "root.pem", "-purpose", purpose) != 0
    assert verify("-CAfile", "chain.pem", "-no-CApath", "-purpose", purpose) != 0
