"""Engine (b), the Python evaluator: what the checkpoint says to the shape of a request.

The shape is written here from the parsed message, so what cannot be read never comes this far: those cases are the
filter's (engines c and d).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from conformance.engines.common import Result, policy_of, result_of
from fakes.reference import reference
from spangate.adapters.analysers import AnalyserPool
from spangate.checkpoint.service import judge
from spangate.model.policy import Policy

# Said by the filter itself, before the checkpoint is asked.
FILTERS = frozenset(
    {"no-certificate", "unsupported-rpc", "compressed-message", "foreign-session", "foreign-transaction"}
)


def netstring(data: bytes) -> bytes:
    return b"%d:%s," % (len(data), data)


class NotReadable(Exception):
    """The request is refused before it has a shape."""


def shape_of(world: Mapping[str, Any], path: str, body: bytes) -> bytes:
    """What the filter makes of a request, made from google.protobuf's reading of it."""
    rpc = reference.RPCS.get(path)
    if rpc is None:
        raise NotReadable
    try:
        data = reference.strict(reference.one_message(body, rpc.bytes_max), rpc.message.DESCRIPTOR)
        request = rpc.message.FromString(data)
        where, _ = reference.place(rpc, request)
        reference.refuse_own_label(request)
    except (reference.Refusal, reference.DecodeError) as error:
        raise NotReadable from error
    ids = [one for one in reference.handles_in(request) if one.field in ("id", "transaction_id")]
    handles = [world["handles"].get(getattr(one.message, one.field), {}) for one in ids]
    partitioned = any(one.get("kind") == "p" for one in handles) or any(
        one.HasField("partitioned_dml") for one in reference.transaction_options(request)
    )
    flags = ("h" if reference.hides(request) else "") + ("p" if partitioned else "")
    method = path.rpartition("/")[2]
    head = [method.encode(), where.encode(), flags.encode()]
    return b"".join(map(netstring, [*head, *_rest(request, data, rpc.message.DESCRIPTOR)]))


def _rest(request: Any, data: bytes, descriptor: Any) -> list[bytes]:
    names = descriptor.fields_by_name
    if "sql" in names:
        return _statement(request, data, descriptor)
    if "statements" in names and names["statements"].message_type is None:
        return [text.encode() for text in request.statements]
    if "statements" in names:
        batch = [payload for field, payload in reference.fields_of(data, descriptor) if field.name == "statements"]
        type_ = names["statements"].message_type
        return [
            part for one, raw in zip(request.statements, batch, strict=True) for part in _statement(one, raw, type_)
        ]
    if "columns" in names:
        return [request.table.encode(), request.index.encode(), *(name.encode() for name in request.columns)]
    mutations = list(getattr(request, "mutations", ()))
    mutations += [one for group in getattr(request, "mutation_groups", ()) for one in group.mutations]
    if "mutation_key" in names and request.HasField("mutation_key"):
        mutations.append(request.mutation_key)
    return [_mutation(one) for one in mutations]


def _statement(statement: Any, data: bytes, descriptor: Any) -> list[bytes]:
    types = [payload for field, payload in reference.fields_of(data, descriptor) if field.name == "param_types"]
    return [statement.sql.encode(), b"".join(map(netstring, types))]


def _mutation(mutation: Any) -> bytes:
    kind = mutation.WhichOneof("operation")
    if kind is None:
        raise NotReadable
    body = getattr(mutation, kind)
    name = body.queue if kind in ("send", "ack") else body.table
    parts = [kind, name, *getattr(body, "columns", ())]
    return b"".join(netstring(part.encode()) for part in parts)


class Evaluator:
    """The checkpoint's judge, with the real analyser."""

    name = "evaluator"

    def __init__(self, analysers: AnalyserPool) -> None:
        self._analysers = analysers
        self._policies: dict[int, tuple[Any, Policy]] = {}

    def judge(self, world: Mapping[str, Any], now: datetime, identity: str, path: str, body: bytes) -> Result:
        """Raises NotReadable."""
        shape = shape_of(world, path, body)
        plain = world["policy"]
        if id(plain) not in self._policies:
            self._policies = {id(plain): (plain, policy_of(plain))}
        return result_of(judge(self._policies[id(plain)][1], self._analysers, identity, shape, now))
