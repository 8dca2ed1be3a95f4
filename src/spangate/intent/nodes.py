"""Intent text -> plain nodes with positions: the safe subset of YAML.

Rules: an intent file is block and flow mappings, lists and one-meaning scalars, nothing else. Anchors, aliases, merge
keys, tags, directives, text blocks, backslash escapes, several documents, duplicate keys and invisible characters are
problems, because each lets a reviewer see something else than the parser. Built from YAML events with our own stack,
not by recursion, so that depth has a limit and no text can crash it.
Not here: which keys exist (parse.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from spangate.intent.errors import PROBLEMS_MAX, SHOWN_CHARACTERS_MAX, Problems, shown
from spangate.intent.words import DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX
from spangate.model.policy import Position

# Everything that is not text a person can see: controls, the line breaks only some programs know, bidirectional
# overrides ("Trojan Source", CVE-2021-42574), zero-width characters, lone surrogates, non-characters.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\ud800-\udfff"
    "\U000e0000-\U000e0fff]|\r(?!\n)"
)
_DIRECTIVE = re.compile(r"^%", re.MULTILINE)

# Words that YAML readers, old (1.1) or new (1.2), take for something else than text.
_NULL = re.compile(r"|~|null|Null|NULL")
_BOOLEAN = re.compile(r"true|false|yes|no|on|off|y|n", re.IGNORECASE)
_NUMBER = re.compile(
    r"[-+]?(\.?[0-9][0-9_]*(\.[0-9_]*)?(e[-+]?[0-9]+)?|0[xob][0-9a-f_]+|\.inf|\.nan)", re.ASCII | re.IGNORECASE
)

# What ruamel.yaml says, for people who do not know YAML's grammar: by the beginning of its problem ...
_PROBLEMS = {
    "mapping values are not allowed here": (
        "a `:` is not allowed here",
        "check the indentation of this line and the one before; a text with `: ` in it needs quotes",
    ),
    "found character '\\t' that cannot start any token": ("a tab cannot indent a line", "use spaces"),
    "expected <block end>": ("this line does not fit in here", "is it indented like its neighbours?"),
    "expected '<document start>'": ("this cannot follow here", "the file is one mapping; this stands after its end"),
    "found unexpected end of stream": ("the file ends too early", None),
}
# ... and by what it was doing.
_CONTEXTS = {
    "while parsing a flow sequence": "is the list that begins with `[` at line {line}, column {column} closed?",
    "while parsing a flow mapping": "is the mapping that begins with `{{` at line {line}, column {column} closed?",
    "while scanning a quoted scalar": "is the quoted text that begins at line {line}, column {column} closed?",
    "while scanning a simple key": "the key at line {line}, column {column} needs a `:` and a value",
    "while scanning an alias": 'a `*` begins a YAML alias; put a pattern that begins with it in quotes: `"*"`',
}


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text. `raw` is its source including quotes, by which positions inside it are found."""

    position: Position
    text: str
    raw: str
    plain: bool

    @property
    def kind(self) -> str:
        """`text`, or what a YAML reader takes this plain word for: `nothing`, `a boolean`, `a number`."""
        if not self.plain:
            return "text"
        for pattern, kind in ((_NULL, "nothing"), (_BOOLEAN, "a boolean"), (_NUMBER, "a number")):
            if pattern.fullmatch(self.text):
                return kind
        return "text"

    def lines(self) -> Iterator[tuple[Position, str]]:
        """The source without quotes, line by line, each with the position of its first character."""
        file, line, column = self.position.file, self.position.line, self.position.column
        inside, shift = (self.raw, 0) if self.plain else (self.raw[1:-1], 1)
        for number, text in enumerate(inside.split("\n")):
            yield Position(file, line + number, 1 if number else column + shift), text


