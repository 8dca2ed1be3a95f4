"""What the engines have in common: their answer's form, and the corpus' policy as Spangate's own values."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from conformance import world
from conformance.seals import KEYS
from fakes.reference import reference
from spangate.adapters.checkpoint_door import checkpoint_app
from spangate.checkpoint.service import Checkpoint
from spangate.model.access import Access, Operation
from spangate.model.database import DatabasePath
from spangate.model.decision import Decision
from spangate.model.identity import SpiffeId
from spangate.model.policy import Grant, Policy, PolicyDatabase, TrustDomain
from spangate.model.schema import Schema
from spangate.sql.ddl import parse_ddl

Plain = world.Plain


@dataclass(frozen=True)
class Result:
    """An engine's answer. What is decided without looking at tables has no accesses and no grants."""

    reason: str
    accesses: frozenset[Any] = frozenset()
    missing: frozenset[Any] = frozenset()
    grants: tuple[Plain, ...] = ()
    # The gRPC body that goes to Spanner, if one does.
    sent: bytes | None = None
    # google.rpc.Code of the filter's own answer, if it is what answers.
    status: int | None = None

    @property
    def allowed(self) -> bool:
        return self.reason == "granted"


@cache
def schema_of(alias: str) -> Schema:
    text = (world.CORPUS / ("shop.sql" if alias == "shop" else "logs.sql")).read_text(encoding="utf-8")
    if alias == "shop":
        text += (world.CORPUS / "objects.sql").read_text(encoding="utf-8")
    return parse_ddl(text)


def policy_of(plain: Mapping[str, Any], schema: Callable[[str], Schema] = schema_of) -> Policy:
    """The same policy as Spangate's own value."""
    databases = {
        alias: PolicyDatabase(
            alias,
            DatabasePath.parse(one["path"]),
            schema(alias),
            "schema.sql",
            keep_tags=one["keep_tags"],
            secure_context=one["secure_context"],
        )
        for alias, one in plain["databases"].items()
    }
    grants = tuple(
        Grant(
            one["identity"],
            one["database"],
            Operation(one["operation"]),
            one["table"],
            frozenset(one["columns"]),
            every=one["every"],
            deny=one["deny"],
            until=one["until"],
        )
        for one in plain["grants"]
    )
    identities = {name: SpiffeId.parse(text) for name, text in plain["identities"].items()}
    aliases = TrustDomain("shop.example", (), tuple(plain.get("aliases", ())))
    return Policy("shop.example", databases, identities, grants, "", plain["version"], trust_domains=(aliases,))


def accesses_of(accesses: Iterable[Access]) -> frozenset[Any]:
    return frozenset(
        reference.Access(one.operation.value, one.table, frozenset(one.columns), one.every) for one in accesses
    )


def grants_of(grants: Iterable[Grant]) -> tuple[Plain, ...]:
    return tuple(
        {
            "identity": one.identity,
            "database": one.database,
            "operation": one.operation.value,
            "table": one.table,
            "columns": sorted(one.columns),
            "every": one.every,
            "deny": one.deny,
            "until": one.until,
        }
        for one in grants
    )


def result_of(decision: Decision, sent: bytes | None = None, status: int | None = None) -> Result:
    return Result(
        decision.reason.value,
        accesses_of(decision.accesses),
        accesses_of(decision.missing),
        grants_of(decision.grants),
        sent,
        status,
    )


class Records:
    """What the checkpoint writes down, by decision id."""

    def __init__(self) -> None:
        self.by_id: dict[str, Decision] = {}

    def __call__(self, decision: Decision) -> None:
        self.by_id[decision.id] = decision


class Door:
    """The checkpoint's own door without a socket: one HTTP exchange after the other, in this thread."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._app: Any = checkpoint_app(checkpoint, KEYS.decode)
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def exchange(
        self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        return self._loop.run_until_complete(self._exchange(method, path, headers, body))

    async def _exchange(
        self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        status, found, content = 0, {}, b""

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(event: Any) -> None:
            nonlocal status, found, content
            if event["type"] == "http.response.start":
                status, found = event["status"], dict(event["headers"])
            else:
                content += event.get("body", b"")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": list(headers.items()),
            "client": None,
            "server": None,
        }
        await self._app(scope, receive, send)
        return status, found, content
