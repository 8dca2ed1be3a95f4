"""Promise: `up` and `run` take a mesh's certificate from files, and a renewed one without a restart; and whoever asks
them by the Workload API knows the mesh's roots.

A standalone identity and a mesh's, a gateway of the mesh's, and the real emulator behind it.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from e2e.harness import SPANGATE, TRUST_DOMAIN, Up, descendants, edit, eventually, shop_folder, spangate
from e2e.rotation.parts import begin, status, until
from fakes.mesh_ca import MeshCa, pem, replace_file, write_svid
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.e2e

MESH = "cluster.local"
# A change of a file counts at the second look; `run` asks every five seconds, and a loaded machine gets patience.
SECONDS_MAX = 20.0
GATEWAY = SpiffeId.workload(MESH, "spangate", "gateway")
COURIER = SpiffeId.workload(MESH, "shop", "courier")
INTENT = (
    ("\ndatabases:", f"\ntrust_domains: {{{MESH}: {{bundle: mesh.pem}}}}\n\ndatabases:"),
    ("identities:\n", f"identities:\n  courier: {{workload: shop/courier, trust_domain: {MESH}}}\n"),
    ("workload: analytics/reports}", f"workload: analytics/reports, unix: {{user: {os.getuid()}}}}}"),
    ("access:\n", "access:\n  courier: {shop: {read: [Customers]}}\n"),
)
# Prints how many customers there are, again and again while there is a file to say so.
PROGRAM = """\
import pathlib, sys, time
from google.cloud import spanner
database = spanner.Client().instance("main").database("shop")
def count():
    with database.snapshot() as snapshot:
        return len(list(snapshot.execute_sql("SELECT CustomerId, Name FROM Customers")))
print(count(), flush=True)
while len(sys.argv) > 1 and pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.2)
    count()
print(count(), flush=True)
"""

# An unmodified SPIFFE client that says by which roots it verifies workloads of which trust domain, whenever that
# changes, until it is told to end.
SPIFFE_PROGRAM = """\
import json, sys, threading
from spiffe import JwtSource, TrustDomain, X509Source

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
before = None
with X509Source(timeout_in_seconds=30) as source, JwtSource(timeout_in_seconds=30) as tokens:
    print(source.svid.spiffe_id, flush=True)
    while not ended.wait(0.1):
        bundle = source.get_bundle_for_trust_domain(TrustDomain("cluster.local"))
        numbers = sorted(one.serial_number for one in bundle.x509_authorities) if bundle else []
        keys = {name: tokens.get_bundle_for_trust_domain(TrustDomain(name)) is not None
                for name in ("cluster.local", "shop.example")}
        if (now := {"roots": numbers, "keys": keys}) != before:
            print(json.dumps(now), flush=True)
            before = now
"""


class Istiod:
    """Signs for the mesh; `folder` is where its agent writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = MeshCa(MESH)
        self.signer = MeshCa("istiod", self.root)

    def writes(self, name: str, identity: SpiffeId) -> Path:
        write_svid(self.folder / name, self.signer.leaf(str(identity)), self.root)
        return self.folder / name


@pytest.fixture(scope="module")
def istiod(tmp_path_factory: pytest.TempPathFactory) -> Istiod:
    return Istiod(tmp_path_factory.mktemp("istiod"))


@pytest.fixture(scope="module")
def up(istiod: Istiod, emulator: None) -> Iterator[Up]:
    folder = shop_folder(istiod.folder / "shop")
    edit(folder / "spangate.yaml", *INTENT)
    (folder / "mesh.pem").write_text(pem(istiod.root.certificate))
    (folder / "count.py").write_text(PROGRAM)
    directory = istiod.writes("gateway", GATEWAY)
    found = Up(folder, "--svid-directory", str(directory)).wait_until_up()
    found.program("loader", "load.py")
    yield found
    found.end()


def shown(up: Up) -> x509.Certificate:
    """The certificate that the gateway shows to whoever connects."""
    host, _, port = up.running["gateway"].rpartition(":")
    return x509.load_pem_x509_certificate(ssl.get_server_certificate((host, int(port))).encode())


def test_a_gateway_of_the_mesh_serves_both_kinds_and_takes_renewed_files(istiod: Istiod, up: Up) -> None:
    assert up.running["gateway_identity"] == str(GATEWAY)
    gateway_pid = up.gateway_pid
    # A standalone identity, given by our authority; it verifies the gateway by the mesh's roots.
    standalone = up.run("reports", sys.executable, "-c", "print('fine')")
    assert standalone.stdout == "fine\n", standalone.stderr
    # A mesh's, from files.
    directory = istiod.writes("courier", COURIER)
    run = ["run", "--svid-directory", str(directory), "--", sys.executable, "count.py"]
    done = spangate(*run, cwd=up.folder, seconds=90)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.split()
    assert first == second != "0"
    audit = [json.loads(line) for line in (up.state / "audit.jsonl").read_text().splitlines()]
    assert str(COURIER) in {line["identity"] for line in audit if line["decision"] == "allow"}

    # The mesh gets a new root, as Istio does it: trusted by everybody, then it signs, then the old one goes.
    old, istiod.root = istiod.root, MeshCa(MESH)
    istiod.signer = MeshCa("istiod", istiod.root)
    replace_file(up.folder / "mesh.pem", pem(old.certificate, istiod.root.certificate))
    before = shown(up)
    istiod.writes("gateway", GATEWAY)
    began = time.monotonic()
    eventually(lambda: shown(up).serial_number != before.serial_number, "the renewed certificate is shown", 10)
    print(f"the gateway's renewed certificate was in use after {time.monotonic() - began:.1f} s")
    replace_file(up.folder / "mesh.pem", pem(istiod.root.certificate))
    istiod.writes("courier", COURIER)
    time.sleep(2)
    done = spangate(*run, cwd=up.folder, seconds=90)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [first, second]
    assert up.gateway_pid == gateway_pid
    assert gateway_pid in descendants(up.process.pid)


