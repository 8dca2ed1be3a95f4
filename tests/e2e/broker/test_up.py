"""Promise: with `google` in the intent, `up` runs a broker and a stand-in for Google, and keeps them running."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from google.cloud.spanner_v1 import types

from e2e.broker.parts import PREFIX
from e2e.harness import (
    ACCOUNT,
    CHECKOUT,
    DATABASE,
    GOOGLE,
    REPORTS,
    TRUST_DOMAIN,
    Client,
    Refused,
    Up,
    alive,
    credentials,
    descendants,
    edit,
    eventually,
    shop_folder,
    spangate,
)
from fakes.mesh_ca import MeshCa, pem
from spangate.adapters.sds_door import Secrets
from spangate.adapters.svid_client import Svid
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e


def folder_with(folder: Path, google: str) -> Path:
    shop = shop_folder(folder / "shop")
    intent = shop / "spangate.yaml"
    kept = [line for line in intent.read_text().splitlines(keepends=True) if not line.startswith("google:")]
    intent.write_text("".join(kept) + google)
    return shop


def session(up: Up, identity=CHECKOUT) -> bytes | Refused:
    with up.client(identity) as client:
        return client.call("CreateSession", types.CreateSessionRequest(database=DATABASE))


@pytest.mark.parametrize("subject", ["", ", subject_token: mtls"], ids=["by token", "by certificate"])
def test_programs_work_parts_come_back_and_no_token_shows(
    start_up: Callable[..., Up], tmp_path: Path, subject: str
) -> None:
    google = GOOGLE.replace("}", f"{subject}}}")
    folder = folder_with(tmp_path, google)
    # Its workloads come from a mesh that signs for the same trust domain, too.
    mesh = MeshCa(TRUST_DOMAIN)
    (folder / "mesh.pem").write_text(pem(mesh.certificate))
    own = f"\ntrust_domains: {{{TRUST_DOMAIN}: {{bundle: mesh.pem, aliases: [old.example]}}}}\n"
    edit(folder / "spangate.yaml", ("\ndatabases:", f"{own}\ndatabases:"))
    up = start_up(folder, "--workers", "1").wait_until_up()
    up.program("loader", "load.py")
    assert "which is not Google" in up.printed
    for name in (str(CHECKOUT), str(CHECKOUT).replace(TRUST_DOMAIN, "old.example")):
        with of_the_mesh(up, mesh, name) as client:
            answer = client.call("CreateSession", types.CreateSessionRequest(database=DATABASE))
        assert not isinstance(answer, Refused), answer
    nobody_of_another_trust_domain_is_taken(up)
    for part in ("broker_process", "standin_process"):
        os.kill(up.child(part), signal.SIGKILL)
    # Nobody else can be asked in its place.
    port = int(up.running["sts"].rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(("127.0.0.1", port))
    # Whoever has none waits for the broker, which comes back on the same socket, and asks the stand-in, where it was.
    eventually(lambda: not isinstance(session(up, REPORTS), Refused), "the broker and the stand-in are back")
    # An account of one's own: the stand-in learns who may impersonate it.
    account = f", impersonate: {{service_account: {ACCOUNT}}}"
    intent = up.folder / "spangate.yaml"
    edit(intent, ("{workload: analytics/reports}", f"{{workload: analytics/reports{account}}}"))
    eventually(lambda: "is in force" in up.printed, "the policy changed")
    eventually(lambda: not isinstance(session(up, REPORTS), Refused), "the account is impersonated")
    shows_no_token(up)
    # Without `google` nobody gets a token, and nothing goes on without.
    edit(intent, ("\ngoogle:", "\n#google:"), (account, ""))
    eventually(lambda: "`google` came or went" in up.printed, "it is said")

    def refused() -> bool:
        answer = session(up)
        return isinstance(answer, Refused) and answer.code is grpc.StatusCode.PERMISSION_DENIED

    eventually(refused, "nobody gets a token")
    shows_no_token(up)
    assert up.end() == 0
    assert not any(alive(pid) for pid in up.children)


@contextlib.contextmanager
def of_the_mesh(up: Up, mesh: MeshCa, name: str) -> Iterator[Client]:
    """A client with a certificate of the mesh's."""
    leaf, trusts = mesh.leaf(name), up.svid(CHECKOUT)
    secrets = Secrets(leaf.chain_pem, leaf.key_pem, trusts.secrets.bundle_pem)
    svid = Svid(SpiffeId.parse(name), secrets, leaf.certificate.not_valid_after_utc, 1)
    with Client(up.running["gateway"], credentials(trusts, svid)) as client:
        yield client


def nobody_of_another_trust_domain_is_taken(up: Up) -> None:
    """Nobody here can speak to Google for it: the intent is refused, and the one before stays in force."""
    intent = up.folder / "spangate.yaml"
    before = intent.read_text()
    mesh = f"trust_domains: {{cluster.local: {{bundle: mesh.pem}}, {TRUST_DOMAIN}:"
    courier = "identities:\n  courier: {workload: shop/courier, trust_domain: cluster.local}\n"
    edit(intent, (f"trust_domains: {{{TRUST_DOMAIN}:", mesh), ("identities:\n", courier))
    said = "`courier` can get no token from Google: it is of the trust domain `cluster.local`"
    eventually(lambda: said in up.printed, "it is said why")
    checked = spangate("check", cwd=up.folder)
    assert (checked.returncode, said in checked.stderr) == (2, True), checked.stderr
    assert not isinstance(session(up), Refused)
    intent.write_text(before)


def shows_no_token(up: Up) -> None:
    """Not on disk, not in arguments, not in environments."""
    for folder in (up.folder, up.runtime):
        for file in (file for file in folder.rglob("*") if file.is_file()):
            assert PREFIX not in file.read_bytes(), file
    for pid in [up.process.pid, *descendants(up.process.pid)]:
        for name in ("cmdline", "environ"):
            assert PREFIX not in Path(f"/proc/{pid}/{name}").read_bytes()
    assert PREFIX not in up.printed.encode()
