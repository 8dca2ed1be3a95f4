"""The authority: what it signs, what it refuses, what it records."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fakes.clock import NOON, FakeClock
from fakes.keys import FakeKeys
from spangate.adapters.keys import SystemKeys, request_pem
from spangate.authority import build
from spangate.authority.ca import Authority
from spangate.authority.check import BadCertificate
from spangate.authority.ledger import Issued
from spangate.authority.template import INTERMEDIATE_LIFETIME, SVID_BACKDATE, SVID_LIFETIME_MAX
from spangate.errors import TryAgain, YourFault
from spangate.model.identity import BadSpiffeId, SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")


def request() -> str:
    return request_pem(ec.generate_private_key(ec.SECP256R1()))


def leaf_of(chain_pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(chain_pem.encode())[0]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def authority(clock: FakeClock) -> Authority:
    return Authority.create("shop.example", clock, FakeKeys())


def test_a_leaf_names_exactly_the_asked_identity_and_has_no_subject(authority: Authority) -> None:
    leaf = leaf_of(authority.sign(request(), CHECKOUT).chain_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert list(names.value) == [x509.UniformResourceIdentifier(str(CHECKOUT))]
    assert names.critical
    assert list(leaf.subject) == []


def test_a_leaf_carries_the_key_of_the_request_for_both_ends_of_tls_and_nothing_more(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    leaf = leaf_of(authority.sign(request_pem(key), CHECKOUT).chain_pem)
    assert leaf.public_key() == key.public_key()
    assert set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert not constraints.value.ca


def test_dns_names_stand_beside_the_identity_only_when_asked(authority: Authority) -> None:
    leaf = leaf_of(authority.sign(request(), CHECKOUT, ("localhost", "gw.shop.example")).chain_pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "gw.shop.example"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(CHECKOUT)]


@pytest.mark.parametrize(
    "name",
    [
        *("", "*.example", "a..b", ".a", "a.", "-a", "a-", "UPPER", "127.0.0.1", "1", "a_b", "ü", "a b", "a\n"),
        *("x" * 64, "a." * 126 + "ab"),
    ],
)
def test_what_is_not_one_exact_host_name_is_refused(authority: Authority, name: str) -> None:
    with pytest.raises(YourFault, match="is not a lower-case DNS name"):
        authority.sign(request(), CHECKOUT, (name,))


def test_dns_names_may_neither_repeat_nor_be_many(authority: Authority) -> None:
    with pytest.raises(YourFault, match="asked twice"):
        authority.sign(request(), CHECKOUT, ("a", "a"))
    with pytest.raises(YourFault, match="more than 8 DNS names"):
        authority.sign(request(), CHECKOUT, tuple(f"n{i}" for i in range(9)))


def test_a_leaf_lives_one_hour_and_began_half_a_minute_ago(authority: Authority) -> None:
    issued = authority.sign(request(), CHECKOUT)
    leaf = leaf_of(issued.chain_pem)
    assert leaf.not_valid_before_utc == NOON - timedelta(seconds=30)
    assert leaf.not_valid_after_utc == issued.not_after == NOON + timedelta(hours=1)


class HastyClock(FakeClock):
    """A second has passed whenever it is looked at again."""

    def now(self) -> datetime:
        self.advance(timedelta(seconds=1))
        return super().now()


def test_a_second_that_passes_while_a_leaf_is_made_does_not_lengthen_its_life() -> None:
    authority = Authority.create("shop.example", HastyClock(), FakeKeys())
    leaf = leaf_of(authority.sign(request(), CHECKOUT).chain_pem)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc == SVID_LIFETIME_MAX + SVID_BACKDATE


def test_what_the_request_asks_for_itself_is_ignored(authority: Authority) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://shop.example/ns/x/sa/admin")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    leaf = leaf_of(authority.sign(greedy, CHECKOUT).chain_pem)
    assert list(leaf.subject) == []
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(str(CHECKOUT))]


def test_another_trust_domain_is_refused(authority: Authority) -> None:
    with pytest.raises(YourFault, match=r"`spiffe://other\.example/ns/a/sa/b` is not in the trust domain"):
        authority.sign(request(), SpiffeId.parse("spiffe://other.example/ns/a/sa/b"))


def test_a_trust_domain_that_is_none_makes_no_authority() -> None:
    with pytest.raises(BadSpiffeId):
        Authority.create("shop.example/x", FakeClock(), FakeKeys())


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(seconds=-1), SVID_LIFETIME_MAX + timedelta(seconds=1)])
def test_a_lifetime_out_of_bounds_makes_no_authority(lifetime: timedelta) -> None:
    with pytest.raises(YourFault, match="certificate lifetime"):
        Authority.create("shop.example", FakeClock(), FakeKeys(), svid_lifetime=lifetime)


def test_no_leaf_outlives_the_authority(authority: Authority, clock: FakeClock) -> None:
    clock.advance(INTERMEDIATE_LIFETIME - SVID_LIFETIME_MAX)
    authority.sign(request(), CHECKOUT)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(TryAgain, match="the authority ends at 2031-01-02T12:00:00Z"):
        authority.sign(request(), CHECKOUT)


def test_a_clock_set_back_a_little_makes_no_leaf_older_than_its_issuer(authority: Authority, clock: FakeClock) -> None:
    clock.advance(timedelta(seconds=-50))
    issued = authority.sign(request(), CHECKOUT)
    leaf, intermediate = x509.load_pem_x509_certificates(issued.chain_pem.encode())
    assert leaf.not_valid_before_utc == intermediate.not_valid_before_utc
    clock.advance(timedelta(seconds=-50))
    with pytest.raises(TryAgain, match="the clock stands before the beginning"):
        authority.sign(request(), CHECKOUT)


def test_every_certificate_is_recorded_with_facts_and_without_keys() -> None:
    records: list[Issued] = []
    keys = FakeKeys()
    authority = Authority.create("shop.example", FakeClock(), keys, record=records.append)
    issued = authority.sign(request(), CHECKOUT, ("localhost",))
    assert [(record.kind, record.identity, record.serial) for record in records] == [
        ("root", "spiffe://shop.example", 3),
        ("intermediate", "spiffe://shop.example", 4),
        ("svid", str(CHECKOUT), 5),
    ]
    assert records[2] == Issued(
        "svid", str(CHECKOUT), issued.serial, NOON - timedelta(seconds=30), issued.not_after, ("localhost",), 1, 1
    )
    assert "KEY" not in repr(records)


def test_what_cannot_be_recorded_is_not_issued() -> None:
    full = False

    def record(_: Issued) -> None:
        if full:
            raise OSError("disk full")

    authority = Authority.create("shop.example", FakeClock(), FakeKeys(), record=record)
    full = True
    with pytest.raises(OSError, match="disk full"):
        authority.sign(request(), CHECKOUT)


def test_a_certificate_that_fails_its_check_is_neither_recorded_nor_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = x509.KeyUsage(*[True] * 9)

    records: list[Issued] = []
    authority = Authority.create("shop.example", FakeClock(), FakeKeys(), record=records.append)
    monkeypatch.setattr(build, "_usage", lambda **_: everything)  # a defect in the building half
    with pytest.raises(BadCertificate, match="key usage"):
        authority.sign(request(), CHECKOUT)
    assert [record.kind for record in records] == ["root", "intermediate"]


def test_serial_numbers_of_the_system_are_long_positive_and_distinct() -> None:
    serials = {SystemKeys().new_serial() for _ in range(100)}
    assert len(serials) == 100
    assert all(0 < serial < 1 << 159 for serial in serials)
    assert max(serials).bit_length() > 128


def test_the_bundle_is_the_root_alone_and_the_chain_does_not_hold_it(authority: Authority) -> None:
    (root,) = x509.load_pem_x509_certificates(authority.bundle_pem().encode())
    leaf, intermediate = x509.load_pem_x509_certificates(authority.sign(request(), CHECKOUT).chain_pem.encode())
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(root)
    assert root.issuer == root.subject
    assert intermediate != root


def test_signing_certificates_carry_the_trust_domain_and_bound_the_path(authority: Authority) -> None:
    (root,) = x509.load_pem_x509_certificates(authority.bundle_pem().encode())
    intermediate = x509.load_pem_x509_certificates(authority.sign(request(), CHECKOUT).chain_pem.encode())[1]
    for certificate, path_length in ((root, 1), (intermediate, 0)):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.UniformResourceIdentifier("spiffe://shop.example")]
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.key_cert_sign
        assert not usage.digital_signature


def test_two_authorities_do_not_vouch_for_one_another() -> None:
    one, two = (Authority.create("shop.example", FakeClock(), FakeKeys()) for _ in range(2))
    (root_of_two,) = x509.load_pem_x509_certificates(two.bundle_pem().encode())
    intermediate_of_one = x509.load_pem_x509_certificates(one.sign(request(), CHECKOUT).chain_pem.encode())[1]
    with pytest.raises((InvalidSignature, ValueError)):
        intermediate_of_one.verify_directly_issued_by(root_of_two)
