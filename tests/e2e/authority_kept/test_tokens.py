"""Promise: a token from the command line is taken by an independent validator, by what `up` publishes."""

from __future__ import annotations

import json
from typing import Any

import jwt as pyjwt
import pytest

from e2e.harness import Up, spangate

pytestmark = pytest.mark.e2e


def test_an_independent_validator_takes_a_token_by_the_published_keys(shop: Up) -> None:
    done = spangate("token", "--as", "checkout", "--audience", "orders", "--json", cwd=shop.folder)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    issuer = shop.running["issuer"]
    key = pyjwt.PyJWKClient(f"{issuer}/keys").get_signing_key_from_jwt(told["token"])
    claims = pyjwt.decode(told["token"], key, algorithms=["ES256"], audience="orders", issuer=issuer)
    assert claims["sub"].endswith("/ns/shop/sa/checkout")
    with pytest.raises(pyjwt.InvalidAudienceError):
        pyjwt.decode(told["token"], key, algorithms=["ES256"], audience="other", issuer=issuer)


def test_jwks_prints_the_same_keys(shop: Up) -> None:
    done = spangate("jwks", cwd=shop.folder)
    (key,) = json.loads(done.stdout)["keys"]
    assert set(key) == {"kty", "alg", "use", "kid", "x", "y", "crv"}


def test_no_token_is_left_anywhere(shop: Up) -> None:
    done = spangate("token", "--as", "checkout", "--audience", "orders", cwd=shop.folder)
    token = done.stdout.strip()
    assert token.count(".") == 2
    signature = token.rpartition(".")[2].encode()
    for path in shop.folder.rglob("*"):
        if path.is_file():
            assert signature not in path.read_bytes(), path


PROVIDER = "iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/mesh/providers/spangate"
LIBRARYS = {
    "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": f"//{PROVIDER}",
    "GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE": "urn:ietf:params:oauth:token-type:jwt",
}


def executable_response(shop: Up, **env: str) -> dict[str, Any]:
    arguments = ("token", "--as", "checkout", "--audience", f"https://{PROVIDER}", "--executable-json")
    done = spangate(*arguments, cwd=shop.folder, **env)
    # Libraries read both streams as one, and only after exit code 0.
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_googles_library_gets_its_executable_response(shop: Up) -> None:
    told = executable_response(shop, **LIBRARYS)
    claims = pyjwt.decode(told["id_token"], options={"verify_signature": False})
    assert claims["aud"] == f"https://{PROVIDER}"
    assert told == {
        "version": 1,
        "success": True,
        "token_type": "urn:ietf:params:oauth:token-type:jwt",
        "id_token": told["id_token"],
        "expiration_time": claims["exp"],
    }


def test_a_token_that_would_be_shown_to_somebody_else_is_not_given(shop: Up) -> None:
    told = executable_response(shop, **LIBRARYS | {"GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": f"//{PROVIDER}x"})
    assert told["success"] is False
    assert told["code"] == "REFUSED"
    assert "the library goes to" in told["message"]
    assert "id_token" not in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--as", "spangate/nobody!", "--audience", "a"), "nobody"),
        (("--as", "checkout", "--audience", ""), "printable"),
        (("--as", "checkout"), "--audience"),
    ],
)
def test_what_cannot_be_had_is_said(shop: Up, arguments: tuple[str, ...], message: str) -> None:
    done = spangate("token", *arguments, cwd=shop.folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
