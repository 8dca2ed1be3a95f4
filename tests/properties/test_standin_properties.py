"""The stand-in never gives a token for what is not exactly a good credential.

A mutated token, request or certificate is refused, and refused with an answer: never an exception, never a token.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fakes.google import AUDIENCE, FakeGoogle, FakeIssuer, exchange_fields
from spangate.standin.access_token import TokenMint
from spangate.standin.asked import FORM, Asked
from spangate.standin.mapping import extract

GOOGLE = FakeGoogle(FakeIssuer())
GOOD = GOOGLE.token()
ACCESS = GOOGLE.access_token()
LETTERS = st.characters(min_codepoint=0, max_codepoint=0x2FF)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def no_token(answer: tuple[int, Any]) -> None:
    status, body = answer
    assert 400 <= status < 500
    assert "access_token" not in body
    assert "accessToken" not in body
    assert isinstance(body["error"], str | dict)


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """`text` with a piece replaced by another."""
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, min(len(text), begin + 8)))
    piece = draw(
        st.text(alphabet=LETTERS, max_size=8) | st.text(alphabet="ABCDEFGHIJabcdefghij0123456789-_.=", max_size=8)
    )
    found = text[:begin] + piece + text[end:]
    assume(found != text)
    return found


@given(mutated(GOOD))
@example(GOOD + "=")
@example(GOOD + "\n")
@example(" " + GOOD)
@example(GOOD.replace(".", "..", 1))
def test_a_mutated_token_gives_no_access_token(token: str) -> None:
    no_token(GOOGLE.exchange(token))


@given(mutated(ACCESS))
def test_a_mutated_access_token_opens_nothing(token: str) -> None:
    assert GOOGLE.introspect(token) == {"active": False}
    no_token(GOOGLE.generate(token))


@given(st.dictionaries(st.sampled_from(["iss", "aud", "iat", "exp", "nbf"]), JSON, min_size=1))
def test_claims_of_any_kind_never_break_it(changes: dict[str, Any]) -> None:
    moment = int(GOOGLE.clock.now().timestamp())
    good = GOOGLE.issuer.claims(GOOGLE.clock.now())
    claims = {**good, **changes}
    try:
        token = GOOGLE.issuer.sign(claims)
    except (ValueError, TypeError):  # PyJWT makes no such token
        assume(False)
        return
    status, body = GOOGLE.exchange(token)
    if status == 200:
        # Whoever got one has the right issuer and audience, and a time that holds now.
        assert claims["iss"] == good["iss"]
        assert f"https:{AUDIENCE}" in claims["aud"] or AUDIENCE in claims["aud"]
        assert moment - 86_400 <= claims["iat"] <= moment + 60
        assert claims["exp"] > moment - 60
    else:
        no_token((status, body))


@given(JSON)
def test_subjects_of_any_kind_never_break_it(subject: Any) -> None:
    try:
        token = FakeIssuer.sign(GOOGLE.issuer, {**GOOGLE.issuer.claims(GOOGLE.clock.now()), "sub": subject})
    except (ValueError, TypeError):
        assume(False)
        return
    status, body = GOOGLE.exchange(token)
    if not (isinstance(subject, str) and subject.startswith("spiffe://shop.example/")):
        no_token((status, body))


@given(
    st.dictionaries(st.sampled_from(list(exchange_fields("x"))), st.none() | st.text(max_size=60), min_size=1),
    st.booleans(),
)
def test_parameters_of_any_kind_never_break_it(changes: dict[str, str | None], form: bool) -> None:
    good = exchange_fields(GOOD)
    fields = {key: value for key, value in {**good, **changes}.items() if value is not None}
    if form:
        body, kind = urlencode({key: value.encode("utf-8", "replace") for key, value in fields.items()}).encode(), FORM
    else:
        body, kind = json.dumps(fields).encode(), "application/json"
    status, answer = GOOGLE.ask(Asked("POST", "/v1/token", kind, body=body))
    if status == 200:
        assert all(fields[key] == good[key] for key in good if key != "scope")
    else:
        no_token((status, answer))


@given(st.binary(max_size=200), st.sampled_from([FORM, "application/json", "", "text/plain"]))
def test_bodies_of_any_kind_never_break_it(body: bytes, kind: str) -> None:
    no_token(GOOGLE.ask(Asked("POST", "/v1/token", kind, body=body)))
    account = "/v1/projects/-/serviceAccounts/spanner-user@shop-project.iam.gserviceaccount.com:generateAccessToken"
    no_token(GOOGLE.ask(Asked("POST", account, kind, f"Bearer {ACCESS}", body)))


@given(st.text(max_size=40), st.text(max_size=10), st.text(max_size=10))
def test_extract_gives_a_part_of_the_text_between_its_two_sides(text: str, before: str, behind: str) -> None:
    assume(not set("{}") & set(before + behind))
    found = extract(text, before + "{it}" + behind)
    if found:
        assert before + found + behind in text
    if before + behind in text:
        assert found == "" or before + found + behind in text


@given(st.binary(min_size=32, max_size=32))
def test_no_other_mint_takes_the_token(key: bytes) -> None:
    assume(key != b"k" * 32)
    assert TokenMint(key).read(ACCESS) is None


def test_every_bit_of_a_token_counts() -> None:
    for at in range(len(GOOD)):
        letter = "A" if GOOD[at] != "A" else "B"
        no_token(GOOGLE.exchange(GOOD[:at] + letter + GOOD[at + 1 :]))


def test_a_signature_has_one_spelling() -> None:
    """The last letter of 64 bytes in base64url holds two bits; four are padding."""
    for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=":
        if letter != GOOD[-1]:
            no_token(GOOGLE.exchange(GOOD[:-1] + letter))


@pytest.mark.parametrize("part", [0, 1])
def test_a_part_of_one_token_does_not_fit_another(part: int) -> None:
    other = GOOGLE.token(sub="spiffe://shop.example/ns/shop/sa/other").split(".")
    mixed = GOOD.split(".")
    mixed[part] = other[part] if part else base64.urlsafe_b64encode(b'{"alg":"ES256", "kid":"es"}').decode().rstrip("=")
    no_token(GOOGLE.exchange(".".join(mixed)))
