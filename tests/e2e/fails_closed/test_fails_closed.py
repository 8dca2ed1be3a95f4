"""Promise: what cannot be allowed with certainty is refused with a clear gRPC status, and no byte reaches Spanner."""

from __future__ import annotations

import inspect
import os
import re
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.cloud.spanner_v1 import types
from google.cloud.spanner_v1.services.spanner.transports.grpc import SpannerGrpcTransport

from conformance.engines.http2 import Http2, alert
from conformance.wire import framed
from e2e.harness import (
    CHECKOUT,
    DATABASE,
    LAB,
    MIB,
    SERVICE,
    SESSION,
    TRUST_DOMAIN,
    Client,
    Gateway,
    Refused,
    Site,
    encode,
    eventually,
    refused,
    session_of,
    signed_by_us,
    site,
)
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys, key_pem
from spangate.adapters.sds_door import Secrets
from spangate.adapters.svid_client import Svid, UnixConnection, sign_here
from spangate.authority.ca import Authority
from spangate.compiler.gateway import CONNECTION_SECONDS_MAX
from spangate.dataplane import filter_source, shortened
from spangate.model.identity import SpiffeId
from spangate.rpc.shape import METHODS

pytestmark = pytest.mark.e2e

DENIED, UNAVAILABLE = grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAVAILABLE
SELECT = types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders")
# What an unmarked request is told by the guard itself.
NOT_VETTED = "could not vet"


@pytest.fixture(scope="module")
def gateway(own_site: Site) -> Gateway:
    """One through which nothing is ever let: its Spanner must never see a byte."""
    return own_site.start_gateway()


@pytest.fixture(autouse=True)
def untouched(own_site: Site) -> Iterator[None]:
    before = own_site.spanner.reached
    yield
    assert own_site.spanner.reached == before, "something reached Spanner"


def identity(word: str) -> SpiffeId:
    """One of this test's own, so that its audit line is its own."""
    return SpiffeId.workload(TRUST_DOMAIN, "shop", word)


def foreign(trust_domain: str, who: SpiffeId) -> Svid:
    """An SVID of another authority."""
    authority = Authority.create(trust_domain, SystemClock(), SystemKeys())
    return sign_here(authority, SystemKeys(), who)


def _now() -> datetime:
    return datetime.now(UTC)


# Certificates


def test_without_a_certificate_nobody_gets_in_and_is_told_how_to(own_site: Site, gateway: Gateway) -> None:
    audit = own_site.audit()
    with gateway.client(None) as client:
        answer = client.refusal("ExecuteSql", SELECT)
    assert answer.code is DENIED
    assert "no client certificate" in answer.details
    assert "spangate run --as" in answer.details
    (line,) = audit.wait(1)
    assert (line["reason"], line["decision"], line["identity"]) == ("no-certificate", "refuse", None)


@pytest.mark.parametrize("shown", ["nothing", "another authority's"])
def test_a_commit_of_a_stranger_is_refused_before_its_body_is_collected(
    own_site: Site, gateway: Gateway, shown: str
) -> None:
    audit = own_site.audit()
    svid = None if shown == "nothing" else foreign(TRUST_DOMAIN, identity("stranger"))
    with gateway.client(svid) as client:
        # A stream of requests never ends by itself: only who does not wait for the body can answer.
        never_ending = threading.Event()

        def messages() -> Iterator[bytes]:
            yield encode(types.CommitRequest(session=SESSION))
            never_ending.wait(30)

        try:
            client.channel.stream_unary(SERVICE + "Commit")(messages(), timeout=10)
            pytest.fail("the commit was answered")
        except grpc.RpcError as error:
            answer = refused(error)
        finally:
            never_ending.set()
    assert answer.code is DENIED
    assert "no accepted client certificate" in answer.details
    (line,) = audit.wait(1)
    assert (line["reason"], line["decision"], line["identity"]) == ("untrusted-certificate", "refuse", None)