def test_a_running_command_keeps_going_over_a_renewal(istiod: Istiod, up: Up, tmp_path: Path) -> None:
    directory = istiod.writes("courier", COURIER)
    flag = tmp_path / "go on"
    flag.touch()
    command = [str(SPANGATE), "run", "--svid-directory", str(directory), "--", sys.executable, "count.py", str(flag)]
    with subprocess.Popen(command, cwd=up.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        istiod.writes("courier", COURIER)
        istiod.writes("gateway", GATEWAY)
        time.sleep(3)
        flag.unlink()
        printed, said = process.communicate(timeout=60)
    assert (process.returncode, printed) == (0, first), said


@pytest.mark.parametrize("served_by", ["up", "run"])
def test_a_spiffe_client_verifies_the_meshs_workloads_and_follows_its_roots(
    istiod: Istiod, up: Up, served_by: str
) -> None:
    argv, env = [sys.executable, "-c", SPIFFE_PROGRAM], dict(os.environ)
    if served_by == "run":
        argv = [str(SPANGATE), "run", "--as", "reports", "--", *argv]
    else:
        env["SPIFFE_ENDPOINT_SOCKET"] = f"unix://{up.running['workload_socket']}"
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, cwd=up.folder, env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        try:
            assert program.stdout is not None
            assert program.stdout.readline() == f"spiffe://{TRUST_DOMAIN}/ns/analytics/sa/reports\n"
            keys = {MESH: False, TRUST_DOMAIN: True}
            old, new = istiod.root.certificate, MeshCa(MESH).certificate
            assert json.loads(program.stdout.readline()) == {"roots": [old.serial_number], "keys": keys}
            replace_file(up.folder / "mesh.pem", pem(old, new))
            began = time.monotonic()
            both = sorted([old.serial_number, new.serial_number])
            assert json.loads(program.stdout.readline()) == {"roots": both, "keys": keys}
            print(f"the new root reached a program of `{served_by}` after {time.monotonic() - began:.1f} s")
            assert time.monotonic() - began < SECONDS_MAX
            replace_file(up.folder / "mesh.pem", pem(old))
            assert json.loads(program.stdout.readline()) == {"roots": [old.serial_number], "keys": keys}
            _, complaints = program.communicate("", timeout=30)
            assert program.returncode == 0, complaints
        finally:
            program.kill()


def test_what_cannot_be_used_is_said_before_anything_starts(istiod: Istiod, tmp_path: Path) -> None:
    folder = shop_folder(tmp_path / "shop")
    edit(folder / "spangate.yaml", *INTENT)
    (folder / "mesh.pem").write_text(istiod.signer.leaf(str(COURIER)).chain_pem)
    refused = spangate("check", cwd=folder)
    assert refused.returncode == 2
    assert "`mesh.pem`, the bundle of `cluster.local`, cannot be used: its certificate 1 is not one" in refused.stderr
    (folder / "mesh.pem").write_text(pem(istiod.root.certificate))
    directory = istiod.writes("gateway", GATEWAY)
    (directory / "key.pem").chmod(0o644)
    refused = spangate("up", "--svid-directory", str(directory), cwd=folder)
    assert refused.returncode == 2
    assert "may be read by others (mode 0644)" in refused.stderr


def test_run_says_which_identity_it_has(istiod: Istiod, up: Up) -> None:
    directory = istiod.writes("courier", COURIER)
    refused = spangate("run", "--as", "reports", "--svid-directory", str(directory), "--", "true", cwd=up.folder)
    assert refused.returncode == 2
    assert f"holds the identity `{COURIER}`, not `spiffe://shop.example/ns/analytics/sa/reports`" in refused.stderr
    refused = spangate("run", "--", "true", cwd=up.folder)
    assert refused.returncode == 2
    assert "`run` needs to know as whom" in refused.stderr
    done = spangate("run", "--as", "courier", "--svid-directory", str(directory), "--", "true", cwd=up.folder)
    assert done.returncode == 0, done.stderr


def test_a_gateway_that_shows_the_meshs_certificate_holds_no_rotation_of_our_root_up(up: Up) -> None:
    """It has none of our authority's, so that there is none that it does not use; it follows our roots all the same."""
    before = {root["fingerprint"] for root in status(up)["roots"]}
    begin(up)
    found = until(up, "STEADY")
    assert not before & {root["fingerprint"] for root in found["roots"]}
    # An identity of the authority's is let in under the new root.
    up.program("loader", "load.py")
