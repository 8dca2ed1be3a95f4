"""Promise: a token from the command line is taken by an independent validator, by what `up` publishes."""

from __future__ import annotations

import json

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