@pytest.mark.parametrize("case", ["another authority", "another trust domain", "another domain's authority", "expired"])
def test_a_certificate_that_is_not_ours_now_is_refused(own_site: Site, gateway: Gateway, case: str) -> None:
    who = SpiffeId.workload(TRUST_DOMAIN, "shop", "checkout")
    elsewhere = SpiffeId.workload("other.example", "shop", "checkout")
    match case:
        case "another authority":
            svid = foreign(TRUST_DOMAIN, who)
        case "another domain's authority":
            who, svid = elsewhere, foreign("other.example", elsewhere)
        case "another trust domain":
            who, svid = elsewhere, signed_by_us(own_site, str(elsewhere))
        case _:
            svid = signed_by_us(own_site, str(who), ended=timedelta(seconds=5))
            assert svid.not_after < _now()
    audit = own_site.audit()
    with gateway.client(svid) as client:
        answer = client.refusal("ExecuteSql", SELECT)
    assert answer.code is DENIED
    assert f"the client certificate of {who} is not accepted" in answer.details
    (line,) = audit.wait(1)
    assert (line["reason"], line["decision"]) == ("untrusted-certificate", "refuse")
    assert (line["identity"], line["claimed_identity"]) == (None, str(who))


def test_a_certificate_made_by_hand_is_accepted_when_its_name_is_right(own_site: Site, gateway: Gateway) -> None:
    """So that the refusals here are about names and nothing else. It gets as far as the policy."""
    audit = own_site.audit()
    with gateway.client(signed_by_us(own_site, str(identity("by-hand")))) as client:
        request = types.ExecuteSqlRequest(session=session_of(identity("by-hand")), sql="SELECT OrderId FROM Orders")
        assert (
            f"{identity('by-hand')} is not an identity of the policy" in client.refusal("ExecuteSql", request).details
        )
    audit.wait(1)


@pytest.mark.parametrize(
    "uris",
    [
        [],
        [f"spiffe://{TRUST_DOMAIN}.evil.example/ns/shop/sa/checkout"],
        [f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/reports", str(CHECKOUT)],
        [str(CHECKOUT), "spiffe://other.example/ns/shop/sa/checkout"],
        [f"{CHECKOUT}?query"],
        [f"{CHECKOUT}%00"],
        [f"spiffe://{TRUST_DOMAIN.upper()}/ns/shop/sa/checkout"],
        [f"https://{TRUST_DOMAIN}/ns/shop/sa/checkout"],
        [f"{CHECKOUT}\0"],
        [f"spiffe://{TRUST_DOMAIN}\0.evil.example/ns/shop/sa/checkout"],
        [f"spiffe://{TRUST_DOMAIN}/ns/shop/sa/checkout\0/x"],
        [f"{CHECKOUT}\n"],
        [f"spiffe://{TRUST_DOMAIN}\n/ns/shop/sa/checkout"],
        [f"spiffe://{TRUST_DOMAIN}/ns/other/../shop/sa/checkout"],
        [f"spiffe://{TRUST_DOMAIN}//ns/shop/sa/checkout"],
        [f"{CHECKOUT}/"],
        [f"spiffe://{TRUST_DOMAIN}"],
        [str(CHECKOUT), str(CHECKOUT)],
    ],
)
def test_a_certificate_with_other_names_than_one_spiffe_id_of_ours_is_refused(
    own_site: Site, gateway: Gateway, uris: list[str]
) -> None:
    audit = own_site.audit()
    with gateway.client(signed_by_us(own_site, *uris)) as client:
        answer = client.refusal("ExecuteSql", SELECT)
    assert answer.code is DENIED
    (line,) = audit.wait(1)
    assert (line["reason"], line["decision"], line["identity"]) == ("untrusted-certificate", "refuse", None)


def _chain(own_site: Site, shape: str) -> Svid:
    """A certificate of `CHECKOUT` whose chain is not leaf, intermediate, root, or which is no leaf."""
    authority, now = own_site.authority, _now()
    key, between = SystemKeys().new_key(), SystemKeys().new_key()

    def made(
        holder: ec.EllipticCurvePrivateKey,
        issuer: x509.Name,
        signer: ec.EllipticCurvePrivateKey,
        *,
        ca: bool = False,
        begins: timedelta = timedelta(minutes=-1),
        subject: str = "",
    ) -> x509.Certificate:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(CHECKOUT))])
        name = [x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)] if subject else []
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(name))
            .issuer_name(issuer)
            .public_key(holder.public_key())
            .serial_number(SystemKeys().new_serial())
            .not_valid_before(now + begins)
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(names, critical=not subject)
        )
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        return builder.sign(signer, hashes.SHA256())

    ours, ours_key = authority._in_force.intermediate, authority._in_force.intermediate_key
    match shape:
        case "no intermediate":
            chain = [made(key, ours.subject, ours_key)]
        case "below a leaf":
            leaf = made(between, ours.subject, ours_key, subject="leaf")
            chain = [made(key, leaf.subject, between), leaf, ours]
        case "below one more authority":
            more = made(between, ours.subject, ours_key, ca=True, subject="more")
            chain = [made(key, more.subject, between), more, ours]
        case "an authority itself":
            chain, key = [ours], ours_key
        case "an authority with a workload's name":
            chain = [made(key, ours.subject, ours_key, ca=True), ours]
        case "not yet":
            chain = [made(key, ours.subject, ours_key, begins=timedelta(minutes=5)), ours]
        case _:
            raise ValueError(shape)
    pem = "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in chain)
    secrets = Secrets(chain_pem=pem, key_pem=key_pem(key), bundle_pem=authority.bundle_pem())
    return Svid(CHECKOUT, secrets, chain[0].not_valid_after_utc, chain[0].serial_number)


