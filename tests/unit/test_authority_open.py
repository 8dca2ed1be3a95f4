"""An authority that is put down and taken up again: the same root, whatever interrupts."""

from __future__ import annotations

import sqlite3
import stat
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from fakes.clock import FakeClock
from spangate.adapters.authority_store import KEPT, AuthorityFile
from spangate.adapters.key_keepers import KeyFiles, MemoryKeys
from spangate.adapters.keys import SystemKeys, request_pem
from spangate.authority.ca import Authority
from spangate.authority.founding import INTERMEDIATE_RENEWAL
from spangate.authority.generations import AuthorityState
from spangate.authority.keeper import KeyKeeper
from spangate.authority.template import INTERMEDIATE_LIFETIME, ROOT_LIFETIME
from spangate.errors import TryAgain, YourFault
from spangate.model.identity import SpiffeId

CHECKOUT = SpiffeId.parse("spiffe://shop.example/ns/shop/sa/checkout")
PASSPHRASE = b"correct horse battery staple"


class Stopped(Exception):
    """The machine stops here."""


class Faulty:
    """Stops before the given call, counted over keeper and store."""

    def __init__(self, keeper: KeyKeeper, store: AuthorityFile, stop_at: int) -> None:
        self._keeper, self._store, self._left = keeper, store, stop_at

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Stopped

    def make(self, name: str) -> ec.EllipticCurvePrivateKey:
        self._step()
        found = self._keeper.make(name)
        self._step()
        return found

    def open(self, name: str) -> ec.EllipticCurvePrivateKey:
        return self._keeper.open(name)

    def names(self) -> tuple[str, ...]:
        return self._keeper.names()

    def destroy(self, name: str) -> None:
        self._step()
        self._keeper.destroy(name)

    def load(self) -> AuthorityState | None:
        return self._store.load()

    def save(self, state: AuthorityState) -> None:
        self._step()
        self._store.save(state)
        self._step()

    def begun(self) -> bool:
        return self._store.begun()

    def begin(self) -> None:
        self._step()
        self._store.begin()
        self._step()


