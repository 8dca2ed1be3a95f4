"""JWT-SVIDs: what is signed, what is refused and why, and that two other readers agree."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.clock import FakeClock
from fakes.tokens import kept
from spangate.adapters.keys import SystemKeys
from spangate.authority.jwt_keys import AHEAD, SIGNS, TEND, JwtKey, public_jwk, tended
from spangate.authority.jwt_reader import TOKEN_CHARACTERS_MAX, BadToken, read_token
from spangate.authority.jwt_svid import LIFETIME, IssuedJwt, JwtAuthority, validate_jwt_svid
from spangate.authority.jwt_verify import CLOCK_SKEW
from spangate.errors import YourFault
from spangate.model.identity import SpiffeId

NOON = datetime(2030, 1, 2, 12, 0, tzinfo=UTC)
CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"
ISSUER = "https://id.shop.example"


class World:
    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock(NOON)
        self.recorded: list[IssuedJwt] = []
        self.store = kept()
        self.authority = JwtAuthority(
            trust_domain="shop.example",
            issuer=ISSUER,
            clock=self.clock,
            serials=SystemKeys(),
            store=self.store,
            record=self.recorded.append,
            **options,
        )

    @property
    def key(self) -> JwtKey:
        (key,) = self.store.load()
        return key

    def bundles(self) -> dict[str, Any]:
        return {"shop.example": self.authority.spiffe_bundle()}


@pytest.fixture
def world() -> World:
    return World()


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(value: Any) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


def token(key: ec.EllipticCurvePrivateKey, header: Any, claims: Any) -> str:
    """Any header and claims, signed all the same."""
    content = f"{part(header)}.{part(claims)}"
    r, s = decode_dss_signature(key.sign(content.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{content}.{b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def header(world: World, **more: Any) -> dict[str, Any]:
    return {"alg": "ES256", "kid": world.key.id, "typ": "JWT"} | more


def claims(**more: Any) -> dict[str, Any]:
    now = int(NOON.timestamp())
    return {"sub": str(CHECKOUT), "aud": AUDIENCE, "iat": now, "exp": now + 300} | more


def validate(world: World, text: str, audience: str = AUDIENCE, now: datetime = NOON) -> Any:
    return validate_jwt_svid(text, audience, world.bundles(), now)


# What is signed ------------------------------------------------------------------------------------------------------


def test_a_token_says_who_to_whom_and_for_how_long(world: World) -> None:
    issued = world.authority.sign(CHECKOUT, (AUDIENCE,))
    found = world.authority.validate(issued.token, AUDIENCE)
    assert (found.identity, found.audiences, found.expires_at) == (CHECKOUT, (AUDIENCE,), NOON + LIFETIME)
    assert set(found.claims) == {"iss", "sub", "aud", "iat", "exp", "jti"}
    assert found.claims["iss"] == ISSUER
    assert world.recorded == [issued]


def test_pyjwt_takes_it_by_the_published_keys(world: World) -> None:
    issued = world.authority.sign(CHECKOUT, (AUDIENCE, "other"))
    keys = pyjwt.PyJWKSet.from_dict(dict(world.authority.jwks()))
    found = pyjwt.decode(
        issued.token,
        keys[issued.key_id],
        algorithms=["ES256"],
        audience="other",
        issuer=ISSUER,
        options={"verify_exp": False, "verify_iat": False, "require": ["exp", "iat", "sub", "jti"]},
    )
    assert found["sub"] == str(CHECKOUT)


def test_published_keys_hold_nothing_but_what_google_takes_and_nothing_private(world: World) -> None:
    for document, use in ((world.authority.jwks(), "sig"), (world.authority.spiffe_bundle(), "jwt-svid")):
        (key,) = document["keys"]  # type: ignore[misc, union-attr]
        assert set(key) == {"kty", "alg", "use", "kid", "x", "y", "crv"}
        assert key["use"] == use


def test_the_discovery_document_points_to_the_keys(world: World) -> None:
    found = world.authority.discovery()
    assert found["issuer"] == ISSUER
    assert found["jwks_uri"] == f"{ISSUER}/keys"


def test_no_token_is_shown_by_repr(world: World) -> None:
    issued = world.authority.sign(CHECKOUT, (AUDIENCE,))
    shown = repr(issued) + repr(read_token(issued.token)) + repr(world.key)
    assert issued.token not in shown
    assert issued.token.rpartition(".")[2] not in shown


def test_what_cannot_be_recorded_is_not_given_out() -> None:
    def full(_: IssuedJwt) -> None:
        raise OSError("no space left")

    world = World()
    world.authority._record = full
    with pytest.raises(OSError, match="no space"):
        world.authority.sign(CHECKOUT, (AUDIENCE,))


@pytest.mark.parametrize(
    ("identity", "audiences", "message"),
    [
        ("spiffe://other.example/ns/a/sa/b", (AUDIENCE,), "not in the trust domain"),
        (str(CHECKOUT), (), "one to 16"),
        (str(CHECKOUT), tuple(map(str, range(17))), "one to 16"),
        (str(CHECKOUT), ("a", "a"), "twice"),
        (str(CHECKOUT), ("a\nb",), "printable"),
        (str(CHECKOUT), ("",), "printable"),
        (str(CHECKOUT), ("x" * 257,), "printable"),
    ],
)
def test_what_is_not_signed(world: World, identity: str, audiences: tuple[str, ...], message: str) -> None:
    with pytest.raises(YourFault, match=message):
        world.authority.sign(SpiffeId.parse(identity), audiences)
    assert world.recorded == []


@pytest.mark.parametrize(
    "issuer",
    ["http://id.shop.example", "https://", "https://a/?b", "https://a/#b", "https://u@a", "https://a/", "ftp://a", ""],
)
def test_an_issuer_is_a_plain_https_url(issuer: str) -> None:
    with pytest.raises(YourFault, match="issuer"):
        JwtAuthority(
            trust_domain="a",
            issuer=issuer,
            clock=FakeClock(NOON),
            serials=SystemKeys(),
            store=kept(),
            record=lambda _: None,
        )


def test_a_lifetime_is_of_minutes() -> None:
    for seconds in (1, 86_400):
        with pytest.raises(YourFault, match="lifetime"):
            World(lifetime=timedelta(seconds=seconds))


# What is refused -----------------------------------------------------------------------------------------------------


def hmac_with_the_public_key(world: World) -> str:
    public = world.key.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    import hashlib
    import hmac

    content = f"{part(header(world, alg='HS256'))}.{part(claims())}"
    return f"{content}.{b64(hmac.new(public, content.encode(), hashlib.sha256).digest())}"


def of(**more: Any) -> Callable[[World], str]:
    """Signed, with these claims; None leaves one out."""

    def make(world: World) -> str:
        said = {name: value for name, value in claims(**more).items() if value is not None}
        return token(world.key.private, header(world), said)

    return make


def headed(**more: Any) -> Callable[[World], str]:
    return lambda world: token(
        world.key.private,
        {name: value for name, value in header(world, **more).items() if value is not None},
        claims(),
    )


def raw(head: bytes | None = None, body: bytes | None = None) -> Callable[[World], str]:
    return lambda world: token(world.key.private, head or header(world), body or claims())


NOW = int(NOON.timestamp())
REFUSED: dict[str, tuple[Callable[[World], str], str]] = {
    "alg none": (lambda w: f"{part(header(w, alg='none'))}.{part(claims())}.", "not base64url"),
    "alg none, with a signature": (headed(alg="none"), "its algorithm is none of"),
    "alg in other case": (headed(alg="es256"), "its algorithm is none of"),
    "HS256 with the public key": (hmac_with_the_public_key, "its algorithm is none of"),
    "RS256 for a key on a curve": (headed(alg="RS256"), "not for its algorithm"),
    "no alg": (headed(alg=None), "names no algorithm"),
    "another key": (lambda w: token(SystemKeys().new_key(), header(w), claims()), "signature is wrong"),
    "an unknown key": (headed(kid="nobody"), "no key of that id"),
    "no kid": (headed(kid=None), "names no key"),
    "kid with a path": (headed(kid="../../dev/null"), "names no key"),
    "kid with SQL": (headed(kid="x' OR '1'='1"), "names no key"),
    "kid with NUL": (headed(kid="a\0b"), "names no key"),
    "kid a number": (headed(kid=7), "names no key"),
    "kid too long": (headed(kid="k" * 129), "names no key"),
    "its own key": (headed(jwk={"kty": "EC"}), "`jwk`, which is not taken"),
    "a place for keys": (headed(jku="https://evil.example/keys"), "`jku`, which is not taken"),
    "a certificate": (headed(x5c=["x"]), "`x5c`, which is not taken"),
    "crit": (headed(crit=["exp"]), "`crit`, which is not taken"),
    "b64": (headed(b64=False), "`b64`, which is not taken"),
    "zip": (headed(zip="DEF"), "`zip`, which is not taken"),
    "nested": (headed(cty="JWT"), "`cty`, which is not taken"),
    "another type": (headed(typ="at+jwt"), "neither JWT nor JOSE"),
    "a type that is a list": (headed(typ=[]), "neither JWT nor JOSE"),
    "a type that is an object": (headed(typ={}), "neither JWT nor JOSE"),
    "a type that is a number": (headed(typ=7), "neither JWT nor JOSE"),
    "alg a list": (headed(alg=[]), "names no algorithm"),
    "ended": (of(iat=NOW - 600, exp=NOW), "has ended"),
    "not yet": (of(nbf=NOW + 31, exp=NOW + 60), "has not begun"),
    "issued in the future": (of(iat=NOW + 31, exp=NOW + 60), "has not begun"),
    "no end": (of(exp=None), "when it was issued and when it ends"),
    "no beginning": (of(iat=None), "when it was issued and when it ends"),
    "lives too long": (of(exp=NOW + 86_401), "lives longer"),
    "an end that is text": (of(exp="9999999999"), "not a moment"),
    "an end that is true": (of(exp=True), "not a moment"),
    "an end beyond time": (of(exp=1e300), "not a moment"),
    "an end before time": (of(exp=-1), "not a moment"),
    "another audience": (of(aud="somebody"), "another audience"),
    "a part of the audience": (of(aud=AUDIENCE[:-1]), "another audience"),
    "no audience": (of(aud=None), "names no audience"),
    "an empty audience": (of(aud=[]), "names no audience"),
    "an audience that is a number": (of(aud=[7]), "names no audience"),
    "one audience twice": (of(aud=[AUDIENCE, AUDIENCE]), "one twice"),
    "too many audiences": (of(aud=[AUDIENCE, *map(str, range(16))]), "too many"),
    "an issuer that is a number": (of(iss=1), "`iss` is not a text"),
    "an id that is null": (lambda w: token(w.key.private, header(w), claims(jti=None)), "`jti` is not a text"),
    "no subject": (of(sub=None), "names no subject"),
    "a subject that is a list": (of(sub=[str(CHECKOUT)]), "`sub` is not a text"),
    "a subject with a path traversal": (of(sub="spiffe://shop.example/ns/../sa/checkout"), "not a SPIFFE ID"),
    "a subject with a line end": (of(sub=str(CHECKOUT) + "\n"), "not a SPIFFE ID"),
    "a trust domain with a line end": (of(sub="spiffe://shop.example\n/ns/shop/sa/checkout"), "not a SPIFFE ID"),
    "a subject with NUL": (of(sub="spiffe://shop.example/ns/shop\0/sa/checkout"), "not a SPIFFE ID"),
    "another trust domain": (of(sub="spiffe://other.example/ns/shop/sa/checkout"), "not one that is trusted"),
    "a trust domain in upper case": (of(sub="spiffe://SHOP.example/ns/shop/sa/checkout"), "not a SPIFFE ID"),
    "a claim twice": (
        raw(body=json.dumps(claims()).encode().replace(b'{"sub"', b'{"sub":"spiffe://shop.example/x","sub"', 1)),
        "every name stands once",
    ),
    "a header twice": (raw(head=b'{"alg":"ES256","alg":"ES256","kid":"x"}'), "every name stands once"),
    "claims that are a list": (raw(body=b"[]"), "not a JSON object"),
    "claims with NaN": (raw(body=b'{"exp":NaN}'), "not a JSON object"),
    "claims that are not UTF-8": (raw(body=b'{"sub":"\xff"}'), "not a JSON object"),
    "claims too deep": (raw(body=b'{"a":' + b"[" * 17 + b"]" * 17 + b"}"), "nested deeper"),
    "five parts": (lambda w: "a.b.c.d.e", "encrypted"),
    "two parts": (lambda w: "a.b", "not three parts"),
    "a dot at the end": (lambda w: w.authority.sign(CHECKOUT, (AUDIENCE,)).token + ".", "not three parts"),
    "a space in front": (lambda w: " " + w.authority.sign(CHECKOUT, (AUDIENCE,)).token, "not base64url"),
    "a line end behind": (lambda w: w.authority.sign(CHECKOUT, (AUDIENCE,)).token + "\n", "not base64url"),
    "padding": (lambda w: w.authority.sign(CHECKOUT, (AUDIENCE,)).token + "==", "not base64url"),
    "no signature": (lambda w: w.authority.sign(CHECKOUT, (AUDIENCE,)).token.rpartition(".")[0] + ".", "not base64url"),
    "oversize": (of(filler="x" * TOKEN_CHARACTERS_MAX), "longer than"),
    "nothing": (lambda w: "", "not three parts"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_token_is_refused_with_its_reason(world: World, name: str) -> None:
    make, reason = REFUSED[name]
    text = make(world)
    with pytest.raises(BadToken, match=reason) as caught:
        validate(world, text)
    assert len(text) < 20 or text not in str(caught.value)


def test_a_signature_has_one_spelling(world: World) -> None:
    text = world.authority.sign(CHECKOUT, (AUDIENCE,)).token
    last = text[-1]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # 64 bytes leave four bits of the last letter unused.
    for other in letters:
        if other != last:
            with pytest.raises(BadToken):
                validate(world, text[:-1] + other)


def test_a_small_difference_of_clocks_is_borne_and_no_more(world: World) -> None:
    late = of(iat=NOW + int(CLOCK_SKEW.total_seconds()), exp=NOW + 300)(world)
    assert validate(world, late).identity == CHECKOUT


def test_a_token_that_is_replayed_is_good_for_its_audience_alone_and_to_its_end_alone(world: World) -> None:
    issued = world.authority.sign(CHECKOUT, (AUDIENCE,))
    assert validate(world, issued.token) == validate(world, issued.token)
    with pytest.raises(BadToken, match="it is for another audience"):
        validate(world, issued.token, "somebody-else")
    with pytest.raises(BadToken, match="it has ended"):
        validate(world, issued.token, now=issued.expires_at)
    # Whoever wants to take each once can: no two are alike.
    assert world.authority.sign(CHECKOUT, (AUDIENCE,)).token_id != issued.token_id


def test_keys_of_one_trust_domain_do_not_speak_for_another(world: World) -> None:
    other = World()
    text = of(sub="spiffe://shop.example/ns/shop/sa/checkout")(other)
    bundles = {"shop.example": world.authority.spiffe_bundle(), "other.example": other.authority.spiffe_bundle()}
    with pytest.raises(BadToken, match="no key of that id"):
        validate_jwt_svid(text, AUDIENCE, bundles, NOON)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"use": "enc"}, "not for signatures"),
        ({"use": ["sig"]}, "not for signatures"),
        ({"use": {}}, "not for signatures"),
        ({"alg": "ES384"}, "not for its algorithm"),
        ({"kty": "oct", "k": "AA"}, "not for its algorithm"),
        ({"crv": "P-384"}, "not for its algorithm"),
        ({"x": "AA"}, "cannot be read"),
    ],
)
def test_a_key_of_a_bundle_fits_or_is_not_used(world: World, change: dict[str, str], reason: str) -> None:
    text = world.authority.sign(CHECKOUT, (AUDIENCE,)).token
    bundle = {"keys": [world.key.jwk("jwt-svid") | change]}
    with pytest.raises(BadToken, match=reason):
        validate_jwt_svid(text, AUDIENCE, {"shop.example": bundle}, NOON)


def test_two_keys_of_one_id_are_none(world: World) -> None:
    text = world.authority.sign(CHECKOUT, (AUDIENCE,)).token
    key = world.key.jwk("jwt-svid")
    with pytest.raises(BadToken, match="several keys"):
        validate_jwt_svid(text, AUDIENCE, {"shop.example": {"keys": [key, key]}}, NOON)


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_rsa_of_others_is_taken_if_it_is_long_enough(world: World) -> None:
    for bits, good in ((2048, True), (1024, False)):
        private = rsa.generate_private_key(65537, bits)
        jwk = json.loads(pyjwt.algorithms.RSAAlgorithm.to_jwk(private.public_key())) | {"kid": "r", "use": "jwt-svid"}
        text = pyjwt.encode(claims(), private, "RS256", headers={"kid": "r"})
        bundles = {"shop.example": {"keys": [jwk]}}
        if good:
            assert validate_jwt_svid(text, AUDIENCE, bundles, NOON).identity == CHECKOUT
        else:
            with pytest.raises(BadToken, match="too short"):
                validate_jwt_svid(text, AUDIENCE, bundles, NOON)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_pyjwt_takes_whatever_is_taken_here(data: st.DataObject) -> None:
    """A token with something changed: what this reader accepts, the other accepts too, and reads alike."""
    world = FIXED
    text = data.draw(
        st.one_of(
            st.sampled_from(VARIANTS),
            st.builds(lambda cut: VARIANTS[0][:cut], st.integers(0, len(VARIANTS[0]))),
            st.builds(
                lambda at, letter: VARIANTS[0][:at] + letter + VARIANTS[0][at + 1 :],
                st.integers(0, len(VARIANTS[0]) - 1),
                st.characters(codec="ascii"),
            ),
        )
    )
    try:
        found = validate(world, text)
    except BadToken:
        return
    other = pyjwt.decode(
        text,
        pyjwt.PyJWK(world.key.jwk("sig")),
        algorithms=["ES256"],
        audience=AUDIENCE,
        options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
    )
    assert other == found.claims


FIXED = World()
VARIANTS = [
    FIXED.authority.sign(CHECKOUT, (AUDIENCE,)).token,
    *(make(FIXED) for make, _ in REFUSED.values()),
    *(of(**{name: value})(FIXED) for name in ("jti", "iss", "extra") for value in ("x", 1, None, {"a": [1]})),
]


# Keys -----------------------------------------------------------------------------------------------------------------


def test_a_key_is_published_before_it_signs_and_until_its_last_token_has_ended() -> None:
    store = kept()
    life = timedelta(minutes=5)
    now = NOON
    signers: list[tuple[datetime, str]] = []
    published: dict[str, list[datetime]] = {}
    while now < NOON + 3 * SIGNS:
        table = tended(store, now, token_life=life)
        signers.append((now, table.signing.id))
        for key in table.published:
            published.setdefault(key.id, []).append(now)
        now += timedelta(hours=6)
    order = list(dict.fromkeys(name for _, name in signers))
    assert len(order) == 3
    for name in order[1:]:
        first_signed = next(moment for moment, signer in signers if signer == name)
        assert published[name][0] <= first_signed - AHEAD + timedelta(hours=6)
    for name in order[:-1]:
        last_signed = max(moment for moment, signer in signers if signer == name)
        assert published[name][-1] >= last_signed + life
    assert len(store.load()) <= 3


def test_the_first_key_signs_at_once_and_survives_a_restart() -> None:
    store = kept()
    first = tended(store, NOON, token_life=LIFETIME)
    again = tended(store, NOON + timedelta(days=1), token_life=LIFETIME)
    assert first.signing.id == again.signing.id


def test_an_old_key_leaves_only_when_its_tokens_have() -> None:
    store = kept()
    tended(store, NOON, token_life=LIFETIME)
    table = tended(store, NOON + SIGNS, token_life=LIFETIME)
    new = next(key for key in table.published if key.signs_from > NOON)
    before = new.signs_from + TEND + LIFETIME - timedelta(seconds=1)
    assert len(tended(store, before, token_life=LIFETIME).published) == 2
    after = tended(store, before + timedelta(seconds=1), token_life=LIFETIME)
    assert [key.id for key in after.published] == [new.id]


def test_only_p256_is_a_key_of_ours() -> None:
    with pytest.raises(ValueError, match="P-256"):
        public_jwk(ec.generate_private_key(ec.SECP384R1()).public_key())
