"""Intent text -> syntax tree.

Rules: any text gives either a tree or an IntentErrors that holds every problem of form found in one run. Unknown keys,
words of later versions, empty lists and values of the wrong kind are problems, never ignored.
Not here: YAML itself (nodes.py), lists of tables (grants.py), whether names exist (check.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Mapping as Map

from spangate.errors import Broken
from spangate.intent.errors import Problems, listed, shown
from spangate.intent.grants import read_grants
from spangate.intent.moments import read_moment
from spangate.intent.nodes import Mapping, Node, Scalar, Sequence, read_nodes
from spangate.intent.tree import AccessEntry, DatabaseEntry, GrantEntry, IdentityEntry, Intent, RoleUse, Word
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
    IDENTITY_NAME,
    IDENTITY_NAME_CHARACTERS_MAX,
    LATER_WORDS,
    NAME_CHARACTERS_MAX,
    OPERATION_KEYS,
    OPERATIONS_OF,
    ROLE_KEY,
    ROLE_USE_KEYS,
    ROLES_KEY,
    ROOT_KEYS,
    ROOT_KEYS_REQUIRED,
    SCHEMA_FILE_CHARACTERS_MAX,
    SWITCH_KEYS,
    TAGS_KEEP,
    UNTIL_KEY,
)
from spangate.model.database import BadResourceName, DatabasePath
from spangate.model.identity import BadSpiffeId, check_segment, check_trust_domain
from spangate.model.nearest import nearest
from spangate.model.policy import Position
from spangate.model.schema import Dialect

_IDENTITY_NAME = re.compile(IDENTITY_NAME, re.ASCII)
_ALIAS = re.compile(ALIAS, re.ASCII)

# An exception has no exceptions.
_DENIED_KEYS = {key: text for key, text in OPERATION_KEYS.items() if key != DENY_KEY}
_UNTIL_KEYS = {UNTIL_KEY: ROLE_USE_KEYS[UNTIL_KEY]}
_ROLES_TAKEN = "under `access` this word gives an identity its roles; choose another alias"

_ReadName = Callable[[Scalar], Word | None]


def parse_intent(text: str, file: str) -> Intent:
    """The syntax tree of `text`; `file` is the name that positions carry. Raises IntentErrors."""
    problems = Problems()
    root = read_nodes(text, file, problems)
    intent = _Parser(problems).intent(root) if root is not None else None
    problems.raise_if_any()
    if intent is None:
        raise Broken("the intent file gave neither a tree nor a problem")
    return intent


class _Parser:
    """Nodes -> tree. Each method returns None after noting a problem, so that its neighbours are still read."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def intent(self, root: Node) -> Intent | None:
        parts = self._record(root, "the file", ROOT_KEYS, ROOT_KEYS_REQUIRED)
        if parts is None:
            return None
        self._version(parts.get("spangate"))
        trust_domain = self._trust_domain(parts.get("trust_domain"))
        databases = tuple(
            found
            for key, value in self._named(parts.get("databases"), "databases", self._alias)
            if (found := self._database(key, value)) is not None
        )
        identities = tuple(
            entry
            for key, value in self._named(parts.get("identities"), "identities", self._identity_name)
            if (entry := self._identity(key, value)) is not None
        )
        roles: list[Word] = []
        role_access: list[AccessEntry] = []
        for role, value in self._named(parts.get("roles"), "roles", self._role_name):
            roles.append(role)
            role_access += self._access(role, value)
        uses: list[RoleUse] = []
        access: list[AccessEntry] = []
        for identity, value in self._named(parts.get("access"), "access", self._identity_name):
            access += self._access(identity, value, uses)
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
        )

    # The parts of the file.

    def _version(self, node: Node | None) -> None:
        # A number, too, is rather a wrong version than a text without quotes.
        if isinstance(node, Scalar) and node.kind != "nothing":
            if node.text != FORMAT_VERSION:
                message = f"{shown(node.text)} is not a version of the format that this spangate reads"
                self._problems.add(node.position, message, f"write `{EXAMPLES['spangate']}`")
        else:
            self._text(node, "spangate")

    def _trust_domain(self, node: Node | None) -> Word | None:
        word = self._text(node, "trust_domain")
        if word is None:
            return None
        try:
            check_trust_domain(word.text)
        except BadSpiffeId as error:
            help_line = f"for instance `{EXAMPLES['trust_domain']}`" if "://" in word.text else str(error)
            self._problems.add(word.position, f"{shown(word.text)} cannot be a trust domain", help_line)
            return None
        return word

    def _database(self, alias: Word, node: Node) -> DatabaseEntry | None:
        parts = self._record(node, shown(alias.text), DATABASE_KEYS, DATABASE_KEYS_REQUIRED)
        if alias.text == ROLES_KEY:
            self._problems.add(alias.position, f"a database cannot be called {shown(alias.text)}", _ROLES_TAKEN)
            return None
        if parts is None:
            return None
        dialect = self._dialect(parts.get("dialect"))
        keep_tags = self._keep_tags(parts.get("tags"))
        secure_context = "secure_context" in parts and self._is_true(parts["secure_context"], "secure_context")
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
        word = self._text(node, "dialect")
        if word is not None and word.text in DIALECTS:
            return Dialect(word.text)
        if word is not None:
            near = DIALECTS[1] if word.text.lower() in {"postgres", "pg"} else nearest(word.text, DIALECTS)
            help_line = f"did you mean {shown(near)}?" if near else f"write one of {listed(DIALECTS)}"
            self._problems.add(word.position, f"unknown dialect {shown(word.text)}", help_line)
        return Dialect.GOOGLESQL

    def _keep_tags(self, node: Node | None) -> bool:
        word = self._text(node, "tags")
        if word is not None and word.text != TAGS_KEEP:
            help_line = f"write `{EXAMPLES['tags']}`, or take it out: tags are then replaced"
            self._problems.add(word.position, f"{shown(word.text)} is not what can be done with tags", help_line)
        return word is not None

    def _is_true(self, node: Node, key: str) -> bool:
        """Only `true` is something to say: what is not wanted is left out."""
        if isinstance(node, Scalar) and node.plain and node.text == "true":
            return True
        help_line = f"write `{key}: true`, or take it out"
        if isinstance(node, Scalar) and node.kind != "nothing":
            self._problems.add(node.position, f"{shown(key)} cannot be {shown(node.text)}", help_line)
        else:
            self._wrong_kind(node, shown(key), "`true`", help_line)
        return False

    def _resource_part(self, node: Node | None, key: str) -> Word | None:
        word = self._text(node, key)
        if word is None:
            return None
        try:
            DatabasePath.parse(f"projects/p/instances/i/databases/{word.text}")
        except BadResourceName:
            self._problems.add(
                word.position,
                f"{shown(word.text)} cannot be the name of {'an' if key[0] == 'i' else 'a'} {key}",
                "letters, digits, `.`, `_`, `:` and `-` only; the name alone, not its path",
            )
            return None
        return word

    def _schema_file(self, node: Node | None) -> Word | None:
        word = self._text(node, "schema")
        if word is None:
            return None
        if word.text.startswith(("/", "~")) or "\\" in word.text or len(word.text) > SCHEMA_FILE_CHARACTERS_MAX:
            self._problems.add(
                word.position,
                f"{shown(word.text)} is not a path relative to this file",
                "write it with `/` and without a leading `/`, for instance `schema.sql`",
            )
            return None
        return word

    def _identity(self, name: Word, node: Node) -> IdentityEntry | None:
        parts = self._record(node, shown(name.text), IDENTITY_KEYS, ())
        if parts is None:
            return None
        kinds = [key for key in IDENTITY_KEYS if key in parts]
        if len(kinds) > 1:
            self._problems.add(
                name.position,
                f"{shown(name.text)} has more than one of {listed(IDENTITY_KEYS)}",
                "keep one; for two SPIFFE IDs write two identities",
            )
        if len(kinds) != 1:
            return None  # if none, an unknown key has been noted in its place
        kind = Word(kinds[0], parts[kinds[0]].position)
        word = self._text(parts[kinds[0]], kinds[0])
        return self._service_account(name, kind, word) if word is not None else None

    def _service_account(self, name: Word, kind: Word, word: Word) -> IdentityEntry | None:
        namespace, _, account = word.text.partition("/")
        try:
            check_segment(namespace)
            check_segment(account)
        except BadSpiffeId:
            self._problems.add(
                word.position,
                f"{shown(word.text)} is not of the form `namespace/service-account`",
                f"for instance `{EXAMPLES[kind.text]}`; letters, digits, `.`, `_` and `-` on both sides of one `/`",
            )
            return None
        file, line, column = word.position.file, word.position.line, word.position.column
        at_account = Position(file, line, column + len(namespace) + 1)
        return IdentityEntry(name, kind, Word(namespace, word.position), Word(account, at_account))

    def _access(self, holder: Word, node: Node, uses: list[RoleUse] | None = None) -> Iterator[AccessEntry]:
        """What an identity holds, or, without `uses`, a role. The roles that it holds go to `uses`."""
        for database, value in self._named(node, holder.text, self._alias):
            if database.text == ROLES_KEY:
                if uses is None:
                    self._problems.add(database.position, "a role holds no other roles", "write its grants out")
                else:
                    uses += self._role_uses(holder, value)
                continue
            parts = self._record(value, shown(database.text), OPERATION_KEYS, ())
            if parts is not None:
                yield AccessEntry(holder, database, tuple(self._grants(parts, deny=False)))

    def _grants(self, parts: dict[str, Node], *, deny: bool) -> Iterator[GrantEntry]:
        for key, value in parts.items():
            if key == DENY_KEY:
                inside = self._record(value, shown(DENY_KEY), _DENIED_KEYS, ())
                yield from self._grants(inside or {}, deny=True)
            elif key in SWITCH_KEYS:
                yield from self._switch(key, value, deny)
            else:
                items = self._list(value, key)
                yield from read_grants(items, key, deny, self._problems) if items is not None else ()

    def _switch(self, key: str, node: Node, deny: bool) -> Iterator[GrantEntry]:
        """`schema: true` or `schema: {until: ...}`."""
        (operation,) = OPERATIONS_OF[key]
        nothing = Word("", node.position)
        if isinstance(node, Mapping):
            parts = self._record(node, shown(key), _UNTIL_KEYS, (UNTIL_KEY,))
            until = read_moment(parts[UNTIL_KEY], self._problems) if parts and UNTIL_KEY in parts else None
            if until is not None:
                yield GrantEntry(key, operation, nothing, None, (), until, deny)
        elif isinstance(node, Sequence):
            self._wrong_kind(node, shown(key), "`true`", f"it is about the whole database: write `{key}: true`")
        elif self._is_true(node, key):
            yield GrantEntry(key, operation, nothing, None, deny=deny)

    def _role_uses(self, identity: Word, node: Node) -> Iterator[RoleUse]:
        example = f"for instance `{EXAMPLES_OF_PARTS[ROLES_KEY]}`"
        if not isinstance(node, Sequence):
            self._wrong_kind(node, shown(ROLES_KEY), "a list of roles", example)
            return
        if not node.items:
            self._problems.add(node.position, f"{shown(ROLES_KEY)} is empty", "name roles, or take it out")
        seen: set[str] = set()
        for item in node.items:
            use = self._role_use(identity, item)
            if use is not None and use.role.text in seen:
                self._problems.add(use.role.position, f"the role {shown(use.role.text)} stands twice", "take one out")
            elif use is not None:
                seen.add(use.role.text)
                yield use

    def _role_use(self, identity: Word, item: Node) -> RoleUse | None:
        if isinstance(item, Scalar):
            role = self._role_name(item) if item.kind != "nothing" else self._text(item, ROLE_KEY)
            return RoleUse(identity, role, None) if role is not None else None
        if isinstance(item, Sequence):
            self._wrong_kind(item, "an entry of `roles`", "a role", f"for instance `{EXAMPLES_OF_PARTS[ROLE_KEY]}`")
            return None
        parts = self._record(item, "this entry", ROLE_USE_KEYS, tuple(ROLE_USE_KEYS))
        if parts is None or len(parts) < len(ROLE_USE_KEYS):
            return None
        until = read_moment(parts[UNTIL_KEY], self._problems)
        name = parts[ROLE_KEY]
        role = self._role_name(name) if isinstance(name, Scalar) and name.text else self._text(name, ROLE_KEY)
        return RoleUse(identity, role, until) if role is not None and until is not None else None

    # The shapes that parts have.

    def _record(self, node: Node, what: str, keys: Map[str, str], required: tuple[str, ...]) -> dict[str, Node] | None:
        """A mapping with known keys. Unknown and missing keys are problems, but the others are still returned."""
        if not isinstance(node, Mapping):
            self._wrong_kind(node, what, "a mapping", f"its keys are {listed(keys)}")
            return None
        if not node.entries and node.complete:
            self._problems.add(node.position, f"{what} is empty", f"its keys are {listed(keys)}")
            return None
        misspelt = {self._unknown_key(key, keys) for key, _ in node.entries if key.text not in keys}
        parts = {key.text: value for key, value in node.entries if key.text in keys}
        for key_name in required:
            if key_name not in parts and key_name not in misspelt and node.complete:
                self._problems.add(node.position, f"{what} has no {shown(key_name)}", _example(key_name))
        return parts

    def _unknown_key(self, key: Scalar, keys: Map[str, str]) -> str | None:
        """Note an unknown key; the known one that was probably meant."""
        later = LATER_WORDS.get(key.text)
        if later is not None:
            self._problems.add(key.position, f"{shown(key.text)} is not supported by this version yet", later)
            return None
        before_colon, colon, _ = key.text.partition(":")
        if colon and before_colon in keys:
            help_line: str | None = "a space is missing after the `:`"
        else:
            help_line = self._problems.suggest(key.text, tuple(keys), "known here")
        self._problems.add(key.position, f"unknown key {shown(key.text)}", help_line)
        return before_colon if colon else nearest(key.text, keys)

    def _named(self, node: Node | None, what: str, read_name: _ReadName) -> Iterator[tuple[Word, Node]]:
        """The entries of a mapping whose keys the author chose."""
        if node is None:
            return
        if not isinstance(node, Mapping):
            self._wrong_kind(node, shown(what), "a mapping", _example(what))
        elif not node.entries and node.complete:
            self._problems.add(node.position, f"{shown(what)} is empty", "fill it or take it out")
        else:
            for key, value in node.entries:
                name = read_name(key)
                if name is not None:
                    yield name, value

    def _list(self, node: Node, key: str) -> Sequence | None:
        if not isinstance(node, Sequence):
            self._wrong_kind(node, shown(key), "a list of tables", f"for instance `{key}: [Orders]`")
            return None
        if not node.items:
            self._problems.add(node.position, f"{shown(key)} is empty", "name tables, or take it out")
            return None
        return node

    def _text(self, node: Node | None, key: str) -> Word | None:
        if node is None:
            return None
        if not isinstance(node, Scalar):
            self._wrong_kind(node, shown(key), "text", _example(key))
        elif node.kind == "nothing" or not node.text:
            self._problems.add(node.position, f"{shown(key)} has no value", _example(key))
        elif node.kind != "text":
            self._problems.add(
                node.position,
                f"{shown(key)} must be text, but YAML may read {shown(node.text)} as {node.kind}",
                f'if it is meant as text, write it in quotes: `"{node.text}"`',
            )
        else:
            return _word(node)
        return None

    def _wrong_kind(self, node: Node, what: str, wanted: str, help_line: str | None) -> None:
        if isinstance(node, Scalar) and node.kind == "nothing":
            self._problems.add(node.position, f"{what} has no value", help_line)
        else:
            self._problems.add(node.position, f"{what} must be {wanted}, not {node.kind}", help_line)

    # Names that the author chose.

    def _identity_name(self, key: Scalar) -> Word | None:
        rule = f"lower-case letters, digits and `-`, a letter first, at most {IDENTITY_NAME_CHARACTERS_MAX} characters"
        return self._name(key, _IDENTITY_NAME, "an identity", rule)

    def _role_name(self, key: Scalar) -> Word | None:
        rule = f"lower-case letters, digits and `-`, a letter first, at most {IDENTITY_NAME_CHARACTERS_MAX} characters"
        return self._name(key, _IDENTITY_NAME, "a role", rule)

    def _alias(self, key: Scalar) -> Word | None:
        rule = f"lower-case letters, digits, `_` and `-`, a letter first, at most {NAME_CHARACTERS_MAX} characters"
        return self._name(key, _ALIAS, "a database", rule)

    def _name(self, key: Scalar, pattern: re.Pattern[str], kind: str, rule: str) -> Word | None:
        if not pattern.fullmatch(key.text):
            self._problems.add(key.position, f"{shown(key.text)} cannot be the name of {kind}", rule)
        elif key.kind != "text":
            self._problems.add(
                key.position,
                f"YAML may read {shown(key.text)} as {key.kind}, not as the name of {kind}",
                f'choose another name, or write it in quotes: `"{key.text}"`',
            )
        else:
            return _word(key)
        return None


def _word(scalar: Scalar) -> Word:
    """The word, at its first character behind a quote."""
    return Word(scalar.text, next(scalar.lines())[0])


def _example(key: str) -> str | None:
    example = EXAMPLES.get(key) or EXAMPLES_OF_PARTS.get(key)
    return f"for instance `{example}`" if example else None
