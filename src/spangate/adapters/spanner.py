"""Making instance and database in a Spanner emulator, and asking whether one answers.

Rules: every call has a deadline and none is retried behind our back; a database that exists is never changed; what is
made is made whole or not at all (CreateDatabase is atomic); nothing outlives a call: no thread, no channel.
The address is an emulator's: the connection is plaintext and carries no credential.
Not here: finding and starting the emulator (adapters/emulator.py), the application's own traffic (through the gateway).
Source: google.spanner.admin.instance.v1.InstanceAdmin, google.spanner.admin.database.v1.DatabaseAdmin.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from google.api_core import exceptions as google_errors
from google.cloud import spanner_admin_database_v1 as database_v1
from google.cloud import spanner_admin_instance_v1 as instance_v1
from google.cloud.spanner_admin_database_v1.services.database_admin.transports.grpc import DatabaseAdminGrpcTransport
from google.cloud.spanner_admin_instance_v1.services.instance_admin.transports.grpc import InstanceAdminGrpcTransport
from google.cloud.spanner_v1 import ExecuteSqlRequest
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports.grpc import SpannerGrpcTransport

from spangate.errors import PeersFault, SpangateError, TryAgain, YourFault
from spangate.model.database import DatabasePath
from spangate.model.schema import Dialect

# An emulator answers an admin call within 10 ms; schemas of a thousand tables take seconds.
CALL_SECONDS = 10.0
SCHEMA_SECONDS = 120.0
# One attempt at a server that is about to start; short, so that its death is noticed soon.
ATTEMPT_SECONDS = 1.0
PAUSE_SECONDS = 0.05
# A statement is quoted in a message up to this length.
QUOTED_CHARACTERS_MAX = 120

CHANNEL_OPTIONS = (
    # An emulator stands on this machine or in this network: never send its traffic to a web proxy.
    ("grpc.enable_http_proxy", 0),
    # Channels of one process share connections by default, and with them the back-off of a failed attempt.
    ("grpc.use_local_subchannel_pool", 1),
)
# What the emulator 1.5.28 says to statements it can parse and does not implement: CREATE ROLE, GRANT.
_UNSUPPORTED = "Unsupported ddl statement"

_DIALECTS = {
    database_v1.DatabaseDialect.GOOGLE_STANDARD_SQL: Dialect.GOOGLESQL,
    database_v1.DatabaseDialect.POSTGRESQL: Dialect.POSTGRESQL,
}
# Both dialects understand it, and Google's own clients ask it.
_DIALECT_QUERY = "SELECT option_value FROM information_schema.database_options WHERE option_name = 'database_dialect'"


class _Operation(Protocol):
    def result(self, timeout: float) -> object: ...


@dataclass(frozen=True, slots=True)
class _Admin:
    instances: Any
    databases: Any
    spanner: Any


def check_answers(address: str, timeout_s: float, *, called: str = "the emulator") -> None:
    """Return if a Spanner answers at `address` within `timeout_s` seconds.

    PeersFault if it does not, or if what answers is not a Spanner; `called` says in the message who was asked.
    """
    try:
        with _admin(address) as admin:
            _ask(admin, timeout_s)
    except google_errors.GoogleAPICallError as error:
        raise PeersFault(
            f"{called} does not answer as Spanner at `{address}`: {_first_line(error)}",
            help="is it running there, and is the port the one for gRPC?",
        ) from error


def wait_until_ready(address: str, deadline_s: float, *, check_alive: Callable[[], None] | None = None) -> None:
    """Return as soon as a Spanner answers at `address`.

    TryAgain when `deadline_s` seconds have passed. `check_alive` is called between attempts and may raise, so that
    nobody waits for a process that has died.
    """
    end = time.monotonic() + deadline_s
    while True:
        try:
            # A new channel each time: a channel that failed to connect backs off for a second and more.
            with _admin(address) as admin:
                _ask(admin, ATTEMPT_SECONDS)
        except google_errors.GoogleAPICallError as error:
            last = error
        else:
            return
        if check_alive is not None:
            check_alive()
        if time.monotonic() >= end:
            raise TryAgain(
                f"the Spanner emulator at `{address}` did not answer within {deadline_s:g} s: {_first_line(last)}"
            ) from last
        time.sleep(PAUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class DatabaseDdl:
    """A database's schema as it says it itself: one statement each, without semicolon."""

    dialect: Dialect
    statements: tuple[str, ...]


