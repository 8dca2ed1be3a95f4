"""The Workload API over its socket: an unmodified SPIFFE client, a raw gRPC client, and bytes that are neither."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from spiffe import JwtSource, TrustDomain, WorkloadApiClient, X509Source

from fakes.mesh_ca import MeshCa, der
from fakes.workload import (
    CHECKOUT,
    GUARD,
    REPORTS,
    TRUST_DOMAIN,
    SwitchedIssuer,
    connection_of_another_process,
    my_executable,
    raw,
    refusal,
    stream,
    unary,
)
from spangate.adapters import workload_door, workload_supply
from spangate.adapters.clock import SystemClock
from spangate.adapters.grpc_connection import FRAME_BYTES_MAX, STREAMS_OF_CONNECTION_MAX, FrameLengths
from spangate.adapters.unix_peers import Gone
from spangate.adapters.unix_server import bind_for_all
from spangate.adapters.workload_server import BySelectors, OneForUser, WorkloadServer
from spangate.authority.anchors import DomainBundle
from spangate.authority.rotation import AllTrustNewRoot, AllUseSigner, RootStaged
from spangate.authority.workload_api import REQUEST_BYTES_MAX
from spangate.authority.workload_messages import (
    JWTBundlesResponse,
    JWTSVIDRequest,
    JWTSVIDResponse,
    ValidateJWTSVIDRequest,
    X509BundlesResponse,
    X509SVIDResponse,
)
from spangate.errors import TryAgain, YourFault
from spangate.model.identity import SpiffeId
from spangate.model.unix import UnixPeer, UnixSelectors

ME = str(os.getuid())
LOOK_SECONDS = 0.05
METHODS = ("FetchX509SVID", "FetchX509Bundles", "FetchJWTSVID", "FetchJWTBundles", "ValidateJWTSVID")


class Site:
    """A server, and what it has said to its operator."""

    def __init__(self, folder: Path, issuer: SwitchedIssuer, attester: Any, **options: Any) -> None:
        self.issuer = issuer
        self.said: list[str] = []
        self.path = folder / "workload.sock"
        self.server = WorkloadServer(
            issuer,
            attester,
            self.path,
            clock=SystemClock(),
            problem=self.said.append,
            look_seconds=LOOK_SECONDS,
            **options,
        )

    @property
    def uri(self) -> str:
        return f"unix://{self.path}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


Start = Callable[..., Site]


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    started: list[Site] = []

    def begin(attester: Any = None, *, life: timedelta = timedelta(hours=1), **options: Any) -> Site:
        found = attester or BySelectors({CHECKOUT: UnixSelectors(user=ME)})
        site = Site(folder, SwitchedIssuer(svid_lifetime=life), found, **options)
        site.server.start()
        started.append(site)
        return site

    yield begin
    for site in started:
        site.server.stop()
        assert not site.path.exists()


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


# An unmodified SPIFFE client


def test_a_spiffe_client_gets_certificate_key_and_bundle_that_fit(start: Start) -> None:
    site = start()
    with X509Source(socket_path=site.uri, timeout_in_seconds=10) as source:
        context = source.get_x509_context()
        svid = context.default_svid
        assert str(svid.spiffe_id) == str(CHECKOUT)
        assert svid.leaf.public_key() == svid.private_key.public_key()
        assert len(svid.cert_chain) == 2
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(TrustDomain(TRUST_DOMAIN))
        assert bundle is not None
        (root,) = bundle.x509_authorities
        svid.cert_chain[1].verify_directly_issued_by(root)


def test_a_spiffe_client_sees_a_renewal(start: Start) -> None:
    site = start(life=timedelta(seconds=3))
    with X509Source(socket_path=site.uri, timeout_in_seconds=10) as source:
        first = source.get_x509_context().default_svid.leaf
        until(lambda: source.get_x509_context().default_svid.leaf != first)
        second = source.get_x509_context().default_svid.leaf
        assert second.public_key() != first.public_key()


def test_a_spiffe_client_sees_a_rotation_of_root_and_token_keys(start: Start) -> None:
    site = start()
    domain = TrustDomain(TRUST_DOMAIN)
    with (
        X509Source(socket_path=site.uri, timeout_in_seconds=10) as certificates,
        JwtSource(socket_path=site.uri, timeout_in_seconds=10) as tokens,
    ):

        def roots() -> Any:
            return certificates.get_bundle_for_trust_domain(domain).x509_authorities

        def keys() -> Any:
            return set(tokens.get_bundle_for_trust_domain(domain).jwt_authorities)

        before = roots(), keys(), certificates.get_x509_context().default_svid.leaf
        site.issuer.swap()
        until(lambda: roots() != before[0] and keys() != before[1])
        # A new signer signs anew, before the old certificate's time has come.
        until(lambda: certificates.get_x509_context().default_svid.leaf != before[2])
        (root,) = roots()
        certificates.get_x509_context().default_svid.cert_chain[1].verify_directly_issued_by(root)


def test_a_spiffe_client_verifies_workloads_of_other_trust_domains_and_sees_their_roots_change(start: Start) -> None:
    site = start()
    old, new, own = MeshCa("cluster.local"), MeshCa("cluster.local"), MeshCa("own")
    mesh, alias, domain = (TrustDomain(name) for name in ("cluster.local", "old.example", TRUST_DOMAIN))
    site.issuer.others = (DomainBundle(("cluster.local", "old.example"), (old.certificate,)),)
    with (
        X509Source(socket_path=site.uri, timeout_in_seconds=10) as certificates,
        JwtSource(socket_path=site.uri, timeout_in_seconds=10) as tokens,
        WorkloadApiClient(site.uri) as client,
    ):

        def roots(name: TrustDomain) -> set[x509.Certificate]:
            bundle = certificates.get_bundle_for_trust_domain(name)
            return set() if bundle is None else set(bundle.x509_authorities)

        assert roots(mesh) == roots(alias) == {old.certificate}
        # Nobody of it has tokens that could be verified here.
        assert tokens.get_bundle_for_trust_domain(mesh) is None
        assert tokens.get_bundle_for_trust_domain(domain) is not None
        site.issuer.others = (DomainBundle(("cluster.local",), (old.certificate, new.certificate)),)
        until(lambda: roots(mesh) == {old.certificate, new.certificate})
        # The own trust domain may have a mesh's roots, too.
        (ours,) = roots(domain)
        site.issuer.others = (DomainBundle((TRUST_DOMAIN,), (own.certificate,)),)
        until(lambda: roots(domain) == {ours, own.certificate})
        found = client.fetch_x509_bundles()
        assert {str(one.trust_domain) for one in found.bundles} == {TRUST_DOMAIN}


def test_a_change_of_another_trust_domains_roots_reaches_every_stream_of_certificates(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        svids, bundles = (stream(channel, f"Fetch{what}") for what in ("X509SVID", "X509Bundles"))
        before = X509SVIDResponse.FromString(next(svids)), X509BundlesResponse.FromString(next(bundles))
        assert dict(before[0].federated_bundles) == {}
        mesh = MeshCa("cluster.local")
        site.issuer.others = (DomainBundle(("cluster.local",), (mesh.certificate,)),)
        after = X509SVIDResponse.FromString(next(svids)), X509BundlesResponse.FromString(next(bundles))
        assert after[0].svids == before[0].svids
        name = "spiffe://cluster.local"
        assert dict(after[0].federated_bundles) == {name: der(mesh.certificate)}
        assert dict(after[1].bundles) == {**before[1].bundles, name: der(mesh.certificate)}
        for one in (svids, bundles):
            one.cancel()


def test_a_spiffe_client_gets_tokens_and_has_them_validated(start: Start) -> None:
    site = start()
    with WorkloadApiClient(site.uri) as client:
        svid = client.fetch_jwt_svid(audience={"orders", "stock"})
        assert str(svid.spiffe_id) == str(CHECKOUT)
        assert set(svid.audience) == {"orders", "stock"}
        found = client.validate_jwt_svid(svid.token, "stock")
        assert str(found.spiffe_id) == str(CHECKOUT)
        with pytest.raises(Exception, match="it is for another audience"):
            client.validate_jwt_svid(svid.token, "billing")


def test_the_whole_of_a_rotation_reaches_every_kind_of_stream(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        streams = [stream(channel, f"Fetch{what}") for what in ("X509SVID", "X509Bundles", "JWTBundles")]
        before = [next(one) for one in streams]
        site.issuer.swap()
        after = [next(one) for one in streams]
        assert all(one != other for one, other in zip(before, after, strict=True))
        for one in streams:
            one.cancel()


def test_bundles_are_those_of_the_authority(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        roots = X509BundlesResponse.FromString(next(stream(channel, "FetchX509Bundles")))
        assert set(roots.bundles) == {f"spiffe://{TRUST_DOMAIN}"}
        x509.load_der_x509_certificate(roots.bundles[f"spiffe://{TRUST_DOMAIN}"])
        keys = JWTBundlesResponse.FromString(next(stream(channel, "FetchJWTBundles")))
        assert json.loads(keys.bundles[f"spiffe://{TRUST_DOMAIN}"]) == site.issuer.tokens.spiffe_bundle()


def test_processes_of_one_identity_share_one_certificate(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        answers = [X509SVIDResponse.FromString(next(stream(channel, "FetchX509SVID"))) for _ in range(20)]
    assert len({answer.svids[0].x509_svid for answer in answers}) == 1
    assert site.issuer.calls == ["x509"]


# Who it is


@pytest.mark.parametrize("method", METHODS)
def test_without_an_identity_nothing_is_answered(start: Start, method: str) -> None:
    site = start(BySelectors({CHECKOUT: UnixSelectors(user="4294")}))
    with raw(site.path) as channel:
        assert refusal(stream(channel, method)) == ("PERMISSION_DENIED", "no identity is defined for this process")
    assert site.issuer.calls == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("metadata", [(), (("workload.spiffe.io", "True"),), (("workload.spiffe.io", ""),)])
def test_without_the_security_header_nothing_is_answered(start: Start, method: str, metadata: Any) -> None:
    site = start()
    with raw(site.path) as channel:
        status, text = refusal(stream(channel, method, metadata))
        assert status == "INVALID_ARGUMENT"
        assert "workload.spiffe.io" in text


def test_the_executable_decides_where_it_is_named(start: Start) -> None:
    site = start(
        BySelectors(
            {
                CHECKOUT: UnixSelectors(user=ME, executable=my_executable()),
                REPORTS: UnixSelectors(user=ME, executable="/usr/bin/reports"),
            }
        )
    )
    with raw(site.path) as channel:
        answer = X509SVIDResponse.FromString(next(stream(channel, "FetchX509SVID")))
        assert [svid.spiffe_id for svid in answer.svids] == [str(CHECKOUT)]


def test_a_process_that_fits_two_identities_gets_none_and_the_operator_is_told_once(start: Start) -> None:
    site = start(BySelectors({CHECKOUT: UnixSelectors(user=ME), REPORTS: UnixSelectors(group=str(os.getgid()))}))
    with raw(site.path) as channel:
        for _ in range(3):
            assert refusal(stream(channel, "FetchX509SVID"))[0] == "PERMISSION_DENIED"
    (said,) = site.said
    assert str(CHECKOUT) in said
    assert str(REPORTS) in said


def test_another_intent_ends_the_streams_of_who_is_somebody_else_now(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        open_stream = stream(channel, "FetchX509SVID")
        bundles = stream(channel, "FetchX509Bundles")
        next(open_stream), next(bundles)
        site.server.attester_changed(BySelectors({REPORTS: UnixSelectors(user=ME)}))
        assert refusal(open_stream)[0] == "UNAVAILABLE"
        assert refusal(bundles)[0] == "UNAVAILABLE"
        again = stream(channel, "FetchX509SVID")
        assert X509SVIDResponse.FromString(next(again)).svids[0].spiffe_id == str(REPORTS)
        site.server.attester_changed(BySelectors({}))
        assert refusal(again)[0] == "PERMISSION_DENIED"


ASKED = {"FetchJWTSVID": JWTSVIDRequest(audience=["db"]).SerializeToString()}


def held_up(site: Site, channel: grpc.Channel, method: str) -> Any:
    """A call that waits for the authority."""
    site.issuer.open.clear()
    call = stream(channel, method, request=ASKED.get(method, b""))
    assert site.issuer.entered.wait(10)
    return call


@pytest.mark.parametrize(
    ("now", "status"),
    [({REPORTS: UnixSelectors(user=ME)}, "UNAVAILABLE"), ({}, "PERMISSION_DENIED")],
)
@pytest.mark.parametrize("method", [one for one in METHODS if one.startswith("Fetch")])
def test_another_intent_ends_a_call_that_waits_for_the_authority(
    start: Start, method: str, now: dict[Any, UnixSelectors], status: str
) -> None:
    site = start()
    with raw(site.path) as channel:
        call = held_up(site, channel, method)
        site.server.attester_changed(BySelectors(now))
        # The loop takes in what it was told first.
        site.issuer.open.set()
        assert refusal(call)[0] == status
        if method == "FetchX509SVID":
            # Nobody was given it, and nobody renews it.
            until(lambda: len(site.issuer.let_go) == 1)
            site.issuer.swap()
            time.sleep(4 * LOOK_SECONDS)
            assert site.issuer.calls == ["x509"]
            assert root_numbers(site) == []
    assert site.said == []


def test_another_intent_that_says_the_same_lets_a_call_that_waits_go_on(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        call = held_up(site, channel, "FetchX509SVID")
        site.server.attester_changed(BySelectors({CHECKOUT: UnixSelectors(user=ME)}))
        site.issuer.open.set()
        assert X509SVIDResponse.FromString(next(call)).svids[0].spiffe_id == str(CHECKOUT)


def test_a_process_that_ends_while_it_waits_is_given_nothing(start: Start) -> None:
    class GoneInBetween(BySelectors):
        asked = 0

        def identity(self, peer: UnixPeer) -> SpiffeId | None:
            self.asked += 1
            if self.asked > 1:
                raise Gone
            return super().identity(peer)

    site = start(GoneInBetween({CHECKOUT: UnixSelectors(user=ME)}))
    with raw(site.path) as channel:
        assert refusal(stream(channel, "FetchX509SVID"))[0] == "UNAVAILABLE"
    until(lambda: len(site.issuer.let_go) == 1)
    assert site.said == []


def test_another_intent_that_says_the_same_of_a_process_ends_nothing(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        open_stream = stream(channel, "FetchX509SVID")
        before = next(open_stream)
        site.server.attester_changed(BySelectors({CHECKOUT: UnixSelectors(group=str(os.getgid()))}))
        site.issuer.swap()
        assert next(open_stream) != before


def test_a_connection_ends_with_the_process_that_made_it(start: Start) -> None:
    site = start()
    with connection_of_another_process(site.path) as (connection, end):
        connection.settimeout(10)
        assert connection.recv(1)  # the server's settings: it is taken
        end()
        while connection.recv(65536):
            pass


def test_a_connection_whose_process_is_dead_already_gets_no_byte(start: Start) -> None:
    """The process hands its connection on and ends before the server accepts it: nothing is answered to the heir."""
    site = start()
    busy = threading.Event()
    assert site.server._loop is not None
    site.server._loop.call_soon_threadsafe(busy.wait, 30)
    with connection_of_another_process(site.path) as (connection, end):
        end()
        connection.settimeout(10)
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        busy.set()
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""


def test_one_identity_for_one_user(start: Start) -> None:
    site = start(OneForUser(REPORTS, os.getuid()))
    with raw(site.path) as channel:
        assert X509SVIDResponse.FromString(next(stream(channel, "FetchX509SVID"))).svids[0].spiffe_id == str(REPORTS)
    assert OneForUser(REPORTS, 1).identity(type("Peer", (), {"uid": 2})()) is None  # type: ignore[arg-type]


# What is asked


def test_a_token_for_somebody_else_is_refused(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        own = JWTSVIDRequest(audience=["a"], spiffe_id=str(CHECKOUT)).SerializeToString()
        answer = JWTSVIDResponse.FromString(unary(channel, "FetchJWTSVID", own))
        assert [svid.spiffe_id for svid in answer.svids] == [str(CHECKOUT)]
        for other in (str(REPORTS), f"spiffe://{TRUST_DOMAIN}/spangate/gateway", "x", f"{CHECKOUT}/"):
            request = JWTSVIDRequest(audience=["a"], spiffe_id=other).SerializeToString()
            assert refusal(lambda request=request: unary(channel, "FetchJWTSVID", request))[0] == "PERMISSION_DENIED"
    assert site.issuer.calls == ["jwt"]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("FetchJWTSVID", b""),
        ("FetchJWTSVID", JWTSVIDRequest(audience=["a", ""]).SerializeToString()),
        ("FetchJWTSVID", JWTSVIDRequest(audience=["a", "a"]).SerializeToString()),
        ("FetchJWTSVID", JWTSVIDRequest(audience=["a" * 300]).SerializeToString()),
        ("FetchJWTSVID", JWTSVIDRequest(audience=[f"a{i}" for i in range(20)]).SerializeToString()),
        ("FetchJWTSVID", b"\x0a\xff"),
        ("FetchJWTSVID", b"\x0a\x01\xff"),
        ("ValidateJWTSVID", b""),
        ("ValidateJWTSVID", ValidateJWTSVIDRequest(audience="a").SerializeToString()),
        ("ValidateJWTSVID", ValidateJWTSVIDRequest(svid="a.b.c").SerializeToString()),
        ("ValidateJWTSVID", ValidateJWTSVIDRequest(audience="a", svid="a.b.c").SerializeToString()),
        ("ValidateJWTSVID", ValidateJWTSVIDRequest(audience="a", svid="a" * 17_000).SerializeToString()),
        ("FetchX509SVID", b"\xff"),
        ("FetchX509Bundles", b"\xff"),
        ("FetchJWTBundles", b"\xff"),
    ],
)
def test_a_request_that_asks_nothing_that_there_is_is_invalid(start: Start, method: str, request_: bytes) -> None:
    site = start()
    with raw(site.path) as channel:
        assert refusal(stream(channel, method, request=request_))[0] == "INVALID_ARGUMENT"


def test_a_request_that_is_too_long_is_refused(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        request = b"\x0a" * (REQUEST_BYTES_MAX + 1)
        assert refusal(lambda: unary(channel, "ValidateJWTSVID", request))[0] == "RESOURCE_EXHAUSTED"
        assert next(stream(channel, "FetchX509SVID"))


def test_other_methods_and_compressed_requests_are_unimplemented(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        assert refusal(stream(channel, "FetchWITSVID"))[0] == "UNIMPLEMENTED"
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert refusal(lambda: call(b"", metadata=GUARD, timeout=10))[0] == "UNIMPLEMENTED"
        squeezed = channel.unary_unary("/SpiffeWorkloadAPI/FetchJWTSVID")
        request = JWTSVIDRequest(audience=["a" * 200]).SerializeToString()
        assert (
            refusal(lambda: squeezed(request, metadata=GUARD, timeout=10, compression=grpc.Compression.Gzip))[0]
            == "UNIMPLEMENTED"
        )


# What a rotation is told


def heard(site: Site, identity: Any) -> Any:
    """What the authority has heard of the certificate of `identity`, or of the streams of bundles."""
    named = "for bundles" if identity is None else str(identity)
    return next((one for one in site.issuer.peers.all() if one.identity == named), None)


def root_numbers(site: Site) -> list[int]:
    """The generations whose certificates may be in use."""
    return sorted(
        {one.generation for one in site.issuer.ledger.held(SystemClock().now()) if one.identity == str(CHECKOUT)}
    )


@pytest.fixture
def quick_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_supply, "REPORT_SECONDS", 0.05)


def test_who_listens_is_seen_to_follow_a_rotation_step_by_step(start: Start, quick_reports: None) -> None:
    site = start()
    authority = site.issuer.made
    with raw(site.path) as channel:
        streams = [stream(channel, "FetchX509SVID"), stream(channel, "FetchX509Bundles")]
        for one in streams:
            next(one)
        old = authority.state.signer.fingerprint
        until(lambda: heard(site, CHECKOUT) is not None and heard(site, None) is not None)
        assert (heard(site, CHECKOUT).uses, heard(site, CHECKOUT).trusts) == (old, {old})
        assert heard(site, None).trusts == {old}

        authority.step(RootStaged())
        new = authority.state.newest.fingerprint
        until(lambda: heard(site, CHECKOUT).trusts == {old, new} == heard(site, None).trusts)
        assert heard(site, CHECKOUT).uses == old

        authority.step(AllTrustNewRoot())
        until(lambda: heard(site, CHECKOUT).uses == new)
        assert root_numbers(site) == [2]

        authority.step(AllUseSigner())
        until(lambda: heard(site, CHECKOUT).trusts == {new} == heard(site, None).trusts)


@pytest.mark.parametrize("takes_all_along", [True, False])
def test_a_server_that_takes_all_along_says_goodbye_for_them(start: Start, takes_all_along: bool) -> None:
    """As that of `run`; with another one, programs live on and have their certificates."""
    site = start(takes_all_along=takes_all_along)
    with raw(site.path) as channel:
        next(stream(channel, "FetchX509SVID"))
        site.server.stop()
    assert len(site.issuer.let_go) == takes_all_along
    assert len(site.issuer.ledger.held(SystemClock().now())) == (not takes_all_along)


def test_the_certificate_of_a_process_that_has_ended_is_forgotten(start: Start, quick_reports: None) -> None:
    site = start()
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from fakes.workload import raw, stream
from pathlib import Path
with raw(Path({str(site.path)!r})) as channel:
    next(stream(channel, "FetchX509SVID"))
    print("given", flush=True)
    sys.stdin.read(1)
    import os
    os._exit(0)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"given\n"
        assert root_numbers(site) == [1]
        process.kill()
    until(lambda: root_numbers(site) == [])
    # Whoever comes next is given another one.
    with raw(site.path) as channel:
        next(stream(channel, "FetchX509SVID"))
    assert site.issuer.calls == ["x509", "x509"]


# When something fails


def test_an_authority_that_cannot_sign_now_is_unavailable(start: Start) -> None:
    site = start()
    site.issuer.failing = TryAgain("the authority ends soon")
    with raw(site.path) as channel:
        assert refusal(stream(channel, "FetchX509SVID")) == ("UNAVAILABLE", "the authority ends soon")
        site.issuer.failing = None
        assert next(stream(channel, "FetchX509SVID"))


def test_a_defect_ends_a_call_and_nothing_else(start: Start) -> None:
    site = start()
    site.issuer.failing = ZeroDivisionError("secret")
    with raw(site.path) as channel:
        status, text = refusal(stream(channel, "FetchX509SVID"))
        assert (status, "secret" in text) == ("INTERNAL", False)
        site.issuer.failing = None
        assert next(stream(channel, "FetchX509SVID"))
    assert any("secret" in said for said in site.said)


def test_a_certificate_that_cannot_be_renewed_is_kept_to_its_end_and_no_longer(start: Start) -> None:
    site = start(life=timedelta(seconds=2))
    with raw(site.path) as channel:
        open_stream = stream(channel, "FetchX509SVID")
        next(open_stream)
        site.issuer.failing = TryAgain("no")
        assert refusal(open_stream) == ("UNAVAILABLE", "the certificate has ended and there is no new one")
        assert refusal(stream(channel, "FetchX509SVID")) == ("UNAVAILABLE", "no")
        site.issuer.failing = None
        assert next(stream(channel, "FetchX509SVID"))
    assert any("cannot renew" in said for said in site.said)


@pytest.mark.parametrize(
    "bytes_",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\0" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 64,
        # A frame that says it is 16 MiB long.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\0\0\0\0\0",
        # Headers that are no HPACK.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01\xff\xff\xff\xff",
    ],
)
def test_bytes_that_are_no_http2_end_their_connection_and_nothing_else(start: Start, bytes_: bytes) -> None:
    site = start()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(site.path))
        connection.sendall(bytes_)
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass
    with raw(site.path) as channel:
        assert next(stream(channel, "FetchX509SVID"))


def test_more_streams_than_a_connection_may_have_wait_their_turn(start: Start) -> None:
    site = start()
    with raw(site.path) as channel:
        streams = [stream(channel, "FetchX509Bundles") for _ in range(STREAMS_OF_CONNECTION_MAX)]
        for one in streams:
            next(one)
        late = stream(channel, "FetchX509Bundles")
        streams[0].cancel()
        assert next(late)


@pytest.mark.parametrize("method", ["FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"])
def test_one_user_cannot_take_all_streams_that_there_are(
    start: Start, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(workload_door, "STREAMS_MAX", 4)
    site = start()
    with raw(site.path) as one, raw(site.path) as other:
        streams = [stream(channel, method) for channel in (one, other, one)]
        for each in streams:
            next(each)
        assert refusal(stream(other, method)) == ("UNAVAILABLE", "there are too many streams")
        # One that has ended makes room, also with its connection.
        streams[0].cancel()
        streams.append(eventually_answered(other, method))
    with raw(site.path) as again:
        assert len([eventually_answered(again, method) for _ in range(3)]) == 3


def eventually_answered(channel: grpc.Channel, method: str) -> Any:
    """The stream, once there is room for it."""
    for _ in range(100):
        found = stream(channel, method)
        with contextlib.suppress(grpc.RpcError):
            next(found)
            return found
        time.sleep(0.05)
    raise AssertionError("no room")


def test_a_socket_for_all_needs_a_directory_that_nobody_else_may_write(start: Start, folder: Path) -> None:
    folder.chmod(0o755)
    site = start(for_all=True)
    assert site.path.stat().st_mode & 0o777 == 0o666
    site.server.stop()
    for mode in (0o777, 0o775, 0o1777):
        folder.chmod(mode)
        with pytest.raises(YourFault, match="could put a socket of their own"):
            start(for_all=True)
    folder.chmod(0o700)


def test_nobody_else_may_exchange_what_leads_to_a_socket_for_all(tmp_path: Path) -> None:
    """By the name of a directory further up, or of a link."""
    up, inner = tmp_path / "up", tmp_path / "up" / "inner"
    inner.mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to("up/../up/inner")
    for path in (inner / "w.sock", link / "w.sock", inner / ".." / "inner" / "w.sock"):
        bind_for_all(path).close()
        up.chmod(0o777)
        with pytest.raises(YourFault, match=f"other users may write in `{up}`"):
            bind_for_all(path)
        # As in /tmp: what is ours stays.
        up.chmod(0o1777)
        bind_for_all(path).close()
        up.chmod(0o755)
    with pytest.raises(YourFault, match="No such file"):
        bind_for_all(tmp_path / "none" / "w.sock")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(YourFault, match="symbolic links"):
        bind_for_all(tmp_path / "loop" / "w.sock")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may make what is another user's")
def test_a_link_of_somebody_else_leads_to_no_socket_for_all(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "link").symlink_to("own")
    os.lchown(tmp_path / "link", 12345, 12345)
    with pytest.raises(YourFault, match="could put a socket of their own"):
        bind_for_all(tmp_path / "link" / "w.sock")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_another_user_is_answered_by_a_socket_for_all(start: Start, folder: Path) -> None:
    for above in (folder, *folder.parents[:-1]):
        if above.stat().st_uid == os.getuid():
            above.chmod(above.stat().st_mode | 0o055 if above == folder else above.stat().st_mode | 0o011)
    site = start(BySelectors({CHECKOUT: UnixSelectors(user="1234"), REPORTS: UnixSelectors(user=ME)}), for_all=True)
    program = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from fakes.workload import raw, stream
from pathlib import Path
from spangate.authority.workload_messages import X509SVIDResponse
os.setgid(1234)
os.setuid(1234)
with raw(Path({str(site.path)!r})) as channel:
    print(X509SVIDResponse.FromString(next(stream(channel, "FetchX509SVID"))).svids[0].spiffe_id)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == str(CHECKOUT), done.stderr


@given(st.lists(st.integers(0, 70_000), max_size=6), st.data())
def test_frames_are_followed_however_they_are_cut(lengths: list[int], data: st.DataObject) -> None:
    """A frame that is too long is seen with its head, and one that is not never is."""
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for length in lengths:
        sent += length.to_bytes(3, "big") + b"\0" * 6
        if length > FRAME_BYTES_MAX:
            break
        sent += b"\0" * length
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    frames = FrameLengths()
    fine = all(frames.within_bounds(sent[start:end]) for start, end in pairwise([0, *cuts, len(sent)]))
    assert fine == all(length <= FRAME_BYTES_MAX for length in lengths)
