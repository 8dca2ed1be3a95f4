"""What `spangate init` writes: an intent and a schema that work as they are."""

from __future__ import annotations

from pathlib import Path

from spangate.errors import YourFault

SCHEMA = """\
CREATE TABLE Notes (
  NoteId STRING(36) NOT NULL,
  Author STRING(100) NOT NULL,
  Text STRING(MAX),
  CreatedAt TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (NoteId);
"""

INTENT = """\
# Who may do what. What does not stand here is denied.
# `spangate check` checks this file; a running `spangate up` picks changes up by itself.
spangate: v1
trust_domain: example.internal

databases:
  main: {instance: main, database: main, schema: schema.sql}

identities:
  app:    {workload: default/app}         # namespace/service account
  viewer: {workload: default/viewer}

access:
  app:
    main:
      read:   [Notes]
      insert: [Notes]
      update: [Notes(Text)]
      delete: [Notes]
  viewer:
    main:
      read: [Notes(NoteId, Text)]
"""


def write_starter(directory: Path) -> list[Path]:
    """The files written. Raises YourFault rather than overwrite anything."""
    files = {directory / "spangate.yaml": INTENT, directory / "schema.sql": SCHEMA}
    for path in files:
        if path.exists():
            raise YourFault(f"`{path}` exists already", help="choose another folder: spangate init FOLDER")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise YourFault(f"cannot write to `{directory}`: {error.strerror}") from error
    return list(files)