def database_ddl(address: str, path: DatabasePath) -> DatabaseDdl:
    """The schema of `path` now. YourFault if there is no such database; PeersFault for any other failure."""
    try:
        with _admin(address) as admin:
            database = admin.databases.get_database(name=str(path), retry=None, timeout=CALL_SECONDS)
            answer = admin.databases.get_database_ddl(database=str(path), retry=None, timeout=SCHEMA_SECONDS)
            dialect = _DIALECTS.get(database.database_dialect) or _dialect_by_query(admin, path)
    except google_errors.NotFound as error:
        raise YourFault(
            f"there is no database `{path}`",
            help="`schema: live` takes the schema of a database that is there; create it, or name a schema file",
        ) from error
    except google_errors.GoogleAPICallError as error:
        raise PeersFault(
            f"Spanner at `{address}` does not tell the schema of `{path}`: {_first_line(error)}"
        ) from error
    return DatabaseDdl(dialect, tuple(answer.statements))


def _dialect_by_query(admin: _Admin, path: DatabasePath) -> Dialect:
    """For a server that leaves `Database.database_dialect` unset, as the emulator 1.5.28 does."""
    session = admin.spanner.create_session(database=str(path), retry=None, timeout=CALL_SECONDS).name
    try:
        request = ExecuteSqlRequest(session=session, sql=_DIALECT_QUERY)
        rows = admin.spanner.execute_sql(request, retry=None, timeout=CALL_SECONDS).rows
    finally:
        admin.spanner.delete_session(name=session, retry=None, timeout=CALL_SECONDS)
    return Dialect.POSTGRESQL if [list(row) for row in rows] == [["POSTGRESQL"]] else Dialect.GOOGLESQL


def create_empty_database(address: str, path: DatabasePath, dialect: Dialect) -> bool:
    """Make `path` without any table in the emulator at `address` if it is not there; whether it was made."""
    try:
        with _admin(address) as admin:
            _ensure_instance(admin, path.project, path.instance)
            try:
                _make(admin, path, (), dialect)
            except google_errors.AlreadyExists:
                return False
            return True
    except google_errors.GoogleAPICallError as error:
        raise PeersFault(f"the Spanner emulator at `{address}` failed: {_first_line(error)}") from error


def create_database(address: str, path: DatabasePath, ddl: Sequence[str], dialect: Dialect = Dialect.GOOGLESQL) -> bool:
    """Make the database `path` from the statements `ddl` in the emulator at `address`, and its instance if needed.

    True if it was made, False if it was there already with the same schema. `ddl` is in `dialect`, one statement each,
    without semicolon. YourFault if the emulator refuses a statement (the message names it), or if the database is
    there with another schema (it is left as it is). PeersFault for any other failure.
    """
    try:
        with _admin(address) as admin:
            _ensure_instance(admin, path.project, path.instance)
            try:
                _make(admin, path, ddl, dialect)
            except google_errors.AlreadyExists:
                _check_same_schema(admin, path, ddl, dialect)
                return False
            except google_errors.GoogleAPICallError as error:
                raise _refusal(admin, path, ddl, dialect, error) from error
            return True
    except google_errors.GoogleAPICallError as error:
        raise PeersFault(f"the Spanner emulator at `{address}` failed: {_first_line(error)}") from error


