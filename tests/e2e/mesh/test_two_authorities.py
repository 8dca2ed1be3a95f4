"""Promise: one gateway takes the identities of its own authority and a mesh's as they are, each root for its own names.

The mesh is istiod's in everything but the process: roots of one name, an intermediate, leaves with an empty subject.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from google.cloud.spanner_v1 import types

from conformance.engines.http2 import alert
from e2e.harness import (
    GATEWAY,
    TRUST_DOMAIN,
    Audit,
    Client,
    Gateway,
    Refused,
    Site,
    eventually,
    session_of,
    signed_by_us,
    site,
)
from fakes.mesh_ca import Leaf, MeshCa, pem, replace_file, spiffe_bundle
from spangate.adapters.anchor_check import AnchorCheck
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.adapters.sds_door import Secrets, SecretSource, sds_app
from spangate.adapters.svid_client import Svid, sign_here
from spangate.adapters.trust_files import GatewaySecrets, TrustFiles
from spangate.adapters.unix_server import UnixServer
from spangate.adapters.zetasql_engine import precompile
from spangate.app.gateway_trust import watch
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e

MESH, OLD, OTHER = "cluster.local", "old.example", "other.example"
INTENT = (
    (
        "\ndatabases:",
        f"""
trust_domains:
  {MESH}: {{bundle: istio/root-cert.pem, aliases: [{OLD}]}}
  {OTHER}: {{bundle: other.json}}

