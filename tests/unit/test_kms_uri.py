"""Key rings: what is read, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spangate.adapters.kms_uri import SCHEME, RingPlace
from spangate.errors import YourFault

RING = "projects/shop-1/locations/europe-west1/keyRings/authority"


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        (f"gcpkms://{RING}", RingPlace(RING, "spangate", "hsm")),
        (f"gcpkms://{RING}?protection=software", RingPlace(RING, protection="software")),
        (f"gcpkms://{RING}?prefix=shop-2&protection=hsm", RingPlace(RING, "shop-2")),
        (
            "gcpkms://projects/example.com:shop/locations/global/keyRings/A_b-1",
            RingPlace("projects/example.com:shop/locations/global/keyRings/A_b-1"),
        ),
    ],
)
def test_what_a_uri_says(uri: str, place: RingPlace) -> None:
    assert RingPlace.parse(uri) == place


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (RING, "is not of the form"),
        (f"gcpkms:{RING}", "is not of the form"),
        (f"gcpkms://{RING}/cryptoKeys/root", "is not of the form"),
        (f"gcpkms://{RING}\n", "is not of the form"),
        (f"gcpkms:///{RING}", "is not of the form"),
        ("gcpkms://projects/../locations/a/keyRings/b/..", "is not of the form"),
        ("gcpkms://projects/a/locations/b/keyRings/ä", "is not of the form"),
        (f"gcpkms://{'a' * 600}", "too long"),
        (f"gcpkms://{RING}?", "`` stands twice, or is neither"),
        (f"gcpkms://{RING}?version=2", "`version` stands twice, or is neither"),
        (f"gcpkms://{RING}?prefix=a&prefix=b", "`prefix` stands twice"),
        (f"gcpkms://{RING}?prefix=", "`prefix` has 1 to 20"),
        (f"gcpkms://{RING}?prefix=a_b", "`prefix` has 1 to 20"),
        (f"gcpkms://{RING}?prefix={'a' * 21}", "`prefix` has 1 to 20"),
        (f"gcpkms://{RING}?protection=HSM", "none of hsm, software"),
    ],
)
def test_what_is_not_understood_is_an_error_that_says_why(uri: str, why: str) -> None:
    with pytest.raises(YourFault) as caught:
        RingPlace.parse(uri)
    assert why in caught.value.message
    assert caught.value.help is not None


@given(st.text(max_size=40), st.sampled_from(["", f"{SCHEME}", f"{SCHEME}{RING}", f"{SCHEME}{RING}?prefix="]))
def test_no_text_is_read_as_anything_but_a_key_ring_or_an_error(text: str, beginning: str) -> None:
    try:
        place = RingPlace.parse(beginning + text)
    except YourFault:
        return
    assert RingPlace.parse(str(place)) == place
    assert "/../" not in place.ring
    assert "_" not in place.prefix
