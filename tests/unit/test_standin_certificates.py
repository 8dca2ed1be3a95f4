"""Client certificates at the stand-in: the chains that Google takes, and those it does not."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from fakes.clock import NOON, FakeClock
from fakes.google import POOL, TRUST_DOMAIN, FakeGoogle, FakeIssuer, exchange_fields
from fakes.keys import FakeKeys
from fakes.pki import SUBJECT_URI, Held, authority, leaf, subject_token
from spangate.adapters.keys import request_pem
from spangate.authority.ca import Authority
from spangate.errors import YourFault
from spangate.model.google import GoogleFederation, SubjectTokenType
from spangate.model.identity import SpiffeId
from spangate.standin.asked import FORM, Asked
from spangate.standin.certificates import fingerprint
from spangate.standin.derive import standin_config_for

MTLS = "urn:ietf:params:oauth:token-type:mtls"


@pytest.fixture(scope="module")
def issuer() -> FakeIssuer:
    return FakeIssuer()


@pytest.fixture(scope="module")
def root() -> Held:
    return authority("root", now=NOON)


@pytest.fixture(scope="module")
def between(root: Held) -> Held:
    return authority("intermediate", root, now=NOON)


@pytest.fixture
def google(issuer: FakeIssuer, root: Held) -> FakeGoogle:
    return with_anchors(issuer, root)


def with_anchors(issuer: FakeIssuer, *anchors: Held, **changes: Any) -> FakeGoogle:
    federation = GoogleFederation("123456789012", "mesh", "spangate", SubjectTokenType.MTLS)
    config = standin_config_for(federation, TRUST_DOMAIN, anchors_pem=[one.pem for one in anchors])
    config["pools"][0]["providers"][0].update(changes)
    return FakeGoogle(issuer, config)


def exchange(
    google: FakeGoogle, *chain: Held, shown: bytes | None = None, token: str | None = None, **changes: str
) -> tuple[int, Mapping[str, Any]]:
    text = subject_token(*chain) if token is None else token
    fields = {**exchange_fields(text), "subject_token_type": MTLS, **changes}
    certificate = chain[0].der if shown is None else shown
    return google.ask(
        Asked("POST", "/v1/token", FORM, body=urlencode(fields).encode(), certificate=certificate or None)
    )


def refused(answer: tuple[int, Mapping[str, Any]], why: str) -> None:
    status, body = answer
    assert (status, body["error"]) == (400, "invalid_grant"), body
    assert why in body["error_description"]


def test_a_workloads_certificate_becomes_an_access_token(google: FakeGoogle, between: Held) -> None:
    status, body = exchange(google, leaf(between, now=NOON), between)
    assert status == 200, body
    assert google.introspect(body["access_token"])["sub"] == "ns/shop/sa/checkout"


def test_what_our_own_authority_signs_is_taken(issuer: FakeIssuer) -> None:
    ours = Authority.create(TRUST_DOMAIN, FakeClock(), FakeKeys())
    signed = ours.sign(request_pem(ec.generate_private_key(ec.SECP256R1())), SpiffeId.parse(SUBJECT_URI))
    chain = [Held(one, None) for one in x509.load_pem_x509_certificates(signed.chain_pem.encode())]
    google = with_anchors(issuer, *(Held(one, None) for one in ours.roots()))
    assert exchange(google, *chain)[0] == 200


def test_a_token_lives_no_longer_than_the_certificate(google: FakeGoogle, root: Held) -> None:
    assert exchange(google, leaf(root, now=NOON, life=timedelta(minutes=11)))[1]["expires_in"] == 600


def test_intermediates_may_be_the_providers(issuer: FakeIssuer, root: Held, between: Held) -> None:
    store = {"trustAnchors": [{"pemCertificate": root.pem}], "intermediateCas": [{"pemCertificate": between.pem}]}
    google = with_anchors(issuer, root, x509={"trustStore": store})
    assert exchange(google, leaf(between, now=NOON))[0] == 200


@pytest.mark.parametrize(
    "key",
    [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)],
    ids=["P-384", "RSA 2048"],
)
def test_keys_that_are_taken(google: FakeGoogle, root: Held, key: Any) -> None:
    assert exchange(google, leaf(root, now=NOON, key=key))[0] == 200


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),
        rsa.generate_private_key(65537, 4104),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["P-521", "secp256k1", "RSA 1024", "RSA 4104", "Ed25519"],
)
def test_keys_that_are_not(google: FakeGoogle, root: Held, key: Any) -> None:
    status, body = exchange(google, leaf(root, now=NOON, key=key))
    assert (status, body["error"]) == (400, "invalid_grant")


# ------------------------------------------------------------------- chains


def chain_of(root: Held, between: int) -> list[Held]:
    """Leaf first, with that many CAs between it and the root."""
    found = [root]
    for number in range(between):
        found.append(authority(f"between {number}", found[-1], now=NOON))
    return [leaf(found[-1], now=NOON), *reversed(found[1:])]


@pytest.mark.parametrize("between", range(4))
def test_a_chain_has_five_certificates_with_leaf_and_root(google: FakeGoogle, root: Held, between: int) -> None:
    assert exchange(google, *chain_of(root, between))[0] == 200


def test_a_chain_of_six_is_too_long(google: FakeGoogle, root: Held) -> None:
    refused(exchange(google, *chain_of(root, 4)), "the chain has more than 5 certificates")


def test_a_chain_with_a_link_missing_leads_nowhere(google: FakeGoogle, root: Held) -> None:
    one, _, top = chain_of(root, 2)
    refused(exchange(google, one, top), "no chain leads to a trust anchor")


def test_a_foreign_root_leads_nowhere(google: FakeGoogle) -> None:
    stranger = authority("root", now=NOON)
    refused(exchange(google, leaf(stranger, now=NOON), stranger), "no chain leads to a trust anchor")


def test_old_and_new_root_are_believed_together(issuer: FakeIssuer, root: Held) -> None:
    new = authority("new root", now=NOON)
    google = with_anchors(issuer, root, new)
    assert exchange(google, leaf(root, now=NOON))[0] == exchange(google, leaf(new, now=NOON))[0] == 200


def test_a_leaf_that_signs_leaves_leads_nowhere(google: FakeGoogle, root: Held) -> None:
    middle = leaf(root, now=NOON)
    refused(exchange(google, leaf(middle, now=NOON), middle), "no chain leads to a trust anchor")


def test_the_leaf_is_first(google: FakeGoogle, between: Held) -> None:
    one = leaf(between, now=NOON)
    refused(exchange(google, between, one, shown=one.der), "the first certificate is not that of the connection")


def test_the_leaf_is_the_connections(google: FakeGoogle, root: Held) -> None:
    one, other = leaf(root, now=NOON), leaf(root, now=NOON)
    refused(exchange(google, one, shown=other.der), "is not that of the connection")
    refused(exchange(google, one, shown=b""), "shows no client certificate")


def test_name_constraints_hold(google: FakeGoogle, root: Held) -> None:
    for domain, status in (("shop.example", 200), ("other.example", 400)):
        middle = authority("constrained", root, now=NOON, permitted=[x509.DNSName(domain)])
        assert exchange(google, leaf(middle, dns=["a.shop.example"], now=NOON), middle)[0] == status


def test_ten_name_constraints_and_not_one_more(google: FakeGoogle, root: Held) -> None:
    for number, status in ((9, 200), (10, 400)):
        names = [x509.DNSName(f"{index}.example") for index in range(number)]
        middle = authority("constrained", root, now=NOON, permitted=[x509.DNSName("shop.example"), *names])
        assert exchange(google, leaf(middle, dns=["a.shop.example"], now=NOON), middle)[0] == status


def test_five_intermediates_of_one_name_and_key_and_not_one_more(issuer: FakeIssuer, root: Held) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    same = [{"pemCertificate": authority("same", root, key=key, now=NOON).pem} for _ in range(6)]
    anchors = [{"pemCertificate": root.pem}]
    with_anchors(issuer, root, x509={"trustStore": {"trustAnchors": anchors, "intermediateCas": same[:5]}})
    with pytest.raises(YourFault, match="more than 5 of one name and key"):
        with_anchors(issuer, root, x509={"trustStore": {"trustAnchors": anchors, "intermediateCas": same}})


# ------------------------------------------------------------------- leaves


def test_a_cas_certificate_is_no_leaf(google: FakeGoogle, root: Held, between: Held) -> None:
    for one in (leaf(root, now=NOON, ca=True, signs=True), leaf(root, now=NOON, signs=True), between, root):
        refused(exchange(google, one), "the first certificate is a CA's")


def test_two_uris_are_one_too_many(google: FakeGoogle, root: Held) -> None:
    one = leaf(root, [SUBJECT_URI, SUBJECT_URI + "2"], now=NOON)
    refused(exchange(google, one), "more than one URI")


@pytest.mark.parametrize("letter", ["\x00", "\n", "\t", "\x7f"])
def test_a_name_with_a_character_that_no_name_has_is_refused(google: FakeGoogle, root: Held, letter: str) -> None:
    refused(exchange(google, leaf(root, [f"{SUBJECT_URI}{letter}.evil"], now=NOON)), "a name in the SAN")


def test_a_certificate_of_another_trust_domain_is_rejected_by_the_condition(google: FakeGoogle, root: Held) -> None:
    status, body = exchange(google, leaf(root, ["spiffe://evil.example/ns/shop/sa/checkout"], now=NOON))
    assert (status, body["error"]) == (400, "unauthorized_client")


def test_a_leaf_lives_390_days_at_most(google: FakeGoogle, root: Held) -> None:
    assert exchange(google, leaf(root, now=NOON, life=timedelta(days=390)))[0] == 200
    refused(exchange(google, leaf(root, now=NOON, life=timedelta(days=391))), "lives longer than 390 days")


@pytest.mark.parametrize("days", [-2, 2])
def test_a_leaf_that_does_not_hold_now_is_refused(google: FakeGoogle, root: Held, days: int) -> None:
    refused(exchange(google, leaf(root, now=NOON + timedelta(days=days))), "has ended, or not begun")


def test_a_root_that_has_ended_is_none(google: FakeGoogle, root: Held) -> None:
    google.clock.advance(timedelta(days=3650))
    refused(exchange(google, leaf(root, now=google.clock.now())), "no chain leads to a trust anchor")


# ------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    "token",
    ["x", "{}", "[]", "[5]", '["x"]', '["!!!!"]', "[" * 100_000, json.dumps([""] * 12), json.dumps(["QUFB"])],
)
def test_what_is_no_list_of_certificates_is_refused(google: FakeGoogle, root: Held, token: str) -> None:
    refused(exchange(google, leaf(root, now=NOON), token=token), "")


def test_an_oversize_list_is_refused(google: FakeGoogle, root: Held) -> None:
    refused(exchange(google, leaf(root, now=NOON), token=json.dumps(["A" * 600_000])), "it is too long")
    refused(exchange(google, leaf(root, now=NOON), token=json.dumps(["A" * 60_000])), "longer than 32768 bytes")


def test_a_certificate_with_a_byte_changed_is_never_taken(google: FakeGoogle, root: Held) -> None:
    good = leaf(root, now=NOON).der
    for at in range(0, len(good), 7):
        bad = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        token = json.dumps([base64.b64encode(bad).decode()])
        assert exchange(google, token=token, shown=bad)[0] == 400


# ------------------------------------------------------------------- claims and bindings


def test_expressions_see_what_the_documents_name(issuer: FakeIssuer, root: Held) -> None:
    mapping = {
        "google.subject": "assertion.subject.dn.cn",
        "attribute.uri": "assertion.san.uri",
        "attribute.dns": "assertion.san.dns",
        "attribute.issuer": "assertion.issuer.dn.cn",
        "attribute.serial": "assertion.serialNumberHex",
        "attribute.print": "assertion.sha256Fingerprint",
        "attribute.none": "assertion.subject.dn.ou",
    }
    google = with_anchors(issuer, root, attributeMapping=mapping, attributeCondition="")
    one = leaf(root, dns=["a.shop.example", "b.shop.example"], name="checkout", now=NOON)
    token = str(exchange(google, one)[1]["access_token"])
    holder = google.standin._tokens._mint.read(token)
    assert holder is not None
    assert holder.mapped is not None
    assert holder.mapped.subject == "checkout"
    assert holder.mapped.attributes == {
        "uri": SUBJECT_URI,
        "dns": "a.shop.example",
        "issuer": "root",
        "serial": f"{one.certificate.serial_number:x}",
        "print": base64.b64encode(hashlib.sha256(one.der).digest()).decode(),
    }


def test_a_certificate_without_san_may_be_mapped_by_its_subject(issuer: FakeIssuer, root: Held) -> None:
    mapping = {"google.subject": "assertion.subject.dn.cn"}
    google = with_anchors(issuer, root, attributeMapping=mapping, attributeCondition="")
    assert exchange(google, leaf(root, [], name="checkout", now=NOON))[0] == 200


def test_a_provider_of_the_other_kind_takes_no_certificate(issuer: FakeIssuer, google: FakeGoogle, root: Held) -> None:
    assert exchange(FakeGoogle(issuer), leaf(root, now=NOON))[1]["error"] == "invalid_request"
    assert google.exchange(google.token())[1]["error"] == "invalid_request"


def test_a_bound_token_is_good_only_with_its_certificate(issuer: FakeIssuer, google: FakeGoogle, root: Held) -> None:
    one, other = leaf(root, now=NOON), leaf(root, now=NOON)
    options = json.dumps({"bindCertFingerprint": fingerprint(one.der)})
    assert exchange(google, other, options=options)[1]["error"] == "invalid_request"
    token = str(exchange(google, one, options=options)[1]["access_token"])
    for shown, status in ((one.der, 200), (other.der, 401), (None, 401)):
        asked = Asked("GET", f"/v1/{POOL}/allowedLocations", "", f"Bearer {token}", certificate=shown)
        assert google.ask(asked)[0] == status


def test_four_anchors_are_one_too_many(issuer: FakeIssuer, root: Held) -> None:
    with pytest.raises(YourFault, match="has more than 3 entries"):
        with_anchors(issuer, root, root, root, root)