class World:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock()
        self.keeper: Any = MemoryKeys()
        self.path = folder / "authority.sqlite"
        folder.mkdir(exist_ok=True)
        self.store = AuthorityFile(self.path, self.clock.now)

    def open(self, keeper: Any = None, store: Any = None, trust_domain: str = "shop.example") -> Authority:
        return Authority.open(
            trust_domain,
            self.clock,
            SystemKeys(),
            keeper or self.keeper,
            store or self.store,
            record=self.store.record,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def signed(authority: Authority) -> list[x509.Certificate]:
    issued = authority.sign(request_pem(SystemKeys().new_key()), CHECKOUT)
    return x509.load_pem_x509_certificates(issued.chain_pem.encode())


def test_an_authority_that_is_opened_again_is_the_same(world: World) -> None:
    first, second = world.open(), world.open()
    assert first.bundle_pem() == second.bundle_pem()
    assert len(second.roots()) == 1
    leaf, intermediate = signed(second)
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(first.roots()[0])
    assert len(world.keeper.names()) == 2


def test_keys_in_files_and_state_in_sqlite_outlive_the_process(tmp_path: Path) -> None:
    def opened() -> Authority:
        return Authority.open(
            "shop.example",
            FakeClock(),
            SystemKeys(),
            KeyFiles(tmp_path / "keys", PASSPHRASE),
            AuthorityFile(tmp_path / "authority.sqlite"),
        )

    assert opened().bundle_pem() == opened().bundle_pem()
    assert stat.S_IMODE((tmp_path / "authority.sqlite").stat().st_mode) == 0o600
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"PRIVATE KEY" not in path.read_bytes()


@pytest.mark.parametrize("stop_at", range(8))
def test_whatever_interrupts_the_beginning_the_next_start_is_whole(world: World, stop_at: int) -> None:
    faulty = Faulty(world.keeper, world.store, stop_at)
    with pytest.raises(Stopped):
        world.open(faulty, faulty)
    before = world.store.load()
    authority = world.open()
    _, intermediate = signed(authority)
    intermediate.verify_directly_issued_by(authority.roots()[0])
    assert len(world.keeper.names()) == 2
    if before is not None:
        assert before == world.store.load()


@pytest.mark.parametrize("stop_at", range(5))
def test_whatever_interrupts_a_new_intermediate_the_root_stays(world: World, stop_at: int) -> None:
    root = world.open().bundle_pem()
    world.clock.advance(INTERMEDIATE_LIFETIME - INTERMEDIATE_RENEWAL + timedelta(days=1))
    faulty = Faulty(world.keeper, world.store, stop_at)
    with pytest.raises(Stopped):
        world.open(faulty, faulty)
    authority = world.open()
    assert authority.bundle_pem() == root
    _, intermediate = signed(authority)
    assert intermediate.not_valid_after_utc > world.clock.now() + INTERMEDIATE_RENEWAL
    assert len(world.keeper.names()) == 2


def test_an_intermediate_is_not_replaced_before_its_time(world: World) -> None:
    world.open()
    before = world.store.load()
    world.clock.advance(INTERMEDIATE_LIFETIME - INTERMEDIATE_RENEWAL - timedelta(days=1))
    world.open()
    assert world.store.load() == before


def test_no_intermediate_outlives_its_root_and_a_root_that_has_ended_signs_nothing(world: World) -> None:
    world.open()
    world.clock.advance(ROOT_LIFETIME - timedelta(days=100))
    _, intermediate = signed(world.open())
    assert intermediate.not_valid_after_utc == world.open().roots()[0].not_valid_after_utc
    world.clock.advance(timedelta(days=101))
    with pytest.raises(TryAgain, match="root has ended"):
        world.open()


def test_another_trust_domain_is_refused(world: World) -> None:
    world.open()
    with pytest.raises(YourFault, match="is of the trust domain"):
        world.open(trust_domain="other.example")


def test_a_state_without_its_keys_or_with_others_is_refused(world: World) -> None:
    world.open()
    with pytest.raises(YourFault, match="no key"):
        world.open(MemoryKeys())
    state = world.store.load()
    assert state is not None
    impostor = MemoryKeys()
    for name in world.keeper.names():
        impostor.make(name)
    with pytest.raises(YourFault, match="not that of the authority"):
        world.open(impostor)


def test_keys_whose_state_is_elsewhere_are_refused_and_not_destroyed(world: World, tmp_path: Path) -> None:
    world.open()
    before = world.keeper.names()
    elsewhere = AuthorityFile(tmp_path / "elsewhere.sqlite", world.clock.now)
    for _ in range(2):
        with pytest.raises(YourFault, match="its state is not here"):
            world.open(store=elsewhere)
    assert world.keeper.names() == before
    world.open()


def test_another_authoritys_keys_are_refused_and_not_destroyed(world: World, tmp_path: Path) -> None:
    world.open()
    other = World(tmp_path / "other")
    other.open()
    before = other.keeper.names()
    with pytest.raises(YourFault, match="which the authority's state names"):
        world.open(other.keeper)
    assert other.keeper.names() == before


# The file ------------------------------------------------------------------------------------------------------------


def test_what_was_issued_is_written_down_and_forgotten_after_a_while(world: World) -> None:
    authority = world.open()
    signed(authority)
    kinds = [one.kind for one in world.store.issued()]
    assert sorted(kinds) == ["intermediate", "root", "svid"]
    (leaf,) = [one for one in world.store.issued() if one.kind == "svid"]
    assert leaf.identity == str(CHECKOUT)
    world.clock.advance(KEPT + timedelta(hours=2))
    for _ in range(1000):
        authority._record(leaf.__class__("svid", "x", SystemKeys().new_serial(), world.clock.now(), world.clock.now()))
    assert leaf not in world.store.issued()
    assert {"root", "intermediate"} <= {one.kind for one in world.store.issued()}


def test_many_threads_record_at_once(world: World) -> None:
    authority = world.open()
    threads = [threading.Thread(target=lambda: [signed(authority) for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(one.kind == "svid" for one in world.store.issued()) == 40


def test_a_copy_of_the_file_alone_has_the_state_while_the_authority_runs(world: World) -> None:
    authority = world.open()
    copy = world.path.with_name("copy.sqlite")
    copy.write_bytes(world.path.read_bytes())
    copied = AuthorityFile(copy, world.clock.now)
    assert world.open(store=copied).bundle_pem() == authority.bundle_pem()


def test_after_an_error_the_file_is_used_again(world: World) -> None:
    authority = world.open()
    with sqlite3.connect(world.path) as database:
        database.execute("ALTER TABLE issued RENAME TO elsewhere")
    with pytest.raises(TryAgain, match="no such table"):
        signed(authority)
    with sqlite3.connect(world.path) as database:
        database.execute("ALTER TABLE elsewhere RENAME TO issued")
    signed(authority)
    world.store.close()
    signed(authority)
    assert sum(one.kind == "svid" for one in world.store.issued()) == 2


def test_a_file_that_is_none_of_ours_is_not_touched(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but long enough to be looked at " * 10)
    with pytest.raises(YourFault, match="not an authority"):
        AuthorityFile(text)
    assert text.read_text().startswith("not a database")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE t (a)")
    with pytest.raises(YourFault, match="not written by this version"):
        AuthorityFile(other)


def test_a_damaged_state_is_an_error(world: World) -> None:
    world.open()
    with sqlite3.connect(world.path) as database:
        database.execute("UPDATE authority SET signing = 7")
    with pytest.raises(YourFault, match="damaged"):
        world.open()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TryAgain, match="cannot keep"):
        AuthorityFile(tmp_path / "nowhere" / "authority.sqlite")
