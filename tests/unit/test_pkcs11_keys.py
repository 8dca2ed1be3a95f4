"""Keys in a token, SoftHSM's here: what a keeper in a token adds to the contract (test_key_keepers.py)."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path

import pkcs11
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from fakes import softhsm
from fakes.clock import FakeClock
from fakes.softhsm import PIN, SoftToken
from spangate.adapters.authority_store import AuthorityFile
from spangate.adapters.foreign_key import ForeignKey
from spangate.adapters.keys import SystemKeys, request_pem
from spangate.adapters.pkcs11_keys import Pkcs11Keys
from spangate.adapters.pkcs11_uri import TokenPlace
from spangate.authority.ca import Authority
from spangate.authority.jwt_keys import KeptJwtKeys
from spangate.authority.jwt_svid import IssuedJwt, JwtAuthority
from spangate.errors import TryAgain, YourFault
from spangate.model.identity import SpiffeId

pytestmark = pytest.mark.skipif(bool(softhsm.MISSING), reason=softhsm.MISSING)

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
ECDSA = ec.ECDSA(hashes.SHA256())
# When a session is lost, the library's search says so twice, the second time in its `__del__`.
noisy_search = pytest.mark.filterwarnings("ignore:Exception ignored in.*pkcs11:pytest.PytestUnraisableExceptionWarning")
P256 = bytes.fromhex("06082a8648ce3d030107")


@pytest.fixture
def token(tmp_path: Path) -> SoftToken:
    return SoftToken(tmp_path)


@pytest.fixture
def keeper(token: SoftToken) -> Pkcs11Keys:
    return Pkcs11Keys(token.place, PIN)


def session_of(token: SoftToken) -> pkcs11.Session:
    """The token as another program sees it; logged in, since this process is."""
    return pkcs11.lib(token.place.module).get_token(token_label=token.place.token).open(rw=True)


def private_key(token: SoftToken, label: str) -> pkcs11.Object:
    (found,) = session_of(token).get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.LABEL: label})
    return found


def put(token: SoftToken, label: str, curve: bytes = P256, **private: object) -> None:
    """A pair of keys that was not made by us."""
    parameters = session_of(token).create_domain_parameters(KeyType.EC, {Attribute.EC_PARAMS: curve}, local=True)
    parameters.generate_keypair(
        id=b"another",
        label=label,
        store=True,
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        mechanism=Mechanism.EC_KEY_PAIR_GEN,
        private_template={Attribute[name]: value for name, value in private.items()},
    )


# The key stays in the token ------------------------------------------------------------------------------------------


def test_a_key_is_made_in_the_token_and_cannot_be_taken_out(token: SoftToken, keeper: Pkcs11Keys) -> None:
    keeper.make("root-1")
    found = private_key(token, "spangate/root-1")
    for attribute in ("SENSITIVE", "ALWAYS_SENSITIVE", "NEVER_EXTRACTABLE", "PRIVATE", "LOCAL", "SIGN", "TOKEN"):
        assert found[Attribute[attribute]] is True, attribute
    for attribute in ("EXTRACTABLE", "DERIVE", "DECRYPT", "UNWRAP"):
        assert found[Attribute[attribute]] is False, attribute
    with pytest.raises(pkcs11.AttributeSensitive):
        found[Attribute.VALUE]


def test_the_key_signs_and_gives_nothing_else_out(keeper: Pkcs11Keys) -> None:
    key = keeper.make("root-1")
    assert isinstance(key, ForeignKey)
    key.public_key().verify(key.sign(b"x", ECDSA), b"x", ECDSA)
    assert (key.key_size, key.curve.name) == (256, "secp256r1")
    refused = [
        lambda: key.private_numbers(),
        lambda: key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        lambda: key.exchange(ec.ECDH(), key.public_key()),
        lambda: key.sign(b"x", ec.ECDSA(hashes.SHA384())),
        lambda: key.sign(b"x" * 32, ec.ECDSA(Prehashed(hashes.SHA256()))),
        lambda: pickle.dumps(key),
    ]
    for attempt in refused:
        with pytest.raises(UnsupportedAlgorithm):
            attempt()
    assert copy.copy(key) is copy.deepcopy(key) is key
    assert repr(key) == "<ForeignKey root-1>"


@pytest.mark.parametrize(
    ("private", "why"),
    [
        ({"SENSITIVE": False, "EXTRACTABLE": False}, "give the key `root-1` out"),
        ({"SENSITIVE": True, "EXTRACTABLE": True}, "give the key `root-1` out"),
        ({"curve": bytes.fromhex("06052b81040022")}, "not on P-256"),
    ],
)
def test_a_key_that_could_be_taken_out_or_is_of_another_kind_is_not_opened(
    token: SoftToken, keeper: Pkcs11Keys, private: dict[str, object], why: str
) -> None:
    put(token, "spangate/root-1", **private)  # type: ignore[arg-type]
    assert keeper.names() == ("root-1",)
    with pytest.raises(YourFault, match=why):
        keeper.open("root-1")


def test_a_public_key_in_the_place_of_another_is_noticed(token: SoftToken, keeper: Pkcs11Keys) -> None:
    keeper.make("root-1")
    keeper.make("root-2")
    session = session_of(token)
    mine, other = (
        next(session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, Attribute.LABEL: f"spangate/root-{number}"}))
        for number in (1, 2)
    )
    identity = mine[Attribute.ID]
    mine.destroy()
    with pytest.raises(YourFault, match="no public key"):
        keeper.open("root-1")
    other[Attribute.LABEL], other[Attribute.ID] = "spangate/root-1", identity
    with pytest.raises(YourFault, match="another one's"):
        keeper.open("root-1")


def test_two_keys_of_one_name_are_opened_neither(token: SoftToken, keeper: Pkcs11Keys) -> None:
    keeper.make("root-1")
    put(token, "spangate/root-1", SENSITIVE=True, EXTRACTABLE=False)
    with pytest.raises(YourFault, match="two keys"):
        keeper.open("root-1")


def test_installations_share_a_token_and_see_their_own_keys_only(token: SoftToken, keeper: Pkcs11Keys) -> None:
    other = Pkcs11Keys(TokenPlace(token.place.module, token.place.token, prefix="other"), PIN)
    keeper.make("root-1")
    put(token, "root-1")
    put(token, "spangate/no name of ours")
    put(token, "spangates/root-1")
    assert keeper.names() == ("root-1",)
    assert other.names() == ()
    other.make("root-1")
    other.destroy("root-1")
    assert keeper.names() == ("root-1",)


# Modules, tokens, PINs -----------------------------------------------------------------------------------------------


def test_a_module_that_is_none_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "none.so").write_text("not a library")
    for path in (tmp_path / "none.so", tmp_path / "nowhere.so"):
        with pytest.raises(YourFault, match=f"`{path}` cannot be loaded"):
            Pkcs11Keys(TokenPlace(str(path), "authority"), PIN)


def test_a_token_that_is_not_there_may_come_and_two_of_one_name_are_told_apart(token: SoftToken) -> None:
    module = token.place.module
    with pytest.raises(TryAgain, match="no such token") as caught:
        Pkcs11Keys(TokenPlace(module, "elsewhere"), PIN)
    assert "pkcs11-tool" in str(caught.value.help)
    token.init("authority")
    with pytest.raises(YourFault, match="several tokens"):
        Pkcs11Keys(token.place, PIN)
    serials = [one.serial.decode() for one in pkcs11.lib(module).get_tokens(token_label="authority")]
    first, second = (Pkcs11Keys(TokenPlace(module, "authority", serial), PIN) for serial in serials)
    first.make("root-1")
    assert (first.names(), second.names()) == (("root-1",), ())


@pytest.mark.parametrize("pin", [b"", b"\xff", b"1" * 256])
def test_a_pin_that_can_be_none_is_not_shown_to_the_token(token: SoftToken, pin: bytes) -> None:
    with pytest.raises(YourFault, match="PIN of the token"):
        Pkcs11Keys(token.place, pin)


@noisy_search
def test_a_wrong_pin_is_shown_once_and_told_nowhere(token: SoftToken, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(YourFault, match="refuses the PIN") as caught:
        Pkcs11Keys(token.place, b"999888")
    assert "999888" not in repr(caught.value) + str(caught.value.help)
    keeper = Pkcs11Keys(token.place, PIN)
    keeper.make("root-1")
    assert PIN.decode() not in repr(keeper)
    # The PIN is changed while the authority runs, and its session ends.
    with session_of(token) as session:
        session.set_pin(PIN.decode(), "111222333")
    token.begin()
    with pytest.raises(YourFault, match="refuses the PIN"):
        keeper.open("root-1")
    for attempt in (lambda: keeper.open("root-1"), keeper.names, lambda: keeper.make("root-2")):
        with pytest.raises(YourFault, match="not asked again"):
            attempt()


# What fails while it runs --------------------------------------------------------------------------------------------


@noisy_search
def test_a_lost_session_is_opened_again_and_nobody_notices(token: SoftToken, keeper: Pkcs11Keys) -> None:
    key = keeper.make("root-1")
    for _ in range(3):
        token.begin()
        key.public_key().verify(key.sign(b"x", ECDSA), b"x", ECDSA)
    token.begin()
    assert keeper.names() == ("root-1",)
    token.begin()
    assert keeper.open("root-1").public_key() == key.public_key()
    token.begin()
    keeper.make("root-2")
    token.begin()
    keeper.destroy("root-2")
    assert keeper.names() == ("root-1",)


def test_a_token_that_is_taken_away_is_an_error_that_passes(token: SoftToken, keeper: Pkcs11Keys) -> None:
    key = keeper.make("root-1")
    kept = token.folder.with_name("kept")
    token.folder.rename(kept)
    token.folder.mkdir()
    token.begin()
    attempts = [
        lambda: key.sign(b"x", ECDSA),
        keeper.names,
        lambda: keeper.open("root-1"),
        lambda: keeper.make("root-2"),
        lambda: keeper.destroy("root-1"),
    ]
    for attempt in attempts:
        with pytest.raises(TryAgain):
            attempt()
    token.folder.rmdir()
    kept.rename(token.folder)
    token.begin()
    key.public_key().verify(key.sign(b"x", ECDSA), b"x", ECDSA)


def test_a_key_that_another_program_destroys_signs_no_more(token: SoftToken, keeper: Pkcs11Keys) -> None:
    key = keeper.make("root-1")
    private_key(token, "spangate/root-1").destroy()
    with pytest.raises(YourFault, match="no key `root-1`"):
        key.sign(b"x", ECDSA)


def test_threads_take_turns(keeper: Pkcs11Keys) -> None:
    keys = [keeper.make(f"root-{number}") for number in range(4)]
    failed: list[Exception] = []

    def sign(key: ec.EllipticCurvePrivateKey) -> None:
        try:
            for _ in range(50):
                key.public_key().verify(key.sign(b"x", ECDSA), b"x", ECDSA)
                keeper.names()
        except Exception as error:  # noqa: BLE001 - whatever it is, in another thread
            failed.append(error)

    threads = [threading.Thread(target=sign, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# The whole authority -------------------------------------------------------------------------------------------------


def test_an_authority_with_its_keys_in_a_token_is_the_same_after_a_restart(token: SoftToken, tmp_path: Path) -> None:
    clock = FakeClock()
    path = tmp_path / "authority.sqlite"

    def opened() -> tuple[Authority, JwtAuthority]:
        token.begin()
        keeper, store, serials = Pkcs11Keys(token.place, PIN), AuthorityFile(path, clock.now), SystemKeys()
        authority = Authority.open("shop.example", clock, serials, keeper, store, record=store.record)
        tokens: list[IssuedJwt] = []
        jwt = JwtAuthority(
            trust_domain="shop.example",
            issuer="https://issuer.example",
            clock=clock,
            serials=serials,
            store=KeptJwtKeys(keeper, lambda: f"{serials.new_serial() % 2**64:016x}"),
            record=tokens.append,
        )
        return authority, jwt

    first, first_tokens = opened()
    issued = first_tokens.sign(CHECKOUT, ("orders",))
    second, second_tokens = opened()
    assert first.bundle_pem() == second.bundle_pem()
    assert first_tokens.jwks() == second_tokens.jwks()
    assert second_tokens.validate(issued.token, "orders").identity == CHECKOUT
    assert second.sign(request_pem(SystemKeys().new_key()), CHECKOUT).chain_pem.count("BEGIN CERTIFICATE") == 2
    assert [name.rpartition("-")[0] for name in Pkcs11Keys(token.place, PIN).names()] == [
        "intermediate-1",
        f"jwt-{clock.now():%Y%m%dT%H%M%SZ}",
        "root-1",
    ]
