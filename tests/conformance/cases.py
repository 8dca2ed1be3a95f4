"""The corpus: cases as data, and their requests as bytes.

A case is written in corpus/*.yaml (world.yaml and statements.yaml say what they are themselves):

    case      what it shows, in words; unique
    who       an identity of the world, `nobody` (good certificate, unknown to the policy) or `no-certificate`;
              `clerk@old.example` comes under another trust domain than the world's
    rpc       a method of google.spanner.v1.Spanner, or a whole path
    in        the alias of the database (left out: shop)
    request   the message's fields by name; `session`, `name` and `database` are filled in. A session without `/` is
              one of the database; bytes that begin with `h:` are a handle that Spanner gave out (world.handle)
    edit      what is done to the message's bytes (wire.EDITS), or to the frame (wire.FRAMES), or `append <hex>`
    expect    the reason; `spanner-refuses` where Spanner cannot read it either, so that any answer is right
    accesses, missing   in the notation of the statements; needed where the reason is granted, denied, missing-grant
    shows     names of properties of spec/decision.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import ParseDict

from conformance import wire, world
from fakes.reference import reference

SPANNER = "/google.spanner.v1.Spanner/"
DATABASE_ADMIN = "/google.spanner.admin.database.v1.DatabaseAdmin/"
FILES = ("refusals.yaml", "sessions.yaml", "reads.yaml", "mutations.yaml", "transactions.yaml", "admin.yaml")
# Reasons that are said before anything about tables is.
WITHOUT_ACCESSES = frozenset(
    {
        "no-certificate",
        "unsupported-rpc",
        "unsupported-feature",
        "malformed-request",
        "compressed-message",
        "request-too-large",
        "unknown-identity",
        "unknown-database",
        "unknown-table",
        "unreadable-statement",
        "foreign-session",
        "foreign-transaction",
        reference.SPANNER_REFUSES,
    }
)


class Sealing(Protocol):
    """What Spanner gave out -> what the gateway made of it for its client."""

    def handle(self, raw: bytes) -> bytes: ...

    def session(self, raw: str) -> str: ...


class Unsealed:
    """As Spanner gave it out."""

    def handle(self, raw: bytes) -> bytes:
        return raw

    def session(self, raw: str) -> str:
        return raw


UNSEALED = Unsealed()


@dataclass(frozen=True, eq=False)
class Case:
    """One request with the answer that it must get."""

    name: str
    who: str
    trust_domain: str
    path: str
    alias: str
    request: Mapping[str, Any]
    edit: str
    expect: str
    accesses: frozenset[Any] | None
    missing: frozenset[Any] | None
    shows: tuple[str, ...]

    @property
    def identity(self) -> str | None:
        return None if self.who == "no-certificate" else world.spiffe_id(self.who, self.trust_domain)

    def message(self, seal: Sealing = UNSEALED) -> bytes:
        """The request as protobuf writes it, unedited."""
        rpc = reference.RPCS.get(self.path)
        if rpc is None:
            return wire.field(1, str(self.request.get("name", "x")).encode())
        message = rpc.message()
        _fill(message, self._filled(rpc.at, seal), seal)
        data: bytes = message.SerializeToString(deterministic=True)
        return data

    def body(self, seal: Sealing = UNSEALED) -> bytes:
        """The gRPC body, edited."""
        data = self.message(seal)
        if self.edit in wire.FRAMES:
            return wire.FRAMES[self.edit][0](wire.framed(data))
        if self.edit in wire.EDITS:
            return wire.framed(wire.EDITS[self.edit][0](data))
        if self.edit:
            verb, rest = self.edit.split(" ", 1)
            assert verb == "append", self.edit
            return wire.framed(data + bytes.fromhex(rest))
        return wire.framed(data)

    def _filled(self, at: str, seal: Sealing) -> dict[str, Any]:
        fields = dict(self.request)
        database = world.POLICY["databases"].get(self.alias, {"path": self.alias})["path"]
        if at == "database":
            fields.setdefault("database", database)
        else:
            fields.setdefault(at, f"s-{self.who}")
            if fields[at].startswith("="):
                fields[at] = fields[at][1:]
            else:
                if "/" not in fields[at]:
                    fields[at] = f"{database}/sessions/{fields[at]}"
                if "/sessions/s-" in fields[at] and not fields[at].endswith("-unlabelled"):
                    fields[at] = seal.session(fields[at])
        return fields


def _fill(message: Any, fields: Mapping[str, Any], seal: Sealing) -> None:
    for key, value in fields.items():
        name = key
        if name not in message.DESCRIPTOR.fields_by_name:
            name += "_"  # proto-plus' spelling of names that Python has taken
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        type_ = descriptor.message_type
        if type_ is not None and not descriptor.is_repeated and type_.full_name.startswith("google.protobuf."):
            part = getattr(message, name)
            part.SetInParent()
            ParseDict(value, part)
        elif type_ is not None and type_.GetOptions().map_entry:
            entries = getattr(message, name)
            for entry, one in value.items():
                if type_.fields_by_name["value"].message_type is None:
                    entries[entry] = one
                elif entries[entry].DESCRIPTOR.full_name.startswith("google.protobuf."):
                    ParseDict(one, entries[entry])
                else:
                    _fill(entries[entry], one, seal)
        elif type_ is not None and descriptor.is_repeated:
            for one in value:
                added = getattr(message, name).add()
                if type_.full_name.startswith("google.protobuf."):
                    ParseDict(one, added)
                else:
                    _fill(added, one, seal)
        elif type_ is not None:
            getattr(message, name).SetInParent()
            _fill(getattr(message, name), value, seal)
        elif descriptor.is_repeated:
            getattr(message, name).extend(value)
        elif descriptor.type == FieldDescriptor.TYPE_BYTES:
            data = value.encode()
            setattr(message, name, seal.handle(data) if data.startswith(b"h:") else data)
        else:
            setattr(message, name, value)


def _case(entry: Mapping[str, Any]) -> Case:
    known = {"case", "who", "rpc", "in", "request", "edit", "expect", "accesses", "missing", "shows"}
    assert set(entry) <= known, entry
    alias = entry.get("in", "shop")
    schema = world.POLICY["databases"].get(alias, {"schema": {"tables": {}}})["schema"]

    def accesses(key: str) -> frozenset[Any] | None:
        return frozenset(world.access_of(text, schema) for text in entry[key]) if key in entry else None

    assert ("accesses" in entry) or entry["expect"] in {*WITHOUT_ACCESSES, "missing-grant"}, entry
    who, _, trust_domain = entry["who"].partition("@")
    path = entry["rpc"] if entry["rpc"].startswith("/") else SPANNER + entry["rpc"]
    return Case(
        name=entry["case"],
        who=who,
        trust_domain=trust_domain or "shop.example",
        path=path,
        alias=alias,
        request=entry.get("request", {}),
        edit=entry.get("edit", ""),
        expect=entry["expect"],
        accesses=accesses("accesses"),
        missing=accesses("missing"),
        shows=tuple(entry.get("shows", ())),
    )


def _of_statements() -> Iterator[Case]:
    """Every statement, by everyone whom the corpus has an answer for."""
    for entry in world.read_yaml("statements.yaml"):
        for who, expect in entry["for"].items():
            does = entry["does"]
            judged = expect in {"granted", "denied"} or (expect == "missing-grant" and does not in ([], "unreadable"))
            standing = who not in {"expired", "idle", "denier", "onlooker"}
            yield _case(
                {
                    "case": f"{entry['sql'][:90] or 'an empty statement'} | {who}",
                    "who": who,
                    "rpc": "ExecuteStreamingSql",
                    "in": entry.get("in", "shop"),
                    "request": {"sql": entry["sql"]},
                    "expect": expect,
                    **({"accesses": does} if judged and standing else {}),
                    "shows": entry["shows"],
                }
            )


# One plain request of each RPC, which root may make: what the malformed ones are made from.
PLAIN: dict[str, dict[str, Any]] = {
    "CreateSession": {"session": {"creator_role": "admin"}},
    "BatchCreateSessions": {"session_template": {}, "session_count": 3},
    "GetSession": {},
    "ListSessions": {},
    "DeleteSession": {},
    "ExecuteSql": {"sql": "SELECT Name FROM Customers"},
    "ExecuteStreamingSql": {"sql": "SELECT Name FROM Customers"},
    "ExecuteBatchDml": {"statements": [{"sql": "DELETE FROM Orders WHERE TRUE"}]},
    "Read": {"table": "Orders", "columns": ["Status"]},
    "StreamingRead": {"table": "Orders", "columns": ["Status"]},
    "BeginTransaction": {"options": {"read_write": {}}},
    "Commit": {"single_use_transaction": {"read_write": {}}, "mutations": [{"delete": {"table": "Orders"}}]},
    "Rollback": {"transaction_id": "h:root:shop:w"},
    "PartitionQuery": {"sql": "SELECT Name FROM Customers"},
    "PartitionRead": {"table": "Orders", "columns": ["Status"]},
    "BatchWrite": {"mutation_groups": [{"mutations": [{"delete": {"table": "Orders"}}]}]},
}
PLAIN_ACCESSES = {
    "ExecuteSql": ["read Customers(Name)"],
    "ExecuteStreamingSql": ["read Customers(Name)"],
    "ExecuteBatchDml": ["delete Orders"],
    "Read": ["read Orders(OrderId, Status)"],
    "StreamingRead": ["read Orders(OrderId, Status)"],
    "Commit": ["delete Orders"],
    "PartitionQuery": ["read Customers(Name)"],
    "PartitionRead": ["read Orders(OrderId, Status)"],
    "BatchWrite": ["delete Orders"],
}
# Edits that are no edits to a message whose last field may stand there often.
_LAST_IS_A_LIST = {"ExecuteBatchDml", "Commit", "BatchWrite", "Read", "StreamingRead", "PartitionRead"}


def _matrix() -> Iterator[Case]:
    """Every RPC by root, by people without standing, and with its bytes broken in every way."""
    for rpc, request in PLAIN.items():
        common = {"rpc": rpc, "request": request}
        answered = {"accesses": PLAIN_ACCESSES.get(rpc, [])}
        yield _case(
            {**common, **answered, "case": f"{rpc} | root", "who": "root", "expect": "granted", "shows": ["every-rpc"]}
        )
        for who, expect, shows in (
            ("nobody", "unknown-identity", "default-deny"),
            ("no-certificate", "no-certificate", "certificate-first"),
            ("idle", "missing-grant", "default-deny"),
            ("expired", "missing-grant", "until-exclusive"),
            ("denier", "missing-grant", "exceptions-give-nothing"),
            ("onlooker", "missing-grant", "database-apart"),
        ):
            own = {"transaction_id": f"h:{who}:shop:w"} if rpc == "Rollback" else {}
            yield _case(
                {
                    **common,
                    "request": {**request, **own},
                    "case": f"{rpc} | {who}",
                    "who": who,
                    "expect": expect,
                    "shows": [shows],
                }
            )
        for edit, (_, same) in wire.EDITS.items():
            yield _case(
                {
                    **common,
                    **(answered if same else {}),
                    "case": f"{rpc}, {edit}",
                    "who": "root",
                    "edit": edit,
                    "expect": "granted" if same else "malformed-request",
                    "shows": ["bytes-read-one-way"],
                }
            )
        for edit, (_, reason) in wire.FRAMES.items():
            yield _case(
                {
                    **common,
                    "case": f"{rpc}, {edit}",
                    "who": "root",
                    "edit": edit,
                    "expect": reason,
                    "shows": ["one-message" if reason == "malformed-request" else "uncompressed"],
                }
            )


def load() -> list[Case]:
    """All cases; their names are unique."""
    found = [_case(entry) for name in FILES for entry in world.read_yaml(name)]
    found += _of_statements()
    found += _matrix()
    names = [case.name for case in found]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return found


CASES = load()
