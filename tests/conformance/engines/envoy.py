"""Engine (d), real Envoy: the gateway as it is deployed, with the real checkpoint and a Spanner that remembers.

What was decided is read from the gateway's own log and the checkpoint's records; what was sent on, from the Spanner.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance import world
from conformance.engines.common import Records, Result, policy_of, result_of
from conformance.engines.http2 import Http2
from conformance.seals import KEYS
from e2e.harness import GATEWAY, TRUST_DOMAIN, FakeSpanner, Gateway, Site, eventually
from fakes.clock import FakeClock
from fakes.mesh_ca import MeshCa, pem
from spangate.adapters.analysers import AnalyserPool
from spangate.adapters.audit_files import AuditPaths
from spangate.adapters.checkpoint_door import checkpoint_app
from spangate.adapters.clock import SystemClock
from spangate.adapters.keys import SystemKeys
from spangate.adapters.sds_door import SecretSource, sds_app
from spangate.adapters.state import runtime_directory
from spangate.adapters.svid_client import sign_here
from spangate.adapters.unix_server import UnixServer
from spangate.authority.ca import Authority
from spangate.checkpoint.service import Checkpoint
from spangate.model.identity import SpiffeId

LOG_SECONDS = 30.0


class Envoy:
    """One gateway with one worker. Requests are sent one after the other; `results` then tells what came of them."""

    name = "envoy"

    def __init__(
        self, gateway: Gateway, mesh: MeshCa, spanner: FakeSpanner, log: Path, records: Records, folder: Path
    ) -> None:
        self._gateway = gateway
        self._mesh = mesh
        self._spanner = spanner
        self._log = log
        self._records = records
        self._folder = folder
        self._connections: dict[str | None, Http2] = {}
        self._sent: list[tuple[str, bytes | None]] = []

    def close(self) -> None:
        for one in self._connections.values():
            one.close()

    def send(self, identity: str | None, path: str, body: bytes) -> None:
        before = len(self._spanner.calls)
        self._connection(identity).call(path, body, {})
        calls = self._spanner.calls[before:]
        assert len(calls) <= 1
        self._sent.append((path, calls[0][1] if calls else None))

    def results(self) -> list[Result]:
        """One for each request sent, in their order."""
        eventually(lambda: len(self._lines()) >= len(self._sent), "a line for each request", LOG_SECONDS)
        lines = self._lines()
        assert len(lines) == len(self._sent)
        return [self._result(*sent, line) for sent, line in zip(self._sent, lines, strict=True)]

    def _result(self, path: str, sent: bytes | None, line: dict[str, Any]) -> Result:
        assert line["path"] == path[:256]
        body = None if sent is None else b"\0" + len(sent).to_bytes(4, "big") + sent
        if line["deny"] is None and line["allow"] is None:
            # Commits of people without a certificate are refused before their body is collected.
            assert line["identity"] is None, line
            assert line["response_code_details"].startswith("rbac_access_denied"), line
            return Result("no-certificate", sent=body)
        if line["deny"] is None:
            assert line["allow"] is not None, line
            return result_of(self._records.by_id[line["allow"].split(" ")[0]], body)
        reason, _, number = line["deny"].partition(" ")
        if number:
            return result_of(self._records.by_id[number], body, int(line["grpc_status"]))
        return Result(reason, sent=body)

    def _lines(self) -> list[dict[str, Any]]:
        text = self._log.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def _connection(self, identity: str | None) -> Http2:
        if identity not in self._connections:
            site = self._gateway.site
            bundle = site.svid(GATEWAY).secrets.bundle_pem
            context = ssl.create_default_context(cadata=bundle)
            if identity is not None:
                # Python reads a certificate from a file only; these are of this test's own authority.
                file = self._folder / "client.pem"
                file.write_text(self._shown(SpiffeId.parse(identity)), encoding="ascii")
                context.load_cert_chain(file)
                file.unlink()
            self._connections[identity] = Http2(self._gateway.address, context)
        return self._connections[identity]

    def _shown(self, identity: SpiffeId) -> str:
        """Key and chain. Under an alias of the trust domain they are a mesh's."""
        if identity.trust_domain == TRUST_DOMAIN:
            secrets = self._gateway.site.svid(identity).secrets
            return secrets.key_pem + secrets.chain_pem
        leaf = self._mesh.leaf(str(identity))
        return leaf.key_pem + leaf.chain_pem


@contextmanager
def running(folder: Path, analysers: AnalyserPool) -> Iterator[Envoy]:
    """A gateway under the corpus' policy."""
    with ExitStack() as stack:
        sockets = stack.enter_context(runtime_directory())
        spanner = FakeSpanner()
        stack.callback(spanner.stop)
        authority = Authority.create(TRUST_DOMAIN, SystemClock(), SystemKeys())
        source = SecretSource()
        mesh = MeshCa("cluster.local")
        secrets = sign_here(authority, SystemKeys(), GATEWAY, ("localhost",)).secrets
        trusted = secrets.bundle_pem + pem(mesh.certificate)
        source.replace(replace(secrets, bundle_pem=trusted, trust_domains=tuple(world.POLICY["aliases"])))
        stack.enter_context(UnixServer(sds_app(source), sockets / "sds.sock", name="sds"))
        records = Records()
        checkpoint = Checkpoint(policy_of(world.POLICY), analysers, records, FakeClock(world.NOW))
        door = checkpoint_app(checkpoint, KEYS.decode)
        stack.enter_context(UnixServer(door, sockets / "checkpoint.sock", name="checkpoint"))
        paths = AuditPaths.below(folder)
        paths.gateway.parent.mkdir(parents=True, exist_ok=True)
        paths.gateway.touch()
        site = Site(folder, sockets, spanner, authority, paths, stack)
        envoy = Envoy(site.start_gateway(), mesh, spanner, paths.gateway, records, folder)
        stack.callback(envoy.close)
        yield envoy
