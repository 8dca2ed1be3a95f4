"""Intent text -> syntax tree.

Rules: any text gives either a tree or an IntentErrors that holds every problem of form found in one run. Unknown keys,
words of later versions, empty lists and values of the wrong kind are problems, never ignored.
Not here: YAML itself (nodes.py), lists of tables (grants.py), whether names exist (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from spangate.errors import Broken
from spangate.intent.errors import Problems, listed, shown
from spangate.intent.google import read_google, read_impersonate
from spangate.intent.grants import read_grants
from spangate.intent.moments import read_moment
from spangate.intent.nodes import Mapping, Node, Scalar, Sequence, read_nodes
from spangate.intent.reader import Reader
from spangate.intent.tree import AccessEntry, DatabaseEntry, GrantEntry, IdentityEntry, Intent, RoleUse, Word
from spangate.intent.trust_domains import read_trust_domain, read_trust_domains, relative_file
from spangate.intent.unix import read_unix
from spangate.intent.words import (
    ALIAS,
    DATABASE_KEYS,
    DATABASE_KEYS_REQUIRED,
    DEFAULT_PROJECT,
    DENY_KEY,
    DIALECTS,
    EXAMPLES,
    EXAMPLES_OF_PARTS,
    FORMAT_VERSION,
    IDENTITY_KEYS,
    IDENTITY_KINDS,
    IDENTITY_NAME,
    IDENTITY_NAME_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    OPERATION_KEYS,
    OPERATIONS_OF,
    ROLE_KEY,
    ROLE_USE_KEYS,
    ROLES_KEY,
    ROOT_KEYS,
    ROOT_KEYS_REQUIRED,
    SWITCH_KEYS,
    TAGS_KEEP,
    UNIX_KEY,
    UNTIL_KEY,
)
from spangate.model.database import BadResourceName, DatabasePath
from spangate.model.identity import BadSpiffeId, check_segment
from spangate.model.nearest import nearest
from spangate.model.policy import Position
from spangate.model.schema import Dialect

_IDENTITY_NAME = re.compile(IDENTITY_NAME, re.ASCII)
_ALIAS = re.compile(ALIAS, re.ASCII)

# An exception has no exceptions.
_DENIED_KEYS = {key: text for key, text in OPERATION_KEYS.items() if key != DENY_KEY}
_UNTIL_KEYS = {UNTIL_KEY: ROLE_USE_KEYS[UNTIL_KEY]}
_ROLES_TAKEN = "under `access` this word gives an identity its roles; choose another alias"


def parse_intent(text: str, file: str) -> Intent:
    """The syntax tree of `text`; `file` is the name that positions carry. Raises IntentErrors."""
    problems = Problems()
    root = read_nodes(text, file, problems)
    intent = _Parser(problems).intent(root) if root is not None else None
    problems.raise_if_any()
    if intent is None:
        raise Broken("the intent file gave neither a tree nor a problem")
    return intent


class _Parser(Reader):
    """Nodes -> tree."""

    def intent(self, root: Node) -> Intent | None:
        parts = self.record(root, "the file", ROOT_KEYS, ROOT_KEYS_REQUIRED)
        if parts is None:
            return None
        self._version(parts.get("spangate"))
        trust_domain = read_trust_domain(self, parts.get("trust_domain"))
        trust_domains = read_trust_domains(self, parts.get("trust_domains"))
        databases = tuple(
            found
            for key, value in self.named(parts.get("databases"), "databases", self._alias)
            if (found := self._database(key, value)) is not None
        )
        identities = tuple(
            entry
            for key, value in self.named(parts.get("identities"), "identities", self._identity_name)
            if (entry := self._identity(key, value)) is not None
        )
        roles: list[Word] = []
        role_access: list[AccessEntry] = []
        for role, value in self.named(parts.get("roles"), "roles", self._role_name):
            roles.append(role)
            role_access += self._access(role, value)
        uses: list[RoleUse] = []
        access: list[AccessEntry] = []
        for identity, value in self.named(parts.get("access"), "access", self._identity_name):
            access += self._access(identity, value, uses)
        google = read_google(self, parts["google"]) if "google" in parts else None
        if trust_domain is None:
            return None
        return Intent(
            root.position,
            trust_domain,
            databases,
            identities,
            tuple(roles),
            tuple(role_access),
            tuple(uses),
            tuple(access),
            trust_domains=trust_domains,
            google=google,
        )

    def _version(self, node: Node | None) -> None:
        # A number, too, is rather a wrong version than a text without quotes.
        if isinstance(node, Scalar) and node.kind != "nothing":
            if node.text != FORMAT_VERSION:
                message = f"{shown(node.text)} is not a version of the format that this spangate reads"
                self.problems.add(node.position, message, f"write `{EXAMPLES['spangate']}`")
        else:
            self.text(node, "spangate")

    def _database(self, alias: Word, node: Node) -> DatabaseEntry | None:
        parts = self.record(node, shown(alias.text), DATABASE_KEYS, DATABASE_KEYS_REQUIRED)
        if alias.text == ROLES_KEY:
            self.problems.add(alias.position, f"a database cannot be called {shown(alias.text)}", _ROLES_TAKEN)
            return None
        if parts is None:
            return None
        dialect = self._dialect(parts.get("dialect"))
        keep_tags = self._keep_tags(parts.get("tags"))
        secure_context = "secure_context" in parts and self.is_true(parts["secure_context"], "secure_context")
        instance = self._resource_part(parts.get("instance"), "instance")
        database = self._resource_part(parts.get("database"), "database")
        schema = self._schema_file(parts.get("schema"))
        if "project" in parts:
            project = self._resource_part(parts["project"], "project")
        else:
            project = Word(DEFAULT_PROJECT, alias.position)
        if project is None or instance is None or database is None or schema is None:
            return None
        dialect_position = parts["dialect"].position if "dialect" in parts else alias.position
        return DatabaseEntry(
            alias, project, instance, database, schema, dialect, dialect_position, keep_tags, secure_context
        )

    def _dialect(self, node: Node | None) -> Dialect:
        """The default where there is none or a wrong one, which is a problem then."""
        word = self.text(node, "dialect")
        if word is not None and word.text in DIALECTS:
            return Dialect(word.text)
        if word is not None:
            near = DIALECTS[1] if word.text.lower() in {"postgres", "pg"} else nearest(word.text, DIALECTS)
            help_line = f"did you mean {shown(near)}?" if near else f"write one of {listed(DIALECTS)}"
            self.problems.add(word.position, f"unknown dialect {shown(word.text)}", help_line)
        return Dialect.GOOGLESQL

    def _keep_tags(self, node: Node | None) -> bool:
        word = self.text(node, "tags")
        if word is not None and word.text != TAGS_KEEP:
            help_line = f"write `{EXAMPLES['tags']}`, or take it out: tags are then replaced"
            self.problems.add(word.position, f"{shown(word.text)} is not what can be done with tags", help_line)
        return word is not None

    def _resource_part(self, node: Node | None, key: str) -> Word | None:
        word = self.text(node, key)
        if word is None:
            return None
        try:
            DatabasePath.parse(f"projects/p/instances/i/databases/{word.text}")
        except BadResourceName:
            self.problems.add(
                word.position,
                f"{shown(word.text)} cannot be the name of {'an' if key[0] == 'i' else 'a'} {key}",
                "letters, digits, `.`, `_`, `:` and `-` only; the name alone, not its path",
            )
            return None
        return word

    def _schema_file(self, node: Node | None) -> Word | None:
        word = self.text(node, "schema")
        if word is None:
            return None
        return word if relative_file(self.problems, word, "schema.sql") else None

    def _identity(self, name: Word, node: Node) -> IdentityEntry | None:
        parts = self.record(node, shown(name.text), IDENTITY_KEYS, ())
        if parts is None:
            return None
        trust_domain = read_trust_domain(self, parts.get("trust_domain"))
        if "trust_domain" in parts and trust_domain is None:
            return None
        impersonate = read_impersonate(self, parts["impersonate"]) if "impersonate" in parts else None
        kinds = [key for key in IDENTITY_KINDS if key in parts]
        if len(kinds) > 1:
            self.problems.add(
                name.position,
                f"{shown(name.text)} has more than one of {listed(IDENTITY_KINDS)}",
                "keep one; for two SPIFFE IDs write two identities",
            )
        unix = read_unix(parts[UNIX_KEY], self) if UNIX_KEY in parts else None
        if not kinds and UNIX_KEY in parts:
            self.problems.add(
                name.position,
                f"{shown(name.text)} has neither of {listed(IDENTITY_KINDS)}",
                f"{shown(UNIX_KEY)} says which processes it is, and needs a name to give them; "
                f"for instance `{EXAMPLES['workload']}`",
            )
        elif not kinds and "trust_domain" in parts:
            message = f"{shown(name.text)} has neither of {listed(IDENTITY_KINDS)}"
            self.problems.add(name.position, message, f"for instance `{EXAMPLES['workload']}`")
        elif not kinds and "impersonate" in parts:
            self.problems.add(
                name.position,
                f"{shown(name.text)} has neither of {listed(IDENTITY_KINDS)}",
                f"say who it is; for instance `{EXAMPLES['workload']}`",
            )
        if len(kinds) != 1:
            return None  # if none, an unknown key has been noted in its place
        kind = Word(kinds[0], parts[kinds[0]].position)
        word = self.text(parts[kinds[0]], kinds[0])
        entry = self._service_account(name, kind, word, trust_domain) if word is not None else None
        return replace(entry, unix=unix, impersonate=impersonate) if entry is not None else None

    def _service_account(self, name: Word, kind: Word, word: Word, trust_domain: Word | None) -> IdentityEntry | None:
        namespace, _, account = word.text.partition("/")
        try:
            check_segment(namespace)
            check_segment(account)
        except BadSpiffeId:
            self.problems.add(
                word.position,
                f"{shown(word.text)} is not of the form `namespace/service-account`",
                f"for instance `{EXAMPLES[kind.text]}`; letters, digits, `.`, `_` and `-` on both sides of one `/`",
            )
            return None
        file, line, column = word.position.file, word.position.line, word.position.column
        at_account = Position(file, line, column + len(namespace) + 1)
        return IdentityEntry(name, kind, Word(namespace, word.position), Word(account, at_account), trust_domain)

    def _access(self, holder: Word, node: Node, uses: list[RoleUse] | None = None) -> Iterator[AccessEntry]:
        """What an identity holds, or, without `uses`, a role. The roles that it holds go to `uses`."""
        for database, value in self.named(node, holder.text, self._alias):
            if database.text == ROLES_KEY:
                if uses is None:
                    self.problems.add(database.position, "a role holds no other roles", "write its grants out")
                else:
                    uses += self._role_uses(holder, value)
                continue
            parts = self.record(value, shown(database.text), OPERATION_KEYS, ())
            if parts is not None:
                yield AccessEntry(holder, database, tuple(self._grants(parts, deny=False)))

    def _grants(self, parts: dict[str, Node], *, deny: bool) -> Iterator[GrantEntry]:
        for key, value in parts.items():
            if key == DENY_KEY:
                inside = self.record(value, shown(DENY_KEY), _DENIED_KEYS, ())
                yield from self._grants(inside or {}, deny=True)
            elif key in SWITCH_KEYS:
                yield from self._switch(key, value, deny)
            else:
                items = self.list_of(value, key)
                yield from read_grants(items, key, deny, self.problems) if items is not None else ()

    def _switch(self, key: str, node: Node, deny: bool) -> Iterator[GrantEntry]:
        """`schema: true` or `schema: {until: ...}`."""
        (operation,) = OPERATIONS_OF[key]
        nothing = Word("", node.position)
        if isinstance(node, Mapping):
            parts = self.record(node, shown(key), _UNTIL_KEYS, (UNTIL_KEY,))
            until = read_moment(parts[UNTIL_KEY], self.problems) if parts and UNTIL_KEY in parts else None
            if until is not None:
                yield GrantEntry(key, operation, nothing, None, (), until, deny)
        elif isinstance(node, Sequence):
            self.wrong_kind(node, shown(key), "`true`", f"it is about the whole database: write `{key}: true`")
        elif self.is_true(node, key):
            yield GrantEntry(key, operation, nothing, None, deny=deny)

    def _role_uses(self, identity: Word, node: Node) -> Iterator[RoleUse]:
        example = f"for instance `{EXAMPLES_OF_PARTS[ROLES_KEY]}`"
        if not isinstance(node, Sequence):
            self.wrong_kind(node, shown(ROLES_KEY), "a list of roles", example)
            return
        if not node.items:
            self.problems.add(node.position, f"{shown(ROLES_KEY)} is empty", "name roles, or take it out")
        seen: set[str] = set()
        for item in node.items:
            use = self._role_use(identity, item)
            if use is not None and use.role.text in seen:
                self.problems.add(use.role.position, f"the role {shown(use.role.text)} stands twice", "take one out")
            elif use is not None:
                seen.add(use.role.text)
                yield use

    def _role_use(self, identity: Word, item: Node) -> RoleUse | None:
        if isinstance(item, Scalar):
            role = self._role_name(item) if item.kind != "nothing" else self.text(item, ROLE_KEY)
            return RoleUse(identity, role, None) if role is not None else None
        if isinstance(item, Sequence):
            self.wrong_kind(item, "an entry of `roles`", "a role", f"for instance `{EXAMPLES_OF_PARTS[ROLE_KEY]}`")
            return None
        parts = self.record(item, "this entry", ROLE_USE_KEYS, tuple(ROLE_USE_KEYS))
        if parts is None or len(parts) < len(ROLE_USE_KEYS):
            return None
        until = read_moment(parts[UNTIL_KEY], self.problems)
        name = parts[ROLE_KEY]
        role = self._role_name(name) if isinstance(name, Scalar) and name.text else self.text(name, ROLE_KEY)
        return RoleUse(identity, role, until) if role is not None and until is not None else None

    def _identity_name(self, key: Scalar) -> Word | None:
        rule = f"lower-case letters, digits and `-`, a letter first, at most {IDENTITY_NAME_CHARACTERS_MAX} characters"
        return self.name(key, _IDENTITY_NAME, "an identity", rule)

    def _role_name(self, key: Scalar) -> Word | None:
        rule = f"lower-case letters, digits and `-`, a letter first, at most {IDENTITY_NAME_CHARACTERS_MAX} characters"
        return self.name(key, _IDENTITY_NAME, "a role", rule)

    def _alias(self, key: Scalar) -> Word | None:
        rule = f"lower-case letters, digits, `_` and `-`, a letter first, at most {NAME_CHARACTERS_MAX} characters"
        return self.name(key, _ALIAS, "a database", rule)
