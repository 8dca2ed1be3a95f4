"""Restated roots: the same authorities, each for the names of its own trust domain only.

Another verifier than Envoy's holds them to it here: the one of cryptography. Real Envoy does in tests/e2e/mesh.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fakes.keys import FakeKeys
from fakes.mesh_ca import MeshCa, pem
from spangate.authority.anchors import DomainBundle, anchors_pem
from spangate.errors import YourFault

A, B = MeshCa("cluster.local"), MeshCa("cluster.local")


def bundle(*names: str, roots: tuple[MeshCa, ...]) -> DomainBundle:
    return DomainBundle(names, tuple(root.certificate for root in roots))


def anchors(*bundles: DomainBundle) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(anchors_pem(bundles, FakeKeys()).encode())


def constraints(certificate: x509.Certificate) -> x509.NameConstraints:
    found = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert found.critical
    return found.value


def uris(*names: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(name) for name in names]


def test_the_roots_of_a_single_trust_domain_stay_what_they_are() -> None:
    assert anchors(bundle("a", "alias", roots=(A, B))) == [A.certificate, B.certificate]


def test_each_of_several_is_held_to_its_names_and_is_else_the_same() -> None:
    first, second = anchors(bundle("a", "old.a", roots=(A,)), bundle("b", roots=(B,)))
    assert constraints(first).permitted_subtrees == uris("a", "old.a")
    assert constraints(second).permitted_subtrees == uris("b")
    for anchor, root in ((first, A.certificate), (second, B.certificate)):
        assert anchor.subject == root.subject
        assert anchor.public_key() == root.public_key()
        assert anchor.not_valid_before_utc == root.not_valid_before_utc
        assert anchor.not_valid_after_utc == root.not_valid_after_utc
        kept = {extension.oid: extension.value for extension in anchor.extensions}
        for extension in root.extensions:
            assert kept[extension.oid] == extension.value


def test_the_key_that_signs_an_anchor_is_nobodys() -> None:
    first, second = anchors(bundle("a", roots=(A,)), bundle("b", roots=(B,)))
    for anchor in (first, second):
        for root in (A, B):
            with pytest.raises(InvalidSignature):
                anchor.verify_directly_issued_by(root.certificate)


def test_a_root_of_two_trust_domains_may_sign_for_both() -> None:
    (anchor,) = anchors(bundle("a", roots=(A,)), bundle("b", roots=(A,)))
    assert constraints(anchor).permitted_subtrees == uris("a", "b")


def test_a_root_that_was_renewed_stands_once_with_its_later_end() -> None:
    renewed = MeshCa("cluster.local", key=A.key, days=99)
    first, _ = anchors(bundle("a", roots=(renewed, A)), bundle("b", roots=(B,)))
    assert first.not_valid_after_utc == renewed.certificate.not_valid_after_utc


def test_roots_of_one_name_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(YourFault, match=r"two roots have the name `O=cluster\.local`"):
        anchors(bundle("a", roots=(A,)), bundle("b", roots=(MeshCa("cluster.local", key_identifier=False),)))
    assert len(anchors(bundle("a", roots=(A,)), bundle("b", roots=(MeshCa("other", key_identifier=False),)))) == 2


def test_a_roots_own_constraints_stay() -> None:
    own = x509.NameConstraints([x509.DNSName("a.example")], uris("x.a"))
    root = MeshCa("a", extensions=[own])
    found = constraints(anchors(bundle("a", roots=(root,)), bundle("b", roots=(B,)))[0])
    assert found.permitted_subtrees == [*uris("a"), x509.DNSName("a.example")]
    assert found.excluded_subtrees == uris("x.a")


def test_a_root_that_may_not_sign_for_its_trust_domain_is_refused() -> None:
    root = MeshCa("a", extensions=[x509.NameConstraints(uris("elsewhere", "a"), None)])
    assert anchors(bundle("a", roots=(root,)), bundle("b", roots=(B,)))
    with pytest.raises(YourFault, match="its own name constraints forbid it"):
        anchors(bundle("a", "alias", roots=(root,)), bundle("b", roots=(B,)))


def test_what_another_root_signs_is_accepted_by_nobody() -> None:
    """By a second verifier that knows name constraints, if it takes a restated root at all."""
    store = Store(anchors(bundle("a.example", roots=(A,)), bundle("b.example", roots=(B,))))
    verifier = PolicyBuilder().store(store).time(datetime.now(UTC)).build_client_verifier()
    foreign = B.leaf("spiffe://a.example/ns/shop/sa/checkout")
    with pytest.raises(VerificationError):
        verifier.verify(foreign.certificate, [])


def test_they_are_pem_that_others_read() -> None:
    assert anchors_pem([bundle("a", roots=(A,))], FakeKeys()) == pem(A.certificate)
