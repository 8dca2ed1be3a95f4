"""Promise: HTTP/2 written by hand, against the rules or at their edge, reaches nobody and ends nothing.

Frames are written by hand: no library would send them.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.cloud.spanner_v1 import types

from conformance.engines.http2 import DATA, END_HEADERS, END_STREAM, FRAME_BYTES_MAX, HEADERS, RST_STREAM
from e2e.harness import CHECKOUT, GATEWAY, SESSION, Gateway, Refused, Site, encode, eventually
from fakes.spanner_oracle import framed

pytestmark = pytest.mark.e2e

SELECT = encode(types.ExecuteSqlRequest(session=SESSION, sql="SELECT OrderId FROM Orders"))
BODY = framed(SELECT)
PATH = "/google.spanner.v1.Spanner/ExecuteSql"
USUAL = (
    (":method", "POST"),
    (":scheme", "https"),
    (":path", PATH),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)
CONTINUATION, SETTINGS, PRIORITY = 9, 4, 2
# Of the gateway's answer; it has no more to say to any of these.
SECONDS = 3.0

Field = tuple[str, str]


def number(value: int, bits: int) -> bytes:
    """RFC 7541 section 5.1, with the bits before it zero."""
    top = 2**bits - 1
    if value < top:
        return bytes([value])
    found, value = bytes([top]), value - top
    while value >= 128:
        found, value = found + bytes([128 + value % 128]), value // 128
    return found + bytes([value])


def block(*fields: Field) -> bytes:
    """RFC 7541 section 6.2.2: literals, not indexed, no Huffman code. Latin-1, so that any byte can be sent."""
    return b"".join(
        b"\0" + b"".join(number(len(text.encode("latin-1")), 7) + text.encode("latin-1") for text in field)
        for field in fields
    )


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def request(*fields: Field, body: bytes = BODY, stream: int = 1) -> bytes:
    """HEADERS with any fields, then DATA."""
    head = block(*fields)
    first, rest = head[:FRAME_BYTES_MAX], head[FRAME_BYTES_MAX:]
    found = frame(HEADERS, 0 if rest else END_HEADERS, stream, first)
    while rest:
        part, rest = rest[:FRAME_BYTES_MAX], rest[FRAME_BYTES_MAX:]
        found += frame(CONTINUATION, 0 if rest else END_HEADERS, stream, part)
    parts = [body[at : at + FRAME_BYTES_MAX] for at in range(0, len(body), FRAME_BYTES_MAX)] or [b""]
    for i, part in enumerate(parts):
        found += frame(DATA, END_STREAM if i == len(parts) - 1 else 0, stream, part)
    return found


def changed(**fields: str) -> list[Field]:
    """The usual fields with some replaced; `_method` stands for `:method`."""
    new = {name.replace("__", "-").replace("_", ":"): value for name, value in fields.items()}
    return [(name, new.get(name, value)) for name, value in USUAL]


HEAD = frame(HEADERS, END_HEADERS, 1, block(*USUAL))

# What is sent on one connection. Each of them is refused or ends the connection; none of them reaches Spanner.
ATTACKS: dict[str, bytes] = {
    **{
        f"the path {path!r}": request(*changed(_path=path))
        for path in (
            PATH + "/",
            PATH + "?alt=json",
            PATH + "#x",
            "/" + PATH,
            PATH.replace("ExecuteSql", "executesql"),
            PATH.replace("ExecuteSql", "%45xecuteSql"),
            "/x/.." + PATH,
            "/./" + PATH[1:],
            PATH.replace("Spanner/", "Spanner//"),
            PATH.replace("/", "\\"),
            PATH + "\0",
            PATH + " ",
            "https://localhost" + PATH,
            "*",
            "",
            "/google.spanner.v1.Spanner/Commit?",
        )
    },
    **{
        f"the method {method!r}": request(*changed(_method=method))
        for method in ("GET", "PUT", "post", "POST ", "CONNECT", "OPTIONS", "TRACE", "")
    },
    **{
        f"the content type {kind!r}": request(*changed(content__type=kind))
        for kind in (
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc+json",
            "application/grpc+proto;x=y",
            "application/grpc; charset=utf-8",
            "APPLICATION/GRPC",
            "application/json",
            "application/grpc\0",
        )
    },
    "two content types": request(*USUAL, ("content-type", "application/json")),
    "no content type": request(*USUAL[:4]),
    "an encoded body": request(*USUAL, ("content-encoding", "deflate")),
    "two paths": request(USUAL[2], *USUAL),
    "two methods": request((":method", "GET"), *USUAL),
    "a pseudo header after the others": request(*USUAL, (":path", "/other")),
    "an unknown pseudo header": request((":unknown", "x"), *USUAL),
    "an extended CONNECT": request((":protocol", "websocket"), *changed(_method="CONNECT")),
    "an upgrade": request(*USUAL, ("connection", "upgrade"), ("upgrade", "h2c")),
    "a transfer encoding": request(*USUAL, ("transfer-encoding", "chunked")),
    "a name in capitals": request(*USUAL, ("X-Name", "x")),
    "a line end in a value": request(*USUAL, ("x-name", "a\r\nauthorization: b")),
    "a content length that is too short": request(*USUAL, ("content-length", "3")),
    "a content length that is too long": request(*USUAL, ("content-length", "9999")),
    "two content lengths": request(*USUAL, ("content-length", str(len(BODY))), ("content-length", "3")),
    "very many headers": request(*USUAL, *((f"x-{i}", "y") for i in range(20_000))),
    "a huge header": request(*USUAL, ("x-huge", "y" * 2_000_000)),
    "no body at all": frame(HEADERS, END_HEADERS | END_STREAM, 1, block(*USUAL)),
    "an empty body": request(*USUAL, body=b""),
    "two messages": request(*USUAL, body=BODY + BODY),
    "a second message of no bytes": request(*USUAL, body=BODY + bytes(5)),
    "a byte too many": request(*USUAL, body=BODY + b"\0"),
    "a byte too few": request(*USUAL, body=BODY[:-1]),
    "a compressed message": request(*USUAL, ("grpc-encoding", "gzip"), body=b"\1" + BODY[1:]),
    "unknown flags": request(*USUAL, body=b"\x80" + BODY[1:]),
    "a length beyond all": request(*USUAL, body=b"\0\xff\xff\xff\xff" + SELECT),
    "a body that is given up": HEAD + frame(DATA, 0, 1, BODY) + frame(RST_STREAM, 0, 1, bytes(4)),
    "a body that does not end": HEAD + frame(DATA, 0, 1, BODY),
    "data after the end": request(*USUAL, body=BODY[:-1]) + frame(DATA, END_STREAM, 1, BODY[-1:]),
    "headers after the end": request(*USUAL, body=BODY[:-1]) + frame(HEADERS, END_HEADERS, 1, block(*USUAL)),
    "trailers that do not end": HEAD + frame(DATA, 0, 1, BODY) + frame(HEADERS, END_HEADERS, 1, block(("x", "y"))),
    "trailers with a path": (
        HEAD
        + frame(DATA, 0, 1, BODY)
        + frame(HEADERS, END_HEADERS | END_STREAM, 1, block((":path", "/other"), (":method", "GET")))
    ),
    "data on a stream that was never opened": frame(DATA, END_STREAM, 1, BODY),
    "an even stream": request(*USUAL, stream=2),
    "the stream 0": request(*USUAL, stream=0),
    "a stream that depends on itself": HEAD + frame(PRIORITY, 0, 1, (1).to_bytes(4, "big") + b"\0"),
    "padding longer than its frame": HEAD + frame(DATA, 8 | END_STREAM, 1, b"\xff" + BODY),
    "a frame longer than allowed": HEAD + frame(DATA, END_STREAM, 1, BODY + bytes(20_000)),
    "another frame between the parts of a header": (
        frame(HEADERS, 0, 1, block(*USUAL[:3])) + frame(DATA, END_STREAM, 1, BODY)
    ),
    "a flood of continuations": frame(HEADERS, 0, 1, block(*USUAL)) + frame(CONTINUATION, 0, 1, b"") * 50_000,
    "a flood of resets": b"".join(
        frame(HEADERS, END_HEADERS, stream, block(*USUAL)) + frame(RST_STREAM, 0, stream, bytes(4))
        for stream in range(1, 6001, 2)
    ),
    "a flood of settings": frame(SETTINGS, 0, 0, b"") * 50_000,
    "a header table of another size": b"\x3f\xe1\xff\xff\x7f" + request(*USUAL),
    "HTTP/1.1": b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: localhost\r\n\r\n" + BODY,
}


@pytest.fixture(scope="module")
def gateway(own_site: Site) -> Gateway:
    return own_site.start_gateway()


@pytest.fixture(scope="module")
def tls(own_site: Site) -> ssl.SSLContext:
    """As CHECKOUT."""
    secrets = own_site.svid(CHECKOUT).secrets
    context = ssl.create_default_context(cadata=own_site.svid(GATEWAY).secrets.bundle_pem)
    with tempfile.TemporaryDirectory() as folder:
        # Python reads a certificate from a file only; this one is of this test's own authority.
        file = Path(folder) / "svid.pem"
        file.write_text(secrets.key_pem + secrets.chain_pem, encoding="ascii")
        context.load_cert_chain(file)
    context.set_alpn_protocols(["h2"])
    return context


def talk(gateway: Gateway, tls: ssl.SSLContext, data: bytes, seconds: float = SECONDS) -> bytes:
    """Sends it after the preface, and returns what comes until the gateway has said no more for a while."""
    host, _, port = gateway.address.rpartition(":")
    received = b""
    with (
        socket.create_connection((host, int(port)), timeout=seconds) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        try:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"") + data)
            connection.settimeout(0.3)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                received += (got := connection.recv(65_536))
                if not got:
                    break
        except OSError:
            pass  # it has closed, or says no more
    return received


def serves(gateway: Gateway) -> bool:
    with gateway.client(CHECKOUT) as client:
        return not isinstance(client.raw(PATH, SELECT), Refused)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_http2_or_grpc_does_not_allow_reaches_nobody(
    own_site: Site, gateway: Gateway, tls: ssl.SSLContext, attack: str
) -> None:
    before = len(own_site.spanner.calls)
    talk(gateway, tls, ATTACKS[attack])
    reached = own_site.spanner.calls[before:]
    # A request that was whole before the nonsense began is a good one.
    assert reached == [], attack
    assert serves(gateway)


def test_a_good_request_by_hand_arrives(own_site: Site, gateway: Gateway, tls: ssl.SSLContext) -> None:
    """Or the others would show nothing."""
    slowly = HEAD + b"".join(frame(DATA, 0, 1, BODY[i : i + 1]) for i in range(len(BODY))) + frame(DATA, 1, 1, b"")
    padded = HEAD + frame(DATA, 8 | END_STREAM, 1, b"\x10" + BODY + bytes(16))
    trailers = HEAD + frame(DATA, 0, 1, BODY) + frame(HEADERS, END_HEADERS | END_STREAM, 1, block(("x-trailer", "y")))
    for data in (request(*USUAL), slowly, padded, trailers):
        before = len(own_site.spanner.calls)
        talk(gateway, tls, data, 1.0)
        eventually(lambda count=before: len(own_site.spanner.calls) == count + 1, "it arrives", 10)  # type: ignore[misc]
        rpc, body = own_site.spanner.calls[-1]
        assert (rpc, body[: len(SELECT)]) == ("ExecuteSql", SELECT)


def test_a_request_that_never_ends_is_given_up_but_a_slow_answer_is_not(own_site: Site, tls: ssl.SSLContext) -> None:
    gateway = own_site.start_gateway(change=('"request_timeout": "300s"', '"request_timeout": "1s"'))
    before = len(own_site.spanner.calls)
    started = time.monotonic()
    answer = talk(gateway, tls, HEAD + frame(DATA, 0, 1, BODY), 8.0)
    assert time.monotonic() - started < 20
    assert answer
    assert own_site.spanner.calls[before:] == []

    def slowly(_rpc: str, _body: bytes) -> Iterator[bytes]:
        time.sleep(2.5)
        yield b"\x10\x01"
        time.sleep(2.5)
        yield b"\x10\x02"

    usual, own_site.spanner.answers = own_site.spanner.answers, slowly
    try:
        with gateway.client(CHECKOUT) as client:
            assert list(client.stream("ExecuteStreamingSql", SELECT)) == [b"\x10\x01", b"\x10\x02"]
    finally:
        own_site.spanner.answers = usual


def test_who_is_too_slow_is_told_so(own_site: Site) -> None:
    gateway = own_site.start_gateway(change=('"request_timeout": "300s"', '"request_timeout": "1s"'))

    def never(sent: list[bytes]) -> Iterator[bytes]:
        yield from sent
        time.sleep(4)

    channel = gateway.client(CHECKOUT)
    with channel as client:
        call = client.channel.stream_unary(PATH, request_serializer=None, response_deserializer=None)
        with pytest.raises(grpc.RpcError) as error:
            call(never([SELECT]), timeout=20)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "did not arrive within" in error.value.details()
