"""An intent file and the schema files it names: read and checked, and watched for changes.

Rules: a change takes effect whole or not at all: a broken intent leaves the policy in force as it is, and its errors
are told once for each content of the files. Editors empty a file before they fill it: a change counts once two looks
in a row see the same.
Not here: the form of an intent (intent/), of a schema (sql/ddl.py).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from spangate.adapters.live_schema import LiveSchemas
from spangate.errors import SpangateError, YourFault
from spangate.intent import Intent, IntentErrors, IntentProblem, check_intent, parse_intent
from spangate.intent.tree import DatabaseEntry
from spangate.model.database import DatabasePath
from spangate.model.policy import Policy, Position
from spangate.model.schema import Schema
from spangate.settings import INTERVALS
from spangate.sql.ddl import DdlError
from spangate.sql.dialects import parse_schema

FILE_BYTES_MAX = 4 * 1024 * 1024


def load_policy(path: Path, live: Callable[[DatabasePath], Schema] | None = None) -> Policy:
    """The checked policy of the intent file at `path`. Raises IntentErrors or YourFault.

    `live` gives the schema of a database whose entry says `schema: live`, and raises what it raises.
    """
    intent = read_intent(path)
    problems: list[IntentProblem] = []
    schemas: dict[str, Schema] = {}
    for database in intent.databases:
        try:
            schemas[database.alias.text] = _schema_of(path, database, live)
        except IntentErrors as errors:
            problems += errors.problems
    if problems:
        raise IntentErrors(problems)
    return check_intent(intent, schemas)


def read_intent(path: Path) -> Intent:
    """The intent as written, names unchecked. Raises IntentErrors or YourFault."""
    return parse_intent(_text(path), path.name)


def files_of(path: Path) -> list[Path]:
    """The intent file and the schema files it names now; only the intent file while it cannot be read."""
    try:
        intent = read_intent(path)
    except SpangateError:
        return [path]
    return [path, *(path.parent / database.schema.text for database in intent.databases if not database.live)]


class IntentWatcher:
    """Looks at the files each `INTERVALS.watch_ms`. `changed` and `broken` are called from its thread."""

    def __init__(
        self,
        path: Path,
        *,
        changed: Callable[[Policy], None],
        broken: Callable[[str], None],
        live: LiveSchemas | None = None,
    ) -> None:
        self._path = path
        self._live = live
        self._changed = changed
        self._broken = broken
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spangate-intent", daemon=True)
        self._files = files_of(path)
        self._before = self._seen = self._digest()

    def start(self) -> None:
        """What was there when this was made counts as known."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        self._thread.join()

    def look(self) -> None:
        """One look: tells of a change that the look before saw too."""
        digest = self._digest()
        settled, self._before = digest == self._before, digest
        if digest == self._seen or not settled:
            return
        # Known before it is read: were the files to change in between, the next look sees a difference.
        self._files = files_of(self._path)
        self._before = self._seen = self._digest()
        try:
            policy = load_policy(self._path, self._live.schema if self._live else None)
        except SpangateError as error:
            self._broken(f"{error.message}\nthe policy before stays in force")
        else:
            self._changed(policy)

    def _run(self) -> None:
        while not self._stopping.wait(INTERVALS.watch_ms / 1000):
            self.look()

    def _digest(self) -> bytes:
        return self._digest_of(self._files) + (self._live.digest() if self._live else b"")

    @staticmethod
    def _digest_of(files: list[Path]) -> bytes:
        found = b""
        for file in files:
            try:
                found += hashlib.sha256(b"+" + file.read_bytes()).digest()
            except OSError:
                found += hashlib.sha256(b"-").digest()
        return found


def _schema_of(path: Path, database: DatabaseEntry, live: Callable[[DatabasePath], Schema] | None) -> Schema:
    if not database.live:
        return _schema(path, database)
    if live is None:
        raise YourFault(f"the schema of `{database.alias}` is `live`, and there is no Spanner here that could tell it")
    try:
        return live(DatabasePath(database.project.text, database.instance.text, database.database.text))
    except YourFault as error:
        raise IntentErrors([IntentProblem(database.schema.position, error.message, error.help)]) from error


def _schema(path: Path, database: DatabaseEntry) -> Schema:
    name = database.schema.text
    file = path.parent / name
    try:
        text = _text(file)
    except YourFault as error:
        raise IntentErrors([IntentProblem(database.schema.position, error.message)]) from error
    try:
        return parse_schema(text, database.dialect)
    except DdlError as error:
        place = Position(name, error.line, error.column)
        raise IntentErrors([IntentProblem(place, error.message)]) from error


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise YourFault(
            f"there is no file `{path}`", help="`spangate init` writes an example; `--intent` names another file"
        ) from error
    except OSError as error:
        raise YourFault(f"cannot read `{path}`: {error.strerror}") from error
    if len(content) > FILE_BYTES_MAX:
        raise YourFault(f"`{path}` is longer than {FILE_BYTES_MAX} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise YourFault(f"`{path}` is not UTF-8 (byte {error.start})") from error
