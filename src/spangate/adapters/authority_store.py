"""The authority's state in SQLite: certificates, who signs, where a rotation stands, and what was issued. Never a
private key.

Rules: one file, 0600, write-ahead logged; a state is replaced in one transaction that is on the disk when `save`
returns. Of leaves, those that have ended are forgotten after a while; of pods' tokens, which are there as digests, as
soon as they have ended. A file that is none of ours is an error, never
overwritten.
Not here: what a state means (authority/generations.py), the keys (key_keepers.py).
"""

from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from spangate.authority.generations import AuthorityState, Generation, LetGo, checked
from spangate.authority.jwt_svid import IssuedJwt
from spangate.authority.kubernetes_token import Attested
from spangate.authority.ledger import Held, Issued, Life, Taker
from spangate.authority.rotation import Phase
from spangate.authority.token_addresses import Replay
from spangate.errors import Broken, TryAgain, YourFault

FILE = "authority.sqlite"
# Leaves that have ended are of interest for an inquiry on the days after.
KEPT = timedelta(days=30)
# Tokens of pods that have not ended, each with the address that showed it first: of a large cluster within a day. Past
# it no new one is taken: to forget one would let it be bound again, by whoever comes.
SHOWN_MAX = 200_000
# Enough to see what goes on; the first ones are those that matter.
REPLAYS_MAX = 10_000
# Who has many addresses, as everybody with IPv6, shall not fill that with one token.
REPLAYS_OF_TOKEN_MAX = 16
_BUSY_SECONDS = 5.0
_PRUNE_EVERY = 1000
_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS authority (
  one INTEGER PRIMARY KEY CHECK (one = 1), trust_domain TEXT NOT NULL, signing INTEGER NOT NULL, phase TEXT NOT NULL,
  revision INTEGER NOT NULL, staged INTEGER NOT NULL, since INTEGER NOT NULL, numbers INTEGER NOT NULL,
  confirmed TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS begun (one INTEGER PRIMARY KEY CHECK (one = 1)) STRICT;
CREATE TABLE IF NOT EXISTS generations (
  number INTEGER PRIMARY KEY, root_pem TEXT NOT NULL, root_key TEXT NOT NULL,
  intermediate_pem TEXT NOT NULL, intermediate_key TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS let_go (
  number INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, issuer TEXT NOT NULL, until INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS issued (
  serial TEXT PRIMARY KEY, kind TEXT NOT NULL, identity TEXT NOT NULL, not_before INTEGER NOT NULL,
  not_after INTEGER NOT NULL, dns_names TEXT NOT NULL, generation INTEGER NOT NULL, revision INTEGER NOT NULL,
  holder TEXT NOT NULL, in_use INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS attested (
  number TEXT PRIMARY KEY, identity TEXT NOT NULL, pod_uid TEXT NOT NULL, at INTEGER NOT NULL,
  token_ends INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS shown (token TEXT PRIMARY KEY, address TEXT NOT NULL, ends INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS replayed (
  token TEXT NOT NULL, address TEXT NOT NULL, first TEXT NOT NULL, identity TEXT NOT NULL, pod_uid TEXT NOT NULL,
  at INTEGER NOT NULL, PRIMARY KEY (token, address)
) STRICT;
CREATE INDEX IF NOT EXISTS shown_by_end ON shown (ends);
CREATE TABLE IF NOT EXISTS lives (
  holder TEXT PRIMARY KEY, system TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS takers (
  holder TEXT NOT NULL, system TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL, streams INTEGER NOT NULL,
  PRIMARY KEY (holder, system, pid, started)
) STRICT;
CREATE INDEX IF NOT EXISTS issued_by_end ON issued (not_after);
CREATE INDEX IF NOT EXISTS issued_by_holder ON issued (holder) WHERE in_use = 1;
"""


class AuthorityFile:
    """A StateStore, and the Ledger and Takings of what was issued. Any thread may use it."""

    def __init__(self, path: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Makes the file if need be. Raises YourFault for one that is none of ours, TryAgain if it cannot be used."""
        self._path = path
        self._now = now
        self._lock = threading.Lock()
        self._using = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._recorded = 0
        try:
            path.touch(mode=0o600)
            path.chmod(0o600)
        except OSError as error:
            raise TryAgain(f"cannot keep the authority in `{path}`: {error.strerror}") from error
        with self._used() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            tables = database.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
            if version not in (0, _VERSION) or (version == 0 and tables):
                raise YourFault(f"`{path}` was not written by this version of Spangate", help="move it away")
            database.execute("PRAGMA journal_mode = WAL")
            # One transaction: a file without its version, left behind by a kill in between, would be none of ours.
            database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

    def load(self) -> AuthorityState | None:
        """See authority.generations.StateStore."""
        with self._used() as database:
            row = database.execute(
                "SELECT trust_domain, signing, phase, revision, staged, since, numbers, confirmed FROM authority"
            ).fetchone()
            if row is None:
                return None
            found = database.execute(
                "SELECT number, root_pem, root_key, intermediate_pem, intermediate_key FROM generations ORDER BY number"
            ).fetchall()
            gone = database.execute("SELECT number, fingerprint, issuer, until FROM let_go ORDER BY number").fetchall()
        trust_domain, signing, phase, revision, staged, since, numbers, confirmed = row
        try:
            return checked(
                AuthorityState(
                    trust_domain,
                    tuple(Generation(*one) for one in found),
                    signing,
                    Phase(phase),
                    revision,
                    staged,
                    _moment(since),
                    numbers,
                    tuple(LetGo(number, root, issuer, _moment(until)) for number, root, issuer, until in gone),
                    frozenset(filter(None, confirmed.split("\n"))),
                )
            )
        except (Broken, ValueError, IndexError) as error:
            raise YourFault(
                f"the authority in `{self._path}` is damaged: {error}", help="put a copy of the file back"
            ) from error

    def save(self, state: AuthorityState) -> None:
        """See authority.generations.StateStore."""
        rows = [
            (one.number, one.root_pem, one.root_key, one.intermediate_pem, one.intermediate_key)
            for one in state.generations
        ]
        gone = [(one.number, one.fingerprint, one.issuer, int(one.until.timestamp())) for one in state.let_go]
        row = (
            *(state.trust_domain, state.signing, state.phase.value, state.revision, state.staged),
            *(int(state.since.timestamp()), state.numbers, "\n".join(sorted(state.confirmed))),
        )
        with self._used() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT OR REPLACE INTO authority VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            database.execute("DELETE FROM generations")
            database.executemany("INSERT INTO generations VALUES (?, ?, ?, ?, ?)", rows)
            database.execute("DELETE FROM let_go")
            database.executemany("INSERT INTO let_go VALUES (?, ?, ?, ?)", gone)
            database.execute("COMMIT")
            # Into the file itself: a copy of that alone, without the log beside it, has the state.
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def begun(self) -> bool:
        """See authority.generations.StateStore."""
        with self._used() as database:
            return database.execute("SELECT one FROM begun").fetchone() is not None

    def begin(self) -> None:
        """See authority.generations.StateStore."""
        with self._used() as database:
            database.execute("INSERT OR IGNORE INTO begun VALUES (1)")

    def record(self, issued: Issued) -> None:
        """See authority.ledger.Ledger. Raises TryAgain."""
        self._write(f"{issued.serial:x}", issued)

    def record_token(self, issued: IssuedJwt) -> None:
        """Writes down that a token was issued, to whom and for whom; not the token. Raises TryAgain."""
        facts = Issued("jwt", str(issued.identity), 0, issued.issued_at, issued.expires_at, issued.audiences)
        self._write(issued.token_id, facts)

    def record_attested(self, number: str, attested: Attested, at: datetime) -> None:
        """Writes down by which pod's token what has that serial number or token id was given. Raises TryAgain."""
        times = (int(at.timestamp()), int(attested.expires_at.timestamp()))
        with self._used() as database:
            database.execute(
                "INSERT INTO attested VALUES (?, ?, ?, ?, ?)",
                (number, str(attested.identity), attested.pod_uid, *times),
            )

    def attested(self) -> tuple[tuple[str, str, str], ...]:
        """Number, identity and pod of everything that is written down, oldest first."""
        with self._used() as database:
            rows = database.execute("SELECT number, identity, pod_uid FROM attested ORDER BY at, rowid").fetchall()
        return tuple((number, identity, pod) for number, identity, pod in rows)

    def first_shown(self, digest: str, address: str, ends: datetime) -> str:
        """See authority.token_addresses.Shown. Those that have ended are forgotten."""
        with self._used() as database:
            known = _address_of(database, digest)
            if known is not None:
                return known
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM shown WHERE ends <= ?", (int(self._now().timestamp()),))
            if database.execute("SELECT COUNT(*) FROM shown").fetchone()[0] >= SHOWN_MAX:
                raise TryAgain(f"{SHOWN_MAX} tokens that have not ended were shown: no other one is taken just now")
            # Never forgotten before it ends.
            row = (digest, address, math.ceil(ends.timestamp()))
            database.execute("INSERT OR IGNORE INTO shown VALUES (?, ?, ?)", row)
            first = _address_of(database, digest)
            database.execute("COMMIT")
        if first is None:
            raise Broken("what was written down is not there")
        return first

    def record_replay(self, replay: Replay, at: datetime) -> None:
        """See authority.token_addresses.Shown. The first REPLAYS_MAX of a month are kept, each address once, and
        the first REPLAYS_OF_TOKEN_MAX of a token.
        """
        attested = replay.attested
        row = (attested.digest, replay.address, replay.first, str(attested.identity), attested.pod_uid)
        with self._used() as database:
            known = database.execute("SELECT address FROM replayed WHERE token = ?", row[:1]).fetchall()
            if len(known) >= REPLAYS_OF_TOKEN_MAX or (replay.address,) in known:
                return
            database.execute("DELETE FROM replayed WHERE at < ?", (int((at - KEPT).timestamp()),))
            if database.execute("SELECT COUNT(*) FROM replayed").fetchone()[0] < REPLAYS_MAX:
                values = (*row, int(at.timestamp()))
                database.execute("INSERT OR IGNORE INTO replayed VALUES (?, ?, ?, ?, ?, ?)", values)

    def replayed(self) -> tuple[tuple[str, str, str, str], ...]:
        """Identity, pod, first and other address of every token that was shown from two, oldest first."""
        with self._used() as database:
            rows = database.execute(
                "SELECT identity, pod_uid, first, address FROM replayed ORDER BY at, rowid"
            ).fetchall()
        return tuple((identity, pod, first, address) for identity, pod, first, address in rows)

    def _write(self, number: str, issued: Issued) -> None:
        begins, ends = (int(moment.timestamp()) for moment in (issued.not_before, issued.not_after))
        row = (
            *(number, issued.kind, issued.identity, begins, ends, "\n".join(issued.dns_names)),
            *(issued.generation, issued.revision, issued.holder, int(issued.kind == "svid")),
        )
        with self._lock:
            self._recorded += 1
            prune = self._recorded % _PRUNE_EVERY == 0
        with self._used() as database:
            database.execute("INSERT INTO issued VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            if prune:
                oldest = int((self._now() - KEPT).timestamp())
                database.execute("DELETE FROM issued WHERE kind IN ('svid', 'jwt') AND not_after < ?", (oldest,))
                database.execute("DELETE FROM attested WHERE at < ?", (oldest,))

    def held(self, now: datetime) -> tuple[Held, ...]:
        """See authority.ledger.Ledger."""
        with self._used() as database:
            rows = database.execute(
                "SELECT holder, identity, generation, revision, MAX(not_after) FROM issued"
                " WHERE in_use = 1 AND not_after > ? GROUP BY holder, identity, generation, revision",
                (int(now.timestamp()),),
            ).fetchall()
        return tuple(
            Held(holder, identity, generation, revision, _moment(until))
            for holder, identity, generation, revision, until in rows
        )

    def replaced(self, holder: str, generation: int) -> None:
        """See authority.ledger.Ledger."""
        with self._used() as database:
            database.execute(
                "UPDATE issued SET in_use = 0 WHERE in_use = 1 AND holder = ? AND generation <> ?", (holder, generation)
            )

    def given_up(self, holder: str) -> None:
        """See authority.ledger.Ledger."""
        with self._used() as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("UPDATE issued SET in_use = 0 WHERE in_use = 1 AND holder = ?", (holder,))
            database.execute("DELETE FROM lives WHERE holder = ?", (holder,))
            database.execute("DELETE FROM takers WHERE holder = ?", (holder,))
            database.execute("COMMIT")

    def belongs(self, holder: str, life: Life) -> None:
        """See authority.ledger.Ledger."""
        with self._used() as database:
            database.execute(
                "INSERT OR REPLACE INTO lives VALUES (?, ?, ?, ?)", (holder, life.system, life.pid, life.started)
            )

    def lives(self) -> Mapping[str, Life]:
        """See authority.ledger.Ledger."""
        with self._used() as database:
            rows = database.execute("SELECT holder, system, pid, started FROM lives").fetchall()
        return {holder: Life(system, pid, started) for holder, system, pid, started in rows}

    def taken(self, takers: Iterable[Taker], gone: Iterable[tuple[str, Life]] = ()) -> None:
        """See authority.ledger.Takings."""
        rows = [(one.holder, one.life.system, one.life.pid, one.life.started, one.streams) for one in takers]
        keys = [(holder, life.system, life.pid, life.started) for holder, life in gone]
        with self._used() as database:
            database.execute("BEGIN IMMEDIATE")
            database.executemany("DELETE FROM takers WHERE holder = ? AND system = ? AND pid = ? AND started = ?", keys)
            database.executemany("INSERT OR REPLACE INTO takers VALUES (?, ?, ?, ?, ?)", rows)
            database.execute("COMMIT")

    def takers(self, now: datetime) -> tuple[Taker, ...]:
        """See authority.ledger.Takings."""
        with self._used() as database:
            database.execute(
                "DELETE FROM takers WHERE holder NOT IN (SELECT holder FROM issued WHERE in_use = 1 AND not_after > ?)",
                (int(now.timestamp()),),
            )
            rows = database.execute("SELECT holder, system, pid, started, streams FROM takers").fetchall()
        return tuple(
            Taker(holder, Life(system, pid, started), streams) for holder, system, pid, started, streams in rows
        )

    def issued(self) -> tuple[Issued, ...]:
        """Everything that is written down, in the order of ends."""
        with self._used() as database:
            rows = database.execute(
                "SELECT kind, identity, serial, not_before, not_after, dns_names, generation, revision, holder"
                " FROM issued ORDER BY not_after, serial"
            ).fetchall()
        return tuple(
            Issued(
                *(kind, identity, int(serial, 16), _moment(begins), _moment(ends)),
                tuple(filter(None, names.split("\n"))),
                *rest,
            )
            for kind, identity, serial, begins, ends, names, *rest in rows
        )

    def close(self) -> None:
        """Lets go of the file; it is opened again when it is needed."""
        with self._using:
            self._let_go()

    def __del__(self) -> None:
        self._let_go()

    def _let_go(self) -> None:
        database, self._connection = self._connection, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()

    @contextmanager
    def _used(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; a new one after an error. To open one costs more than to write."""
        with self._using:
            try:
                if self._connection is None:
                    # Threads take turns.
                    self._connection = sqlite3.connect(
                        self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
                    )
                    # On the disk when a transaction ends, also in a write-ahead log.
                    self._connection.execute("PRAGMA synchronous = FULL")
                yield self._connection
            except BaseException as error:
                self._let_go()
                if isinstance(error, sqlite3.OperationalError):
                    raise TryAgain(f"cannot use the authority in `{self._path}`: {error}") from error
                if isinstance(error, sqlite3.DatabaseError):
                    raise YourFault(
                        f"`{self._path}` is not an authority's file: {error}", help="move it away"
                    ) from error
                raise


def _address_of(database: sqlite3.Connection, digest: str) -> str | None:
    row = database.execute("SELECT address FROM shown WHERE token = ?", (digest,)).fetchone()
    return None if row is None else str(row[0])


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
