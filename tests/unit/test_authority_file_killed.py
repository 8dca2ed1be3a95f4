"""A first start that is killed at any moment leaves nothing behind that the next one takes for somebody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from spangate.adapters.authority_store import AuthorityFile

MAKES_FILES = """
import sys
from pathlib import Path
from spangate.adapters.authority_store import AuthorityFile
print("begins", flush=True)
for number in range(10_000):
    AuthorityFile(Path(sys.argv[1]) / f"{number}.sqlite")
"""


def test_a_file_whose_making_was_killed_is_made_by_the_next_start(tmp_path: Path) -> None:
    made = 0
    for round_ in range(12):
        folder = tmp_path / str(round_)
        folder.mkdir()
        argv = [sys.executable, "-c", MAKES_FILES, str(folder)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(0.03 + 0.007 * round_)
            except subprocess.TimeoutExpired:
                process.kill()
        files = sorted(folder.glob("*.sqlite"))
        made += len(files)
        for file in files:
            assert AuthorityFile(file).load() is None
    assert made
