"""Promise: a command under `spangate run` has a Workload API that gives the identity it runs as, and no other."""

from __future__ import annotations

import json
import sys

import jwt as pyjwt
import pytest

from e2e.harness import Up, spangate

pytestmark = pytest.mark.e2e

# An unmodified SPIFFE client, which finds the socket by the environment.
PROGRAM = """
import json
from spiffe import JwtSource, WorkloadApiClient, X509Source

with X509Source(timeout_in_seconds=20) as certificates, JwtSource(timeout_in_seconds=20) as tokens:
    svid = certificates.get_x509_context().default_svid
    token = tokens.fetch_svid(audience={"orders"})
    bundle = certificates.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    with WorkloadApiClient() as client:
        valid = client.validate_jwt_svid(token.token, "orders")
    try:
        WorkloadApiClient().fetch_jwt_svid(audience={"orders"}, subject=svid.spiffe_id.__class__(
            "spiffe://shop.example/ns/analytics/sa/reports"))
        other = "given"
    except Exception as error:
        other = str(error)
    svid.cert_chain[1].verify_directly_issued_by(next(iter(bundle.x509_authorities)))
    print(json.dumps({"id": str(svid.spiffe_id), "token": token.token, "valid": str(valid.spiffe_id), "other": other,
                      "same_key": svid.private_key.public_key() == svid.leaf.public_key()}))
"""


def test_an_unmodified_spiffe_client_gets_the_identity_that_the_command_runs_as(shop: Up) -> None:
    done = spangate("run", "--as", "checkout", "--", sys.executable, "-c", PROGRAM, cwd=shop.folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    checkout = "spiffe://shop.example/ns/shop/sa/checkout"
    assert (told["id"], told["valid"], told["same_key"]) == (checkout, checkout, True)
    assert "does not have the identity" in told["other"]
    # The token is the authority's own: the published keys verify it.
    issuer = shop.running["issuer"]
    key = pyjwt.PyJWKClient(f"{issuer}/keys").get_signing_key_from_jwt(told["token"])
    claims = pyjwt.decode(told["token"], key, algorithms=["ES256"], audience="orders", issuer=issuer)
    assert claims["sub"] == checkout


def test_a_socket_of_somebody_else_is_not_passed_on(shop: Up) -> None:
    done = spangate(
        "run",
        "--as",
        "checkout",
        "--",
        sys.executable,
        "-c",
        "import os; print(os.environ['SPIFFE_ENDPOINT_SOCKET'])",
        cwd=shop.folder,
        SPIFFE_ENDPOINT_SOCKET="unix:///nowhere",
    )
    assert done.stdout.startswith("unix:///")
    assert "nowhere" not in done.stdout