def ensure_table(address: str, path: DatabasePath, table: str, ddl: str) -> None:
    """Make `table` by the statement `ddl` in the database `path`, which is made too, where either is missing.

    PeersFault if Spanner fails. A table of that name is left as it is.
    """
    try:
        with _admin(address) as admin:
            _ensure_instance(admin, path.project, path.instance)
            try:
                _make(admin, path, [ddl], Dialect.GOOGLESQL)
            except google_errors.AlreadyExists:
                if any(f" {table} " in statement for statement in _statements(admin, path)):
                    return
                request = database_v1.UpdateDatabaseDdlRequest(database=str(path), statements=[ddl])
                try:
                    operation = admin.databases.update_database_ddl(request, retry=None, timeout=SCHEMA_SECONDS)
                    _finish(operation, SCHEMA_SECONDS)
                except google_errors.GoogleAPICallError:
                    # Another gateway may have made it meanwhile.
                    if not any(f" {table} " in statement for statement in _statements(admin, path)):
                        raise
    except google_errors.GoogleAPICallError as error:
        raise PeersFault(f"cannot make the table `{table}` in `{path}`: {_first_line(error)}") from error


@contextmanager
def _admin(address: str) -> Iterator[_Admin]:
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        yield _Admin(
            instance_v1.InstanceAdminClient(transport=InstanceAdminGrpcTransport(channel=channel)),
            database_v1.DatabaseAdminClient(transport=DatabaseAdminGrpcTransport(channel=channel)),
            SpannerClient(transport=SpannerGrpcTransport(channel=channel)),
        )


def _ask(admin: _Admin, timeout_s: float) -> None:
    """The cheapest question that only a Spanner can answer."""
    admin.instances.list_instance_configs(parent="projects/spangate", retry=None, timeout=timeout_s)


def _finish(operation: _Operation, timeout_s: float) -> None:
    """Wait for a long-running operation; the emulator's are done when they begin."""
    try:
        operation.result(timeout=timeout_s)
    except TimeoutError as error:
        raise google_errors.DeadlineExceeded(f"an operation took longer than {timeout_s:g} s") from error


def _ensure_instance(admin: _Admin, project: str, instance: str) -> None:
    request = instance_v1.CreateInstanceRequest(
        parent=f"projects/{project}",
        instance_id=instance,
        instance=instance_v1.Instance(
            config=f"projects/{project}/instanceConfigs/emulator-config", display_name="Spangate", node_count=1
        ),
    )
    try:
        _finish(admin.instances.create_instance(request, retry=None, timeout=CALL_SECONDS), CALL_SECONDS)
    except google_errors.AlreadyExists:
        return


def _make(admin: _Admin, path: DatabasePath, ddl: Sequence[str], dialect: Dialect) -> None:
    # "For PostgreSQL-dialect databases, extra statements are not supported" (CreateDatabaseRequest).
    postgresql = dialect is Dialect.POSTGRESQL
    request = database_v1.CreateDatabaseRequest(
        parent=f"projects/{path.project}/instances/{path.instance}",
        create_statement=f'CREATE DATABASE "{path.database}"' if postgresql else f"CREATE DATABASE `{path.database}`",
        extra_statements=[] if postgresql else list(ddl),
        database_dialect=(
            database_v1.DatabaseDialect.POSTGRESQL if postgresql else database_v1.DatabaseDialect.GOOGLE_STANDARD_SQL
        ),
    )
    _finish(admin.databases.create_database(request, retry=None, timeout=SCHEMA_SECONDS), SCHEMA_SECONDS)
    if postgresql and ddl:
        try:
            _alter(admin, path, ddl)
        except google_errors.GoogleAPICallError:
            # Made whole or not at all.
            admin.databases.drop_database(database=str(path), retry=None, timeout=CALL_SECONDS)
            raise


