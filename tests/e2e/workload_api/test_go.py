"""Promise: clients that others wrote take what the authority gives out: go-spiffe at the Workload API, through a
rotation of roots too, and go-oidc, which verifies a token by the discovery document and the keys that are published.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.go_programs import go_program
from e2e.harness import CHECKOUT, TRUST_DOMAIN, Up, edit, lines_until, shop_folder, spangate
from fakes.mesh_ca import MeshCa, pem
from spangate.adapters.keys import SystemKeys
from spangate.adapters.peer_client import rotation
from spangate.adapters.svid_client import SvidClient

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(560)]

AUDIENCE = "https://orders.example"
MESH = "cluster.local"


def test_go_spiffe_and_go_oidc_take_what_the_authority_gives(start_up: Callable[..., Up], tmp_path: Path) -> None:
    program = go_program(Path(__file__).with_name("go"))
    folder, mesh = shop_folder(tmp_path / "shop"), MeshCa(MESH)
    (folder / "mesh.pem").write_text(pem(mesh.certificate))
    edit(
        folder / "spangate.yaml",
        ("\ndatabases:", f"\ntrust_domains: {{{MESH}: {{bundle: mesh.pem}}}}\n\ndatabases:"),
        ("workload: shop/checkout}", f"workload: shop/checkout, unix: {{user: {os.getuid()}}}}}"),
    )
    up = start_up(folder).wait_until_up()
    env = os.environ | {"SPIFFE_ENDPOINT_SOCKET": f"unix://{up.running['workload_socket']}"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [program, "spiffe", MESH], env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as client:
        try:
            assert client.stdout is not None
            first = read(client.stdout.readline())
            me = str(CHECKOUT)
            text = first.pop("token")
            assert first == {
                "id": me,
                "peers": [me, me],
                "valid": [me, me],
                "refused": [True, True],
                "other_keys": False,
            }
            by_openid(program, up.running["issuer"], text, me)

            begun = read(client.stdout.readline())
            (old,) = begun["trusts"][TRUST_DOMAIN]
            (foreign,) = begun["trusts"][MESH]
            assert begun["uses"] == old != foreign
            done = spangate("rotate", cwd=up.folder, seconds=120)
            assert done.returncode == 0, done.stdout + done.stderr
            (root,) = rotation(SvidClient(Path(up.running["authority_socket"]), SystemKeys()))["roots"]
            new = root["fingerprint"]
            # The gate knows that its socket has it, not that the program has looked.
            seen = lines_until(client, lambda line: read(line)["trusts"][TRUST_DOMAIN] == [new])
            last, complaints = client.communicate("", timeout=30)
        finally:
            client.kill()
    assert client.returncode == 0, complaints
    followed = [(one["uses"], sorted(one["trusts"][TRUST_DOMAIN]), one["trusts"][MESH]) for one in map(read, seen)]
    both = sorted([old, new])
    # Both are trusted before the new one signs, and the old one until nothing of it is in use.
    assert followed == [(old, both, [foreign]), (new, both, [foreign]), (new, [new], [foreign])]
    assert read(last) == {"uses": new, "peers": [me, me]}


def by_openid(program: str, issuer: str, text: str, subject: str) -> None:
    """OpenID Connect's discovery, by a library that knows nothing of SPIFFE."""
    done = subprocess.run(
        [program, "oidc", issuer], input=text + "\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert read(done.stdout) == {
        "subject": subject,
        "issuer": issuer,
        "audience": [AUDIENCE],
        "seconds": 300,
        "refused": [True, True, True],
    }


def read(line: str) -> dict[str, Any]:
    found = json.loads(line)
    assert isinstance(found, dict)
    assert "problem" not in found
    return found