@pytest.mark.parametrize(
    "shape",
    [
        "no intermediate",
        "below a leaf",
        "below one more authority",
        "an authority itself",
        "an authority with a workload's name",
        "not yet",
    ],
)
def test_a_chain_of_another_shape_is_refused(own_site: Site, gateway: Gateway, tmp_path: Path, shape: str) -> None:
    audit = own_site.audit()
    svid = _chain(own_site, shape)
    # gRPC's own client would not even load some of these.
    file = tmp_path / "client.pem"
    file.write_text(svid.secrets.key_pem + svid.secrets.chain_pem)
    context = ssl.create_default_context(cadata=svid.secrets.bundle_pem)
    context.load_cert_chain(file)
    if shape == "an authority itself":
        # A key that signs certificates may sign no handshake: TLS itself ends it.
        assert alert(gateway.address, context) == "SSLV3_ALERT_ILLEGAL_PARAMETER"
        return
    with closing(Http2(gateway.address, context)) as client:
        client.call(SERVICE + "ExecuteSql", framed(encode(SELECT)), {})
    (line,) = audit.wait(1)
    assert (line["reason"], line["decision"], line["identity"]) == ("untrusted-certificate", "refuse", None)


def test_no_session_is_resumed_so_that_every_connection_shows_its_certificate(
    own_site: Site, gateway: Gateway, tmp_path: Path
) -> None:
    svid = own_site.svid(CHECKOUT)
    file = tmp_path / "client.pem"
    file.write_text(svid.secrets.key_pem + svid.secrets.chain_pem)
    context = ssl.create_default_context(cadata=svid.secrets.bundle_pem)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    host, _, port = gateway.address.rpartition(":")

    def connect(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        with (
            socket.create_connection((host, int(port)), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
        ):
            # A ticket comes, if one does, with the first bytes of the other side.
            secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            assert secure.recv(1)
            return bool(secure.session_reused), secure.session

    reused, session = connect(None)
    assert not reused
    assert session is None or not session.has_ticket
    if session is not None:
        assert not connect(session)[0]


def test_without_tls_nobody_is_answered(gateway: Gateway) -> None:
    with Client(gateway.address, None) as client:
        assert client.refusal("ExecuteSql", SELECT, 5).code is UNAVAILABLE


# RPCs

REFUSED_RPCS = {"FetchCacheUpdate"}


def test_every_other_rpc_of_spanner_and_of_its_admin_apis_is_refused(own_site: Site, gateway: Gateway) -> None:
    # The service's RPCs, as the client library knows them.
    known = set(re.findall(r'"/google\.spanner\.v1\.Spanner/(\w+)"', inspect.getsource(SpannerGrpcTransport)))
    assert known - METHODS == REFUSED_RPCS
    others = [SERVICE + name for name in sorted(REFUSED_RPCS)]
    admin = "/google.spanner.admin."
    others += [
        admin + "database.v1.DatabaseAdmin/CreateDatabase",
        admin + "database.v1.DatabaseAdmin/DropDatabase",
        admin + "instance.v1.InstanceAdmin/DeleteInstance",
        "/google.longrunning.Operations/CancelOperation",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/nobody.knows/This",
        SERVICE + "executesql",
        SERVICE + "ExecuteSql/",
        SERVICE + "ExecuteSql?x",
        "//google.spanner.v1.Spanner/ExecuteSql",
    ]
    who = identity("rpcs")
    audit = own_site.audit()
    with gateway.client(who) as client:
        for path in others:
            answer = client.raw(path, encode(SELECT))
            assert isinstance(answer, Refused), path
            assert answer.code is DENIED, path
            assert path.removeprefix(SERVICE) in answer.details
    lines = audit.wait(len(others), who)
    assert {(line["reason"], line["decision"]) for line in lines} == {("unsupported-rpc", "refuse")}
    assert [line["rpc"] for line in lines] == [path.removeprefix(SERVICE) for path in others]


# Messages

FOREIGN_FIELD = encode(SELECT) + b"\xfa\x7f\x00"  # field 2047
SECOND_SQL = encode(SELECT) + b"\x1a\x08SELECT 1"

MALFORMED = {
    "noise": b"\xff\xff\xff\xff\xff\xff",
    "text": b"SELECT 1",
    "broken off": encode(SELECT)[:-3],
    "empty": b"",
    "an unknown field": FOREIGN_FIELD,
    "a second statement": SECOND_SQL,
    "a session of nobody": encode(types.ExecuteSqlRequest(session="x", sql="SELECT 1")),
    "an overlong tag": b"\x8a\x80\x80\x80\x00" + encode(SELECT),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_body_that_cannot_be_read_with_certainty_is_refused(own_site: Site, gateway: Gateway, case: str) -> None:
    who = identity("malformed")
    audit = own_site.audit()
    with gateway.client(who) as client:
        answer = client.refusal("ExecuteSql", MALFORMED[case])
    assert answer.code is DENIED
    assert answer.details.startswith("spangate: ")
    (line,) = audit.wait(1, who)
    assert (line["reason"], line["decision"], line["identity"]) == ("malformed-request", "refuse", str(who))
    assert line["detail"] == answer.details


def test_a_compressed_message_is_refused(own_site: Site, gateway: Gateway) -> None:
    who = identity("gzip")
    audit = own_site.audit()
    # Compressing must pay, or the client library leaves it.
    long = types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders" + " " * 4096)
    with gateway.client(who) as client:
        answer = client.refusal("ExecuteSql", long, compression=grpc.Compression.Gzip)
    assert answer.code is DENIED
    assert "compressed" in answer.details
    assert audit.wait(1, who)[0]["reason"] == "compressed-message"


@pytest.mark.parametrize("count", [0, 2])
def test_a_request_of_none_or_several_messages_is_refused(own_site: Site, gateway: Gateway, count: int) -> None:
    who = identity(f"messages{count}")
    audit = own_site.audit()
    with gateway.client(who) as client, pytest.raises(grpc.RpcError) as caught:
        client.channel.stream_unary(SERVICE + "ExecuteSql")(iter([encode(SELECT)] * count), timeout=20)
    answer = refused(caught.value)
    assert answer.code is DENIED
    assert "message" in answer.details
    assert audit.wait(1, who)[0]["reason"] == "malformed-request"


OWNER_LABEL = {"spangate-owner": "iabcdefghijklm"}


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (types.CreateSessionRequest(database=DATABASE, session={"labels": OWNER_LABEL}), "spangate-owner"),
        (
            types.BatchCreateSessionsRequest(database=DATABASE, session_template={"labels": OWNER_LABEL}),
            "spangate-owner",
        ),
    ],
)
def test_what_is_spangates_own_is_refused_by_name(own_site: Site, gateway: Gateway, message: object, word: str) -> None:
    who = identity("features")
    audit = own_site.audit()
    with gateway.client(who) as client:
        answer = client.refusal(type(message).__name__.removesuffix("Request"), message)
    assert answer.code is DENIED
    assert word in answer.details
    assert audit.wait(1, who)[0]["reason"] == "unsupported-feature"


def test_a_policy_denial_names_identity_access_version_id_and_command(own_site: Site, gateway: Gateway) -> None:
    who = identity("nobody")
    audit = own_site.audit()
    cases = [
        (CHECKOUT, "SELECT Email FROM Customers", DATABASE, DENIED, "missing-grant", "Customers(Email)"),
        (who, "SELECT OrderId FROM Orders", DATABASE, DENIED, "unknown-identity", str(who)),
        (CHECKOUT, "SELECT 1", LAB, DENIED, "unknown-database", "lab"),
        (CHECKOUT, "SELECT FROM WHERE", DATABASE, grpc.StatusCode.INVALID_ARGUMENT, "unreadable-statement", ""),
    ]
    for count, (shows, sql, database, status, reason, word) in enumerate(cases, start=1):
        with gateway.client(shows) as client:
            request = types.ExecuteSqlRequest(session=session_of(shows, database), sql=sql)
            answer = client.refusal("ExecuteSql", request)
        line = audit.wait(count)[-1]
        assert answer.code is status
        assert (line["reason"], line["decision"], line["identity"]) == (reason, "deny", str(shows))
        assert line["grpc_status"] == status.name
        assert word in answer.details
        assert line["policy"] in answer.details
        assert f"spangate explain {line['decision_id']}" in answer.details


# The filter itself

PROVOKED = {
    "at the very start": ("function envoy_on_request(handle)\n", "{0}  error('provoked')\n"),
    "a nil index at the start": ("function envoy_on_request(handle)\n", "{0}  local no; no.thing = 1\n"),
    "after the body": ("  local buffer = handle:body()\n  if not prepared", "  handle:body() error('provoked')\n{0}"),
    "where it is caught": ("  begin_request()\n  local out = scan(body, 6, message_end", "  error('provoked')\n{0}"),
    "after asking for the epoch": ("  return clock(handle)\nend", "  error('provoked')\nend"),
    "after the checkpoint's answer": ("  if not decision then\n    return answer(", "  error('provoked')\n{0}"),
    "after the decision to allow": ("  if rewritten then handle:body()", "  local no; no.thing = 1\n{0}"),
    "just before the mark": ('  metadata:set(METADATA, "allow", decision.id)\n', "  error('provoked')\n{0}"),
    "a dead handle": (
        "  local metadata = handle:streamInfo():dynamicMetadata()\n  local hook",
        "  buffer:length()\n{0}",
    ),
    "endless recursion": ("  local now = refresh(handle)\n", "  local function r() return 1 + r() end r()\n{0}"),
    "the answer to a refusal": ("local function answer(handle, status", "local function answer(handle, gone, status"),
}


@pytest.mark.parametrize("place", PROVOKED)
def test_an_error_in_the_filter_never_lets_a_request_through(own_site: Site, tmp_path: Path, place: str) -> None:
    anchor, replacement = PROVOKED[place]
    # As it is put together.
    anchor = shortened(anchor)
    text = filter_source()
    assert text.count(anchor) == 1, "the filter has changed; choose another place"
    program = tmp_path / "broken.lua"
    program.write_text(text.replace(anchor, replacement.replace("{0}", anchor)))
    audit = own_site.audit()
    gateway = own_site.start_gateway(program)
    # Something the policy allows: only the error stands in its way. And a refusal, for the last place.
    message = SELECT if place != "the answer to a refusal" else b"\xff"
    with gateway.client(CHECKOUT) as client:
        # The first one of a new worker yields at every place where the script can.
        answer = client.refusal("ExecuteSql", message)
    assert answer.code is DENIED
    assert NOT_VETTED in answer.details or "failed on this request" in answer.details
    (line,) = audit.wait(1)
    assert (line["reason"], line["decision"]) == ("filter-failed", "error")
    gateway.envoy.stop()
    assert "lua" in gateway.envoy.child.log.read_text().lower()


# The checkpoint


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_without_the_checkpoint_known_shapes_live_for_the_grace_and_nothing_new_is_decided(
    tmp_path: Path, number: signal.Signals
) -> None:
    with site(tmp_path) as own:
        gateway = own.start_gateway()
        assert own.checkpoint is not None
        audit = own.audit()
        fresh = types.ExecuteSqlRequest(session=SESSION, sql="SELECT Status FROM Orders")
        with gateway.client(CHECKOUT) as client:
            assert not isinstance(client.call("ExecuteSql", SELECT), Refused)
            os.kill(own.checkpoint.pid, number)
            stopped = time.monotonic()
            known = client.channel.unary_unary(SERVICE + "ExecuteSql").future(encode(SELECT), timeout=30)
            # Whoever pays for the epoch check waits for it; the others do not.
            assert not isinstance(client.call("ExecuteSql", SELECT, 2), Refused)
            assert time.monotonic() - stopped < 4
            answer = client.refusal("ExecuteSql", fresh)
            waited = time.monotonic() - stopped
            assert answer.code is UNAVAILABLE
            assert "the checkpoint does not answer" in answer.details
            # An epoch question of a second and one for the decision of five, at most.
            assert waited < (5 if number is signal.SIGKILL else 9)
            known.exception()

            def known_is_refused() -> Refused | None:
                answer = client.call("ExecuteSql", SELECT)
                return answer if isinstance(answer, Refused) else None

            refusal = eventually(known_is_refused, "the grace ends", 20)
            assert refusal.code is UNAVAILABLE
            assert len({rpc for rpc, _ in own.spanner.calls}) == 1
            bodies = [body for _, body in own.spanner.calls]
            assert all(b"SELECT Status" not in body for body in bodies)
            line = eventually(
                lambda: next((x for x in audit.lines(CHECKOUT) if x["reason"] == "checkpoint-unavailable"), None),
                "an audit line says so",
            )
            assert (line["decision"], line["grpc_status"]) == ("error", "UNAVAILABLE")

            if number is signal.SIGSTOP:
                os.kill(own.checkpoint.pid, signal.SIGCONT)
            else:
                own.start_checkpoint()
            eventually(lambda: not isinstance(client.call("ExecuteSql", fresh), Refused), "it decides again", 20)


def test_the_same_gateway_lets_an_allowed_request_through(tmp_path: Path) -> None:
    """Without this, all of the above could be passed by a gateway that is simply down."""
    with site(tmp_path) as own:
        gateway = own.start_gateway()
        with gateway.client(CHECKOUT) as client:
            assert client.call("ExecuteSql", SELECT) == b""
        assert [rpc for rpc, _ in own.spanner.calls] == ["ExecuteSql"]
        assert own.spanner.connections == 1
        assert 0 < own.spanner.bytes < MIB


def test_a_certificate_that_ends_while_its_connection_is_open_counts_no_longer(tmp_path: Path) -> None:
    with site(tmp_path) as own:
        gateway = own.start_gateway()
        svid = signed_by_us(own, str(CHECKOUT), ended=timedelta(seconds=-4))
        audit = own.audit()
        with gateway.client(svid) as client:
            assert client.call("ExecuteSql", SELECT) == b""

            def refusal() -> Refused | None:
                answer = client.call("ExecuteSql", SELECT)
                return answer if isinstance(answer, Refused) else None

            answer = eventually(refusal, "the certificate ends", 10)
            assert _now() >= svid.not_after
            reached = own.spanner.reached[2]
            assert isinstance(client.call("Commit", types.CommitRequest(session=SESSION)), Refused)
            assert own.spanner.reached[2] == reached
        assert answer.code is DENIED
        assert "has ended since this connection was opened" in answer.details
        eventually(lambda: audit.lines()[-1:] and audit.lines()[-1]["rpc"] == "Commit", "the last audit line", 10)
        assert {line["reason"] for line in audit.lines()} == {"granted", "untrusted-certificate"}


def test_who_renews_in_time_does_not_notice_since_connections_are_replaced_before(tmp_path: Path) -> None:
    """With a connection's life cut from 20 minutes to one second: nothing fails, and an open stream goes on."""
    with site(tmp_path) as own:
        done = threading.Event()

        def slowly(rpc: str, _body: bytes) -> Iterator[bytes]:
            yield b""
            if rpc == "ExecuteStreamingSql":
                done.wait(20)
                yield b""

        own.spanner.answers = slowly
        gateway = own.start_gateway(change=(f'"{CONNECTION_SECONDS_MAX}s"', '"1s"'))
        audit = own.audit()
        with gateway.client(CHECKOUT) as client:
            stream = client.stream("ExecuteStreamingSql", SELECT)
            next(stream)
            requests, end = 0, time.monotonic() + 9
            while time.monotonic() < end:
                assert client.call("ExecuteSql", SELECT) == b""
                requests += 1
                time.sleep(0.05)
            done.set()
            assert list(stream) == [b""]
        audit.wait(requests + 1)
        connections = _connections_of(gateway)
        assert connections > 1, "the connection was never replaced"


def _connections_of(gateway: Gateway) -> int:
    """How many the gateway has accepted so far."""
    connection = UnixConnection(gateway.site.sockets / f"gateway{gateway.site.gateways}.sock", 5)
    try:
        connection.request("GET", "/stats?filter=^http.gateway.downstream_cx_total$")
        return int(connection.getresponse().read().split(b":")[1])
    finally:
        connection.close()
