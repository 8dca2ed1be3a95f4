"""What the end-to-end tests share: a running `up`, programs beside it, raw gRPC clients, a gateway of one's own.

Everything started here is ended here, also when a test fails; every wait has an end.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from google.cloud.spanner_v1 import types

from fakes.seals import KEY, KEY_ID, seal_name
from spangate.adapters.audit_files import AuditPaths, Collector
from spangate.adapters.clock import SystemClock
from spangate.adapters.envoy import EnvoyChild
from spangate.adapters.keys import SystemKeys, key_pem
from spangate.adapters.process import Child
from spangate.adapters.sds_door import BUNDLE_SECRET, CERTIFICATE_SECRET, Secrets, SecretSource, sds_app
from spangate.adapters.seal_keys import FILE, FileSealKeys
from spangate.adapters.state import runtime_directory
from spangate.adapters.svid_client import Svid, SvidClient, sign_here
from spangate.adapters.unix_server import UnixServer
from spangate.app.gate_parts import filter_file
from spangate.authority.ca import Authority
from spangate.checkpoint.sealing import SealKey
from spangate.compiler.gateway import LISTENER, GatewayPlan, gateway_bootstrap
from spangate.model.identity import SpiffeId

SPANGATE = Path(sys.executable).parent / "spangate"
SHOP = Path(__file__).parents[2] / "examples" / "shop"
SERVICE = "/google.spanner.v1.Spanner/"
TRUST_DOMAIN = "shop.example"
DATABASE = "projects/spangate-local/instances/main/databases/shop"
LAB = "projects/spangate-local/instances/main/databases/lab"
GATEWAY = SpiffeId(TRUST_DOMAIN, ("spangate", "gateway"))
CHECKOUT = SpiffeId.workload(TRUST_DOMAIN, "shop", "checkout")
REPORTS = SpiffeId.workload(TRUST_DOMAIN, "analytics", "reports")
TESTER = SpiffeId.workload(TRUST_DOMAIN, "lab", "tester")

# A loaded machine gets patience; nothing waits this long when all is well.
PATIENCE_SECONDS = 30.0
CALL_SECONDS = 30.0
MIB = 1024 * 1024

T = TypeVar("T")

# A second database with a column of every usual type, and an identity that may do anything there.
LAB_SCHEMA = """\
CREATE TABLE Things (
  Id INT64 NOT NULL,
  B BOOL, F FLOAT64, N NUMERIC, S STRING(MAX), Y BYTES(MAX), D DATE, T TIMESTAMP, J JSON,
  A ARRAY<INT64>, L ARRAY<STRING(MAX)>,
  Stamped TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (Id);

CREATE INDEX ThingsByS ON Things (S) STORING (B);
"""
LAB_INTENT = (
    ("databases:\n", "databases:\n  lab: {instance: main, database: lab, schema: lab.sql}\n"),
    ("identities:\n", "identities:\n  tester:   {workload: lab/tester}\n"),
    (
        "access:\n",
        "access:\n  tester: {lab: {read: [Things], insert: [Things], update: [Things], delete: [Things]}}\n",
    ),
)

# Of the stand-in's, see tests/fakes/google.py; reports gets a service account's token.
ACCOUNT = "shop-db@shop-project.iam.gserviceaccount.com"
GOOGLE = """
google: {project_number: "123456789012", pool: mesh, provider: spangate}
"""


def eventually(probe: Callable[[], T | None], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """The first truthy answer of `probe`."""
    deadline = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


def lines_until(program: subprocess.Popen[str], wanted: Callable[[str], bool], seconds: float = 30.0) -> list[str]:
    """What it prints, up to the first line that is `wanted`; ended if that does not come."""
    if program.stdout is None:
        raise ValueError("its output is not read by pipe")
    watchdog = threading.Timer(seconds, program.kill)
    watchdog.start()
    lines: list[str] = []
    try:
        for line in program.stdout:
            lines.append(line)
            if wanted(line):
                return lines
    finally:
        watchdog.cancel()
    raise AssertionError(f"it ended, or {seconds} s passed, before the line that was waited for: {lines}")


def shop_folder(folder: Path, *, lab: bool = False) -> Path:
    """A copy of the example in `folder`; with `lab`, the second database too."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in SHOP.iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    if lab:
        (folder / "lab.sql").write_text(LAB_SCHEMA)
        edit(folder / "spangate.yaml", *LAB_INTENT)
    return folder


def edit(file: Path, *changes: tuple[str, str]) -> None:
    """Replaces texts that must be there; the file changes at once."""
    text = file.read_text()
    for old, new in changes:
        assert text.count(old) == 1, f"`{old}` is not there once"
        text = text.replace(old, new)
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(text)
    temporary.replace(file)


# Processes -----------------------------------------------------------------------------------------------------------


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for its parent does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def descendants(pid: int) -> dict[int, str]:
    """pid -> command line of everything below `pid`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            with contextlib.suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                waiting.append(child)
    return found


def memory_kib(pid: int, what: str = "VmRSS") -> int:
    """Resident memory of a process in KiB; `VmHWM` is its peak."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1])


def spangate(*arguments: str, cwd: Path, seconds: float = 60.0, **env: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [str(SPANGATE), *arguments],
        cwd=cwd,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


class Up:
    """`spangate up` in a folder, as a user's terminal would start it. What it prints goes to a file there."""

    def __init__(self, folder: Path, *arguments: str, **env: str) -> None:
        self.folder = folder
        self.state = folder / ".spangate"
        self._printed = folder / "printed.txt"
        with self._printed.open("wb") as output:
            self.process = subprocess.Popen(
                [str(SPANGATE), "up", *arguments],
                cwd=folder,
                env=os.environ | env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.running: dict[str, Any] = {}
        self.children: dict[int, str] = {}

    def wait_until_up(self) -> Up:
        def is_up() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"`up` ended with {self.process.returncode}:\n{self.printed}")
            return "Spangate is up" in self.printed

        try:
            eventually(is_up, "`up` says that it is up", 60)
        except BaseException:
            self.kill()
            raise
        self.running = json.loads((self.state / "up.json").read_text())
        self.children = descendants(self.process.pid)
        return self

    @property
    def printed(self) -> str:
        return self._printed.read_text()

    @property
    def runtime(self) -> Path:
        return Path(self.running["authority_socket"]).parent

    def child(self, part: str) -> int:
        """The pid of the child whose command line contains `part`."""
        return next(pid for pid, line in self.children.items() if part in line)

    def part(self, part: str) -> int | None:
        """The pid of the child of now whose command line contains `part`; parts are started again."""
        return next((pid for pid, line in descendants(self.process.pid).items() if part in line), None)

    def kill_part(self, part: str) -> int:
        """Ends it by SIGKILL and returns once another one is there: its pid."""
        before = self.part(part)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        return eventually(lambda: (now := self.part(part)) != before and now, f"{part} is started again", 10)

    @property
    def gateway_pid(self) -> int:
        return self.child("gateway.json")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit code after that signal."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # What one does with it.

    def run(self, identity: str, *command: str, seconds: float = 90.0, **env: str) -> subprocess.CompletedProcess[str]:
        return spangate("run", "--as", identity, "--", *command, cwd=self.folder, seconds=seconds, **env)

    def program(self, identity: str, file: str | Path, *arguments: str, **env: str) -> str:
        """What a Python program prints; it must succeed."""
        done = self.run(identity, sys.executable, str(file), *arguments, **env)
        assert done.returncode == 0, f"{file} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def svid(self, identity: SpiffeId) -> Svid:
        return SvidClient(Path(self.running["authority_socket"]), SystemKeys()).fetch(identity)

    @contextlib.contextmanager
    def client(self, identity: SpiffeId) -> Iterator[Client]:
        """A raw client with an SVID of `identity`."""
        svid = self.svid(identity)
        with Client(self.running["gateway"], credentials(svid, svid)) as client:
            yield client

    @contextlib.contextmanager
    def direct(self) -> Iterator[Client]:
        """A raw client of Spanner itself, past the gateway."""
        with Client(self.running["spanner"], None) as client:
            yield client

    def audit(self) -> Audit:
        """Audit lines from now on."""
        return Audit(self.state / "audit.jsonl")


class Audit:
    """The lines of an audit file that come after this was made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size if path.exists() else 0

    def lines(self, identity: SpiffeId | str | None = None) -> list[dict[str, Any]]:
        """All of them, or those of one identity, verified or claimed."""
        try:
            content = self._path.read_bytes()[self._offset :]
        except FileNotFoundError:
            return []
        found = [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]
        who = None if identity is None else str(identity)
        return [line for line in found if who is None or who in (line["identity"], line["claimed_identity"])]

    def wait(self, count: int, identity: SpiffeId | str | None = None) -> list[dict[str, Any]]:
        """Exactly `count` lines: fewer are waited for, more are an error."""
        eventually(lambda: len(self.lines(identity)) >= count, f"{count} audit lines of {identity}", 10)
        found = self.lines(identity)
        assert len(found) == count, found
        return found


# Raw gRPC ------------------------------------------------------------------------------------------------------------


def credentials(trusts: Svid | None, shows: Svid | None) -> grpc.ChannelCredentials:
    """TLS that trusts the bundle that came with one SVID and shows the other, or nothing."""
    assert trusts is not None
    roots = trusts.secrets.bundle_pem.encode()
    if shows is None:
        return grpc.ssl_channel_credentials(roots)
    return grpc.ssl_channel_credentials(roots, shows.secrets.key_pem.encode(), shows.secrets.chain_pem.encode())


@dataclass(frozen=True)
class Refused:
    """What a failed call told its client."""

    code: grpc.StatusCode
    details: str
    trailing: tuple[tuple[str, str | bytes], ...]


class Client:
    """gRPC with bytes in and bytes out."""

    def __init__(self, address: str, tls: grpc.ChannelCredentials | None, *options: tuple[str, Any]) -> None:
        everything = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),
            *options,
        ]
        if tls is None:
            self.channel = grpc.insecure_channel(address, everything)
        else:
            everything.append(("grpc.ssl_target_name_override", "localhost"))
            self.channel = grpc.secure_channel(address, tls, everything)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def raw(self, path: str, body: bytes, seconds: float = CALL_SECONDS, **options: Any) -> bytes | Refused:
        """One message, one answer, or the refusal."""
        try:
            return self.channel.unary_unary(path)(body, timeout=seconds, **options)
        except grpc.RpcError as error:
            return refused(error)

    def call(self, rpc: str, message: Any, seconds: float = CALL_SECONDS, **options: Any) -> bytes | Refused:
        """One of Spanner's unary RPCs."""
        return self.raw(SERVICE + rpc, encode(message), seconds, **options)

    def refusal(self, rpc: str, message: Any, seconds: float = CALL_SECONDS, **options: Any) -> Refused:
        """The refusal, which there must be."""
        answer = self.call(rpc, message, seconds, **options)
        assert isinstance(answer, Refused), f"{rpc} was answered: {answer[:200]!r}"
        return answer

    def answer(self, rpc: str, message: Any, kind: Any) -> Any:
        """The decoded answer, which there must be."""
        answer = self.call(rpc, message)
        assert not isinstance(answer, Refused), answer
        return kind.deserialize(answer)

    def stream(self, rpc: str, message: Any, seconds: float = CALL_SECONDS) -> Iterator[bytes]:
        """One message, many answers."""
        answers: Iterator[bytes] = self.channel.unary_stream(SERVICE + rpc)(encode(message), timeout=seconds)
        return answers

    def session(self, database: str = DATABASE) -> str:
        request = types.CreateSessionRequest(database=database)
        return str(self.answer("CreateSession", request, types.Session).name)

    def sql(self, session: str, sql: str, **fields: Any) -> bytes | Refused:
        return self.call("ExecuteSql", types.ExecuteSqlRequest(session=session, sql=sql, **fields))


def encode(message: Any) -> bytes:
    return message if isinstance(message, bytes) else bytes(type(message).serialize(message))


def refused(error: grpc.RpcError) -> Refused:
    return Refused(error.code(), error.details() or "", tuple((key, value) for key, value in error.trailing_metadata()))


# A gateway of one's own, in front of a Spanner that remembers --------------------------------------------------------


def session_of(identity: SpiffeId, database: str = DATABASE) -> str:
    """A session of the identity's own in a site, as if its Spanner had made one."""
    return seal_name(f"{database}/sessions/s", str(identity).encode(), database)


SESSION = session_of(CHECKOUT)


class FakeSpanner:
    """Answers every RPC and remembers it. `answers` gives the messages of a streaming or unary answer.

    In front of it stands a tap that counts connections and bytes: `reached` says whether anything came at all.
    """

    def __init__(self, tls: grpc.ServerCredentials | None = None) -> None:
        self.calls: list[tuple[str, bytes]] = []
        # The headers of each call, as often as they came.
        self.metadata: list[list[tuple[str, str | bytes]]] = []
        self.answers: Callable[[str, bytes], Iterator[bytes]] = lambda _rpc, _body: iter([b""])
        # How a call ends, where it is not well.
        self.ends: Callable[[grpc.ServicerContext], None] = lambda _context: None
        self.connections = 0
        self.bytes = 0
        self._server = grpc.server(
            ThreadPoolExecutor(16),
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        self._server.add_generic_rpc_handlers((_Anything(self),))
        at = "127.0.0.1:0"
        self._port = self._server.add_insecure_port(at) if tls is None else self._server.add_secure_port(at, tls)
        self._server.start()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def reached(self) -> tuple[int, int, int]:
        """Connections, bytes and requests so far."""
        return self.connections, self.bytes, len(self.calls)

    def stop(self) -> None:
        self._listener.close()
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._server.stop(0).wait(10)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            there = socket.create_connection(("127.0.0.1", self._port))
            self._open += [here, there]
            threading.Thread(target=self._pass, args=(here, there, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(there, here, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(256 * 1024):
                if counts:
                    self.bytes += len(block)
                sink.sendall(block)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


class _Anything(grpc.GenericRpcHandler):
    def __init__(self, spanner: FakeSpanner) -> None:
        self._spanner = spanner

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        rpc = details.method.removeprefix(SERVICE)

        def answer(body: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            self._spanner.metadata.append([(key, value) for key, value in context.invocation_metadata()])
            self._spanner.calls.append((rpc, body))
            self._spanner.ends(context)
            return self._spanner.answers(rpc, body)

        return grpc.unary_stream_rpc_method_handler(answer)


@dataclass
class Site:
    """Authority, certificate door, checkpoint and fake Spanner for gateways of one's own. Make one with `site`."""

    folder: Path
    sockets: Path
    spanner: FakeSpanner
    authority: Authority
    paths: AuditPaths
    stack: ExitStack
    broker: bool = False
    checkpoint: Child | None = None
    gateways: int = 0
    keys: SystemKeys = field(default_factory=SystemKeys)

    @property
    def broker_socket(self) -> Path:
        return self.sockets / "broker.sock"

    def start_checkpoint(self) -> Child:
        socket_path = self.sockets / "checkpoint.sock"
        argv = [sys.executable, "-m", "spangate.app.checkpoint_process"]
        argv += ["--intent", str(self.folder / "spangate.yaml")]
        argv += ["--socket", str(socket_path), "--decisions", str(self.paths.decisions)]
        argv += ["--seals", str(self.folder / FILE)]
        argv += ["--broker"] if self.broker else []
        child = Child("checkpoint", argv, self.folder / "checkpoint.log")
        self.stack.callback(lambda: _kill(child))
        self.checkpoint = child

        def listens() -> bool:
            child.check()
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(socket_path)) == 0

        eventually(listens, "the checkpoint listens")
        return child

    def start_gateway(self, program: Path | None = None, change: tuple[str, str] = ("", ""), **parts: Any) -> Gateway:
        """A gateway whose filter is `program`, or the real one; `change` replaces a text of its configuration, `parts`
        are other parts of its plan.
        """
        self.gateways += 1
        name = f"gateway{self.gateways}"
        plan = GatewayPlan(
            trust_domain=TRUST_DOMAIN,
            host="127.0.0.1",
            port=0,
            spanner=("127.0.0.1", self.spanner.port),
            filter_file=str(program or filter_file(self.folder)),
            access_log=str(self.paths.gateway),
            admin_socket=str(self.sockets / f"{name}.sock"),
            sds_socket=str(self.sockets / "sds.sock"),
            checkpoint_socket=str(self.sockets / "checkpoint.sock"),
            certificate_secret=CERTIFICATE_SECRET,
            bundle_secret=BUNDLE_SECRET,
            broker_socket=str(self.broker_socket) if self.broker else "",
        )
        plan = replace(plan, **parts)
        log = self.folder / f"{name}.log"
        configuration = json.dumps(gateway_bootstrap(plan))
        assert change[0] in configuration
        bootstrap = json.loads(configuration.replace(*change) if change[0] else configuration)
        envoy = EnvoyChild(name, bootstrap, self.sockets, Path(plan.admin_socket), log, workers=1)
        self.stack.callback(envoy.stop)
        return Gateway(self, envoy, f"127.0.0.1:{envoy.wait_until_ready(LISTENER)}")

    def svid(self, identity: SpiffeId) -> Svid:
        return sign_here(self.authority, self.keys, identity)

    def audit(self) -> Audit:
        return Audit(self.paths.audit)


@dataclass(frozen=True)
class Gateway:
    site: Site
    envoy: EnvoyChild
    address: str

    @property
    def pid(self) -> int:
        return self.envoy.child.pid

    def client(self, shows: Svid | SpiffeId | None, *options: tuple[str, Any]) -> Client:
        """A raw client that shows this SVID, a fresh one of this identity, or none."""
        svid = self.site.svid(shows) if isinstance(shows, SpiffeId) else shows
        return Client(self.address, credentials(self.site.svid(GATEWAY), svid), *options)


def signed_by_us(own_site: Site, *uris: str, ended: timedelta = timedelta(minutes=-10)) -> Svid:
    """A leaf of our own intermediate with names that our authority would never sign."""
    in_force, now = own_site.authority._in_force, datetime.now(UTC)
    key = SystemKeys().new_key()
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(in_force.intermediate.subject)
        .public_key(key.public_key())
        .serial_number(SystemKeys().new_serial())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now - ended)
        .add_extension(names, critical=True)
        .sign(in_force.intermediate_key, hashes.SHA256())
    )
    chain = [leaf, in_force.intermediate]
    pem = "".join(one.public_bytes(serialization.Encoding.PEM).decode() for one in chain)
    secrets = Secrets(chain_pem=pem, key_pem=key_pem(key), bundle_pem=own_site.authority.bundle_pem())
    return Svid(GATEWAY, secrets, leaf.not_valid_after_utc, leaf.serial_number)


def _kill(child: Child) -> None:
    """Also one that a test has stopped with SIGSTOP."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGCONT)
    child.stop()


@contextlib.contextmanager
def site(folder: Path, *changes: tuple[str, str], broker: bool = False) -> Iterator[Site]:
    """The shop's policy with these changes, an authority, and a Spanner that remembers.

    With `broker`, what is allowed wants a token.
    """
    intent = shop_folder(folder) / "spangate.yaml"
    edit(intent, *changes)
    if broker and "google:" not in intent.read_text():
        intent.write_text(intent.read_text() + GOOGLE)
    # A key that the tests know, made an hour ago.
    made = SystemClock().now() - timedelta(hours=1)
    FileSealKeys(folder / FILE).add(SealKey(KEY_ID.hex(), KEY.hex(), made))
    with ExitStack() as stack:
        sockets = stack.enter_context(runtime_directory())
        spanner = FakeSpanner()
        stack.callback(spanner.stop)
        authority = Authority.create(TRUST_DOMAIN, SystemClock(), SystemKeys())
        source = SecretSource()
        source.replace(sign_here(authority, SystemKeys(), GATEWAY, ("localhost",)).secrets)
        stack.enter_context(UnixServer(sds_app(source), sockets / "sds.sock", name="sds"))
        paths = AuditPaths.below(folder)
        paths.gateway.touch()
        problems: list[str] = []
        collector = Collector(paths, problem=problems.append)
        collector.start()
        stack.callback(collector.stop)
        found = Site(folder, sockets, spanner, authority, paths, stack, broker)
        found.start_checkpoint()
        yield found
    assert problems == []