@dataclass(frozen=True, slots=True)
class Sequence:
    """A list. In flow style (`[a, b]`) YAML splits at every comma, even inside parentheses."""

    position: Position
    flow: bool
    items: tuple[Node, ...]
    kind: str = "a list"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping; its keys are distinct. A value that was left out has the position of its key."""

    position: Position
    entries: tuple[tuple[Scalar, Node], ...]
    # False if a key was left out because it is a problem of its own: what is missing may be just that.
    complete: bool
    kind: str = "a mapping"


Node = Scalar | Sequence | Mapping


def read_nodes(text: str, file: str, problems: Problems) -> Node | None:
    """The document in `text`, or None if it is beyond reading; what is wrong with it goes to `problems`."""
    start = Position(file, 1, 1)
    text = text.removeprefix("\ufeff")
    if len(text.encode("utf-8", "surrogatepass")) > FILE_BYTES_MAX:
        problems.add(start, f"the file is larger than {FILE_BYTES_MAX} bytes")
        return None
    if not _characters_are_plain(text, file, problems):
        return None
    builder = _Builder(text, file, problems)
    try:
        for event in _events(text):
            if not builder.take(event):
                return None
    except MarkedYAMLError as error:
        _add_yaml_error(error, file, problems)
        return None
    except (YAMLError, ValueError, OverflowError):
        # ruamel.yaml on `\UFFFFFFFF` and the like, without saying where.
        problems.add(builder.last, "not valid YAML after this place")
        return None
    if builder.root is None:
        problems.add(start, "the file is empty", "begin with the line `spangate: v1`")
    return builder.root


def _events(text: str) -> Iterator[Event]:
    reader = YAML(typ="safe", pure=True)
    events: Iterator[Event] = reader.parse(text)
    yield from events


def _characters_are_plain(text: str, file: str, problems: Problems) -> bool:
    clean = True
    for found in islice(_INVISIBLE.finditer(text), PROBLEMS_MAX):
        clean = False
        problems.add(
            _position_of(text, file, found.start()),
            f"the invisible character U+{ord(found.group()):04X} is not allowed in an intent file",
            "delete it; it can make a file look different from what it says",
        )
    for found in islice(_DIRECTIVE.finditer(text), PROBLEMS_MAX):
        clean = False
        problems.add(
            _position_of(text, file, found.start()),
            "a line must not begin with `%`",
            "YAML directives are not used in an intent file",
        )
    return clean


def _position_of(text: str, file: str, offset: int) -> Position:
    return Position(file, text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset))


def _add_yaml_error(error: MarkedYAMLError, file: str, problems: Problems) -> None:
    mark = error.problem_mark or error.context_mark
    position = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1, 1)
    problem = str(error.problem or error.context).split("\n", maxsplit=1)[0]
    readable = problem.replace("'<stream end>'", "the end of the file").replace("'\\x00'", "the end of the file")
    message, help_line = f"not valid YAML: {readable.replace(chr(39), '`')}", None
    for beginning, better in _PROBLEMS.items():
        if problem.startswith(beginning):
            message, help_line = better
    context = _CONTEXTS.get(str(error.context))
    if context is not None and error.context_mark is not None:
        help_line = context.format(line=error.context_mark.line + 1, column=error.context_mark.column + 1)
    problems.add(position, message, help_line)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    position: Position
    flow: bool | None  # None for a mapping
    items: list[Node] = field(default_factory=list)


class _Builder:
    """Events -> nodes, with a stack."""

    def __init__(self, text: str, file: str, problems: Problems) -> None:
        self._text = text
        self._file = file
        self._problems = problems
        self._open: list[_Open] = []
        self._documents = 0
        self._nodes = 0
        self.root: Node | None = None
        self.last = Position(file, 1, 1)

    def take(self, event: Event) -> bool:
        """Take one event; False if reading on makes no sense."""
        position = self.last = self._at(event.start_mark)
        if isinstance(event, DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                self._problems.add(position, "a second document begins here", "one file holds one intent")
                return False
        if isinstance(event, AliasEvent):
            self._problems.add(
                position,
                f"YAML aliases ({self._source(event)}) are not used in an intent file",
                "write the value out; put a pattern that begins with `*` in quotes",
            )
            return False
        if isinstance(event, NodeEvent):
            return self._take_node(event, position)
        if isinstance(event, SequenceEndEvent | MappingEndEvent):
            self._close()
        return True

    def _take_node(self, event: NodeEvent, position: Position) -> bool:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            self._problems.add(position, f"the file holds more than {NODES_MAX} keys, values and lists")
            return False
        for what, name in (("anchors", event.anchor), ("tags", getattr(event, "tag", None))):
            if name is not None:
                self._problems.add(position, f"YAML {what} ({self._source(event)}) are not used in an intent file")
                return False
        if isinstance(event, ScalarEvent):
            scalar = self._scalar(event, position)
            if scalar is not None:
                self._put(scalar)
            return scalar is not None
        if len(self._open) >= DEPTH_MAX:
            self._problems.add(position, f"nested deeper than {DEPTH_MAX} levels")
            return False
        self._open.append(_Open(position, bool(event.flow_style) if isinstance(event, SequenceStartEvent) else None))
        return True

    def _scalar(self, event: ScalarEvent, position: Position) -> Scalar | None:
        raw = self._text[event.start_mark.index : event.end_mark.index]
        if event.style in ("|", ">"):
            self._problems.add(position, f"text blocks (`{event.style}`) are not used in an intent file")
            return None
        if event.style == '"' and "\\" in raw:
            self._problems.add(position, "backslashes in quotes are not used in an intent file")
            return None
        return Scalar(position, event.value, raw, plain=event.style is None)

    def _close(self) -> None:
        closed = self._open.pop()
        if closed.flow is not None:
            self._put(Sequence(closed.position, closed.flow, tuple(closed.items)))
        else:
            self._put(self._mapping(closed))

    def _mapping(self, closed: _Open) -> Mapping:
        entries: dict[str, tuple[Scalar, Node]] = {}
        pairs = list(zip(closed.items[::2], closed.items[1::2], strict=True))
        for key, value in pairs:
            if not isinstance(key, Scalar):
                self._problems.add(key.position, f"a key must be a word, not {key.kind}")
            elif key.text == "<<":
                self._problems.add(key.position, "YAML merge keys (`<<`) are not used in an intent file")
            elif key.text in entries:
                first = entries[key.text][0].position
                self._problems.add(key.position, f"the key {shown(key.text)} stands twice", f"first at {first}")
            else:
                left_out = isinstance(value, Scalar) and not value.raw
                entries[key.text] = (key, replace(value, position=key.position) if left_out else value)
        return Mapping(closed.position, tuple(entries.values()), complete=len(entries) == len(pairs))

    def _source(self, event: Event) -> str:
        """The word of the file at which `event` begins."""
        start = event.start_mark.index
        return shown(self._text[start : start + SHOWN_CHARACTERS_MAX + 1].split(maxsplit=1)[0])

    def _put(self, node: Node) -> None:
        if self._open:
            self._open[-1].items.append(node)
        else:
            self.root = node

    def _at(self, mark: StringMark) -> Position:
        return Position(self._file, mark.line + 1, mark.column + 1)
