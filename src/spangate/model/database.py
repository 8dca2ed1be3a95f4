"""Which database: the resource names of the Spanner API, parsed once.

Source: google.spanner.v1 `Session.name`, google.spanner.admin.database.v1 `Database.name`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Looser than Google's rules for new names (project ids may be domain-scoped: `example.com:project`), strict about
# everything that could change the meaning of a path.
_PART = r"[A-Za-z0-9._:-]{1,128}"
_DATABASE = re.compile(rf"projects/({_PART})/instances/({_PART})/databases/({_PART})", re.ASCII)


class BadResourceName(ValueError):
    """The text is not the resource name it should be."""


@dataclass(frozen=True, slots=True, order=True)
class DatabasePath:
    """`projects/<project>/instances/<instance>/databases/<database>`."""

    project: str
    instance: str
    database: str

    @classmethod
    def parse(cls, text: str) -> DatabasePath:
        """The database that `text` names, or BadResourceName. `str(parse(x)) == x` for every accepted x."""
        match = _DATABASE.fullmatch(text)
        if match is None:
            raise BadResourceName("not of the form projects/P/instances/I/databases/D")
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"projects/{self.project}/instances/{self.instance}/databases/{self.database}"