def _alter(admin: _Admin, path: DatabasePath, ddl: Sequence[str]) -> None:
    request = database_v1.UpdateDatabaseDdlRequest(database=str(path), statements=list(ddl))
    _finish(admin.databases.update_database_ddl(request, retry=None, timeout=SCHEMA_SECONDS), SCHEMA_SECONDS)


@contextmanager
def _scratch(admin: _Admin, path: DatabasePath) -> Iterator[DatabasePath]:
    """The same database name in an instance of its own, gone afterwards: statements may hold the database's name."""
    scratch = DatabasePath(path.project, f"spangate-scratch-{secrets.token_hex(4)}", path.database)
    _ensure_instance(admin, scratch.project, scratch.instance)
    try:
        yield scratch
    finally:
        name = f"projects/{scratch.project}/instances/{scratch.instance}"
        admin.instances.delete_instance(name=name, retry=None, timeout=CALL_SECONDS)


def _statements(admin: _Admin, path: DatabasePath) -> set[str]:
    """The schema as the emulator writes it, in its own spelling."""
    answer = admin.databases.get_database_ddl(database=str(path), retry=None, timeout=SCHEMA_SECONDS)
    return set(answer.statements)


def _check_same_schema(admin: _Admin, path: DatabasePath, ddl: Sequence[str], dialect: Dialect) -> None:
    """Return if the existing database has the schema that `ddl` makes; else YourFault.

    Compared is what the emulator makes of both, so that spelling, line ends and order do not count.
    """
    existing = _statements(admin, path)
    with _scratch(admin, path) as scratch:
        try:
            _make(admin, scratch, ddl, dialect)
        except google_errors.GoogleAPICallError as error:
            raise _refusal(admin, path, ddl, dialect, error) from error
        wanted = _statements(admin, scratch)
    if existing != wanted:
        lacking = [f"lacks `{_quoted(text)}`" for text in sorted(wanted - existing)]
        besides = [f"has `{_quoted(text)}`" for text in sorted(existing - wanted)]
        raise YourFault(
            f"database `{path}` exists with another schema: it {'; it '.join(lacking + besides)}",
            help="nothing was changed; bring schema and database together, or name another database",
        )


def _refusal(
    admin: _Admin,
    path: DatabasePath,
    ddl: Sequence[str],
    dialect: Dialect,
    error: google_errors.GoogleAPICallError,
) -> SpangateError:
    """The error to raise for a schema that was refused, naming the statement at fault.

    The emulator seldom says which statement it means, so they are tried one after the other elsewhere.
    """
    with _scratch(admin, path) as scratch:
        _make(admin, scratch, (), dialect)
        for number, statement in enumerate(ddl, start=1):
            try:
                _alter(admin, scratch, [statement])
            except google_errors.GoogleAPICallError as refused:
                return _statement_error(number, statement, refused)
    return PeersFault(f"the Spanner emulator did not make `{path}`: {_first_line(error)}")


def _statement_error(number: int, statement: str, error: google_errors.GoogleAPICallError) -> YourFault:
    where = f"statement {number} of the schema, `{_quoted(statement)}`,"
    if _UNSUPPORTED in str(error):
        return YourFault(
            f"{where} is of a kind that this emulator does not know",
            help="emulator 1.5.28 has no CREATE ROLE and no GRANT; Spangate makes roles and grants from the intent",
        )
    # A syntax error repeats the whole statement before it comes to the point.
    _, _, after_echo = str(error.message).partition(statement)
    return YourFault(f"{where} is refused by the emulator: {_quoted(after_echo.lstrip(' :')) or _first_line(error)}")


def _first_line(error: google_errors.GoogleAPICallError) -> str:
    lines = str(error.message or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _quoted(text: str) -> str:
    """The text in one line, cut to a length that a message can hold."""
    line = " ".join(text.split())
    return line if len(line) <= QUOTED_CHARACTERS_MAX else line[: QUOTED_CHARACTERS_MAX - 3] + "..."