databases:""",
    ),
    ("identities:\n", f"identities:\n  courier: {{workload: shop/courier, trust_domain: {MESH}}}\n"),
    ("access:\n", "access:\n  courier: {shop: {read: [Orders]}}\n"),
)
COURIER = SpiffeId.workload(MESH, "shop", "courier")
OLD_COURIER = SpiffeId.workload(OLD, "shop", "courier")
CHECKOUT = SpiffeId.workload(TRUST_DOMAIN, "shop", "checkout")
# A change of a file is taken at the second look, Envoy asks each second; a loaded machine gets patience.
SECONDS_MAX = 10.0


@dataclass
class Mesh:
    """A gateway that trusts three authorities."""

    site: Site
    gateway: Gateway
    bundle: Path
    istiod: MeshCa
    intermediate: MeshCa
    other: MeshCa
    problems: list[str] = field(default_factory=list)

    def svid(self, leaf: Leaf, identity: SpiffeId = COURIER) -> Svid:
        trusted = self.site.svid(GATEWAY).secrets.bundle_pem
        return Svid(identity, Secrets(leaf.chain_pem, leaf.key_pem, trusted), leaf.certificate.not_valid_after_utc, 1)

    def ask(self, shows: Svid | Leaf, owner: SpiffeId = COURIER) -> bytes | Refused:
        """To read with that certificate, in a session of `owner`."""
        svid = self.svid(shows) if isinstance(shows, Leaf) else shows
        with self.gateway.client(svid) as client:
            return read(client, owner)

    def is_let_in(self, leaf: Leaf, owner: SpiffeId = COURIER) -> bool:
        return not isinstance(self.ask(leaf, owner), Refused)

    def refusal(self, leaf: Leaf) -> str:
        answer = self.ask(leaf)
        assert isinstance(answer, Refused), answer
        assert answer.code is grpc.StatusCode.PERMISSION_DENIED, answer
        return answer.details


def told(audit: Audit, details: str) -> dict[str, Any]:
    """The audit line of the refusal that said `details`."""
    found = eventually(lambda: [line for line in audit.lines() if line["detail"] == details], "an audit line", 10)
    return found[-1]


def read(client: Client, owner: SpiffeId) -> bytes | Refused:
    return client.call(
        "ExecuteSql", types.ExecuteSqlRequest(session=session_of(owner), sql="SELECT OrderId FROM Orders")
    )


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    precompile()
    folder = tmp_path_factory.mktemp("mesh")
    istiod, other = MeshCa(MESH), MeshCa(MESH)
    with ExitStack() as stack:
        found = stack.enter_context(site(folder / "site", *INTENT))
        bundle = found.folder / "istio" / "root-cert.pem"
        bundle.parent.mkdir()
        bundle.write_text(pem(istiod.certificate))
        (found.folder / "other.json").write_text(spiffe_bundle(other))
        problems: list[str] = []
        files = TrustFiles(found.folder / "spangate.yaml", problem=problems.append)
        own = SecretSource(sign_here(found.authority, SystemKeys(), GATEWAY, ("localhost",)).secrets)
        apart = AnchorCheck(found.sockets, SystemKeys(), SystemClock()).require
        secrets = GatewaySecrets(own, TRUST_DOMAIN, files, SystemKeys(), problem=problems.append, apart=apart)
        watch([files.look], stack, problem=problems.append)
        stack.enter_context(UnixServer(sds_app(secrets), found.sockets / "mesh.sock", name="sds"))
        gateway = found.start_gateway(change=("sds.sock", "mesh.sock"))
        yield Mesh(found, gateway, bundle, istiod, MeshCa("istiod", istiod, path_length=0), other, problems)
        assert problems == []


def test_both_kinds_of_identity_come_through_one_gateway(mesh: Mesh) -> None:
    audit = mesh.site.audit()
    assert not isinstance(mesh.ask(mesh.site.svid(CHECKOUT), CHECKOUT), Refused)
    assert mesh.is_let_in(mesh.istiod.leaf(str(COURIER)))
    assert mesh.is_let_in(mesh.intermediate.leaf(str(COURIER)))
    lines = [line for line in audit.wait(3) if line["decision"] == "allow"]
    assert [(line["identity"], line["name"], line["presented_identity"]) for line in lines] == [
        (str(CHECKOUT), "checkout", None),
        (str(COURIER), "courier", None),
        (str(COURIER), "courier", None),
    ]


def test_a_workload_under_an_alias_is_the_same_workload(mesh: Mesh) -> None:
    """Its session too; and the audit says both names."""
    audit = mesh.site.audit()
    assert mesh.is_let_in(mesh.intermediate.leaf(str(OLD_COURIER)))
    (line,) = audit.wait(1)
    assert (line["identity"], line["name"]) == (str(COURIER), "courier")
    assert (line["presented_identity"], line["claimed_identity"], line["problem"]) == (str(OLD_COURIER), None, None)


def test_a_workload_of_the_same_name_in_another_trust_domain_is_somebody_else(mesh: Mesh) -> None:
    stranger = SpiffeId.workload(OTHER, "shop", "courier")
    answer = mesh.ask(mesh.other.leaf(str(stranger)), stranger)
    assert isinstance(answer, Refused)
    assert f"{stranger} is not an identity of the policy" in answer.details


@pytest.mark.parametrize(
    ("signer", "trust_domain"),
    [
        ("istiod", TRUST_DOMAIN),
        ("intermediate", TRUST_DOMAIN),
        ("istiod", OTHER),
        ("other", MESH),
        ("other", OLD),
        ("other", TRUST_DOMAIN),
        ("other", f"{OTHER}.{MESH}"),
    ],
)
def test_no_root_signs_for_another_trust_domain(mesh: Mesh, signer: str, trust_domain: str) -> None:
    authority: MeshCa = getattr(mesh, signer)
    name = SpiffeId.workload(trust_domain, "shop", "courier")
    assert "another authority or trust domain" in mesh.refusal(authority.leaf(str(name)))


def test_our_own_authority_signs_for_no_mesh(mesh: Mesh) -> None:
    answer = mesh.ask(signed_by_us(mesh.site, str(COURIER)))
    assert isinstance(answer, Refused)
    assert "another authority or trust domain" in answer.details


def test_an_authority_that_calls_itself_by_anothers_name_signs_for_no_one(mesh: Mesh) -> None:
    for impostor in (MeshCa(MESH, mesh.other), MeshCa("istiod", mesh.other), MeshCa(MESH)):
        assert "another authority or trust domain" in mesh.refusal(impostor.leaf(str(COURIER)))


BAD = {
    "two names": ([str(COURIER), str(COURIER) + "2"], "exactly one URI name"),
    "two names of two trust domains": ([str(COURIER), f"spiffe://{OTHER}/ns/shop/sa/courier"], "not accepted"),
    "a NUL behind": ([f"{COURIER}\0"], "not a SPIFFE ID"),
    "a NUL in the trust domain": ([f"spiffe://{MESH}\0.{OTHER}/ns/shop/sa/courier"], "not accepted"),
    "a NUL in the path": ([f"spiffe://{MESH}/ns/shop\0/sa/courier"], "not a SPIFFE ID"),
    "a line end in the trust domain": ([f"spiffe://{MESH}\n/ns/shop/sa/courier"], "not accepted"),
    "a line end behind": ([f"{COURIER}\n"], "not a SPIFFE ID"),
    "a path traversal": ([f"spiffe://{MESH}/ns/other/../shop/sa/courier"], "not a SPIFFE ID"),
    "an escaped path traversal": ([f"spiffe://{MESH}/ns/other/%2e%2e/shop/sa/courier"], "not a SPIFFE ID"),
    "a port": ([f"spiffe://{MESH}:443/ns/shop/sa/courier"], "not accepted"),
    "a user": ([f"spiffe://{MESH}@{OTHER}/ns/shop/sa/courier"], "not accepted"),
    "capitals": ([f"spiffe://{MESH.upper()}/ns/shop/sa/courier"], "not accepted"),
    "a trust domain alone": ([f"spiffe://{MESH}"], "not accepted"),
    "no name": ([], "not accepted"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_meshs_certificate_with_other_names_than_one_spiffe_id_is_refused(mesh: Mesh, case: str) -> None:
    names, said = BAD[case]
    audit = mesh.site.audit()
    details = mesh.refusal(mesh.intermediate.leaf(*names))
    assert said in details
    line = told(audit, details)
    assert (line["reason"], line["identity"]) == ("untrusted-certificate", None)


def authoritys(mesh: Mesh) -> dict[str, tuple[Leaf, str]]:
    name = str(COURIER)
    signs = ("digital_signature", "key_cert_sign")
    own = MeshCa(MESH, mesh.istiod, path_length=0)
    long = MeshCa("more", mesh.intermediate)
    return {
        "an authority with a workload's name": (mesh.istiod.leaf(name, is_authority=True), "is an authority's"),
        "an authority that may do both": (mesh.istiod.leaf(name, is_authority=True, usage=signs), "is an authority's"),
        "a leaf whose key signs certificates": (mesh.intermediate.leaf(name, usage=signs), "is an authority's"),
        "an authority without usage": (mesh.istiod.leaf(name, is_authority=True, usage=None), "is an authority's"),
        "only for servers": (mesh.istiod.leaf(name, purposes=[ExtendedKeyUsageOID.SERVER_AUTH]), "not accepted"),
        "ended": (mesh.istiod.leaf(name, begins=timedelta(hours=-1), ends=timedelta(seconds=-5)), "it has ended"),
        "not yet": (mesh.istiod.leaf(name, begins=timedelta(minutes=5)), "it is not valid yet"),
        "foreign": (MeshCa("somebody").leaf(name), "another authority or trust domain"),
        "a chain that is too long": (long.leaf(name), "another authority or trust domain"),
        "a chain that lacks its middle": (replace_chain(own.leaf(name)), "another authority or trust domain"),
    }


def replace_chain(leaf: Leaf) -> Leaf:
    return Leaf(leaf.certificate, (), leaf.key)


KINDS = (
    "an authority with a workload's name",
    "an authority that may do both",
    "a leaf whose key signs certificates",
    "an authority without usage",
    "only for servers",
    "ended",
    "not yet",
    "foreign",
    "a chain that is too long",
    "a chain that lacks its middle",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_that_is_no_workloads_now_is_refused_with_its_reason(mesh: Mesh, kind: str) -> None:
    leaf, said = authoritys(mesh)[kind]
    audit = mesh.site.audit()
    details = mesh.refusal(leaf)
    assert said in details
    line = told(audit, details)
    assert (line["reason"], line["decision"], line["identity"]) == ("untrusted-certificate", "refuse", None)
    assert line["claimed_identity"] == str(COURIER)


def test_a_key_that_may_sign_no_handshake_gets_none(mesh: Mesh, tmp_path: Path) -> None:
    leaf = mesh.istiod.leaf(str(COURIER), usage=("key_encipherment",))
    file = tmp_path / "client.pem"
    file.write_text(leaf.key_pem + leaf.chain_pem)
    context = ssl.create_default_context(cadata=mesh.site.svid(GATEWAY).secrets.bundle_pem)
    context.load_cert_chain(file)
    assert alert(mesh.gateway.address, context) == "SSLV3_ALERT_ILLEGAL_PARAMETER"


def timed(probe: Callable[[], bool], what: str) -> float:
    began = time.monotonic()
    eventually(probe, what, SECONDS_MAX)
    return time.monotonic() - began


def test_a_root_is_added_and_another_taken_away_while_it_runs(mesh: Mesh) -> None:
    """As in a rotation of the mesh's root: both, then the new one. Nothing is restarted."""
    new, pid = MeshCa(MESH), mesh.gateway.pid
    before, after = mesh.istiod.leaf(str(COURIER)), new.leaf(str(COURIER))
    try:
        assert mesh.is_let_in(before)
        assert not mesh.is_let_in(after)
        replace_file(mesh.bundle, pem(mesh.istiod.certificate, new.certificate), 0o644)
        seconds = timed(lambda: mesh.is_let_in(after), "the new root is trusted")
        assert mesh.is_let_in(before)
        replace_file(mesh.bundle, pem(new.certificate), 0o644)
        seconds = max(seconds, timed(lambda: not mesh.is_let_in(before), "the old root is not trusted any more"))
        assert mesh.is_let_in(after)
        print(f"a change of roots took {seconds:.1f} s at most")
    finally:
        replace_file(mesh.bundle, pem(mesh.istiod.certificate), 0o644)
        eventually(lambda: mesh.is_let_in(before), "the first root is back", SECONDS_MAX)
    assert mesh.gateway.pid == pid
    assert not mesh.gateway.envoy.child.exit_code()


def test_a_bundle_that_is_none_changes_nothing_and_is_said(mesh: Mesh) -> None:
    leaf = mesh.istiod.leaf(str(COURIER))
    try:
        replace_file(mesh.bundle, mesh.intermediate.leaf(str(COURIER)).key_pem)
        eventually(lambda: mesh.problems, "somebody is told", SECONDS_MAX)
        assert "it holds a private key" in mesh.problems[0]
        assert "the 1 root from before stay trusted" in mesh.problems[0]
        assert mesh.is_let_in(leaf)
    finally:
        replace_file(mesh.bundle, pem(mesh.istiod.certificate), 0o644)
        mesh.problems.clear()
