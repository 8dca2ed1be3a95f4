"""PKCS #11 URIs: what is read, and what is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spangate.adapters.pkcs11_uri import PREFIX, TokenPlace
from spangate.errors import YourFault

MODULE = "/usr/lib/softhsm/libsofthsm2.so"


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        (f"pkcs11:token=authority?module-path={MODULE}", TokenPlace(MODULE, "authority")),
        (f"pkcs11:serial=DECC0401648?module-path={MODULE}", TokenPlace(MODULE, None, "DECC0401648")),
        (
            f"pkcs11:object=shop;serial=1;token=My%20token%20%C3%A4?module-path={MODULE}",
            TokenPlace(MODULE, "My token ä", "1", "shop"),
        ),
        ("pkcs11:token=a%3Bb%3Fc=d&e?module-path=/opt/a%20b/m.so", TokenPlace("/opt/a b/m.so", "a;b?c=d&e")),
    ],
)
def test_what_a_uri_says(uri: str, place: TokenPlace) -> None:
    assert TokenPlace.parse(uri) == place


WRONG = [
    ("keys", "begin with"),
    ("PKCS11:token=a?module-path=/m", "begin with"),
    (f"pkcs11:token={'a' * 5000}?module-path=/m", "too long"),
    ("pkcs11:?module-path=/m", "`` is none of"),
    ("pkcs11:object=shop?module-path=/m", "names no token"),
    ("pkcs11:token=a", "module-path"),
    ("pkcs11:token=a?", "`` is none of"),
    ("pkcs11:token=a?module-path=m.so", "from the root on"),
    ("pkcs11:token=a?module-name=softhsm", "`module-name` is none of"),
    ("pkcs11:token=a;module-path=/m", "`module-path` is none of"),
    ("pkcs11:token=a;token=b?module-path=/m", "stands twice"),
    ("pkcs11:token=a?module-path=/m&module-path=/n", "stands twice"),
    ("pkcs11:token=a;?module-path=/m", "`` is none of"),
    ("pkcs11:token=?module-path=/m", "is empty"),
    ("pkcs11:token?module-path=/m", "is empty"),
    ("pkcs11:token=a b?module-path=/m", "not encoded"),
    ("pkcs11:token=a%2?module-path=/m", "not encoded"),
    ("pkcs11:token=ä?module-path=/m", "not encoded"),
    ("pkcs11:token=a\n?module-path=/m", "not encoded"),
    ("pkcs11:token=a?module-path=/m\n", "not encoded"),
    ("pkcs11:token=%FF?module-path=/m", "not UTF-8"),
    ("pkcs11:token=a%00?module-path=/m", "cannot be printed"),
    ("pkcs11:token=a%20?module-path=/m", "end in a blank"),
    (f"pkcs11:token={'a' * 33}?module-path=/m", "at most 32 bytes"),
    (f"pkcs11:serial={'1' * 17}?module-path=/m", "at most 16 bytes"),
    ("pkcs11:token=a;object=a%2Fb?module-path=/m", "letters, digits"),
    ("pkcs11:token=a;manufacturer=x?module-path=/m", "`manufacturer` is none of"),
]


@pytest.mark.parametrize(("uri", "why"), WRONG)
def test_what_is_not_understood_is_an_error_that_says_why(uri: str, why: str) -> None:
    with pytest.raises(YourFault) as caught:
        TokenPlace.parse(uri)
    assert why in caught.value.message
    assert caught.value.help is not None


@pytest.mark.parametrize("pin", ["pin-value=471147", "pin-source=file:/run/471147"])
@pytest.mark.parametrize("uri", ["pkcs11:token=a?module-path=/m&{}", "pkcs11:token=a;{}?module-path=/m"])
def test_a_pin_in_the_uri_is_refused_and_not_repeated(uri: str, pin: str) -> None:
    with pytest.raises(YourFault, match="PIN") as caught:
        TokenPlace.parse(uri.format(pin))
    assert "471147" not in caught.value.message + str(caught.value.help)


def test_a_pin_is_not_repeated_by_another_error_of_its_uri() -> None:
    with pytest.raises(YourFault) as caught:
        TokenPlace.parse("pkcs11:object=a?pin-value=471147")
    assert "471147" not in caught.value.message + str(caught.value.help)


TEXTS = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=8)


@given(token=TEXTS, serial=st.none() | st.text("0123456789abcdef", min_size=1, max_size=16), module=TEXTS)
def test_a_place_that_is_written_is_read_as_the_same(token: str, serial: str | None, module: str) -> None:
    place = TokenPlace(f"/{module}", token, serial)
    assert TokenPlace.parse(str(place)) == place


@given(st.text(max_size=60))
def test_no_text_is_read_as_anything_but_a_place_or_an_error(text: str) -> None:
    for uri in (text, f"pkcs11:{text}", f"pkcs11:token={text}?module-path=/m", f"pkcs11:token=a?module-path={text}"):
        try:
            place = TokenPlace.parse(uri)
        except YourFault:
            continue
        assert place.module.startswith("/")
        assert place.prefix == PREFIX or "object=" in uri
        assert (place.token or place.serial or "").isprintable()
        assert TokenPlace.parse(str(place)) == place


@given(st.text(min_size=1, max_size=20).filter(lambda text: not text.isprintable()))
def test_no_control_character_gets_in_encoded(text: str) -> None:
    with pytest.raises(YourFault):
        TokenPlace.parse(f"pkcs11:token={quote(text)}?module-path=/m")
