"""A bearer token in a file that somebody else replaces, such as a projected service account token.

Rules: it is read for each use. What is not one token is refused here: http.client would quote it in its complaint of a
header with a line end. No error holds anything of the content, neither in its text nor in what it was raised from.
Not here: what a token says (authority/jwt_reader.py), whom it is shown to (attest_client.py, cluster_keys.py).
"""

from __future__ import annotations

import re
from pathlib import Path

from spangate.adapters.bounded_file import read_file
from spangate.errors import YourFault

# A service account token has some 1,200 bytes.
TOKEN_BYTES_MAX = 16 * 1024
# RFC 6750, section 2.1 (b64token), with `=` anywhere.
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")


def read_bearer(path: Path) -> str:
    """The token. Raises YourFault."""
    token = read_file(path, TOKEN_BYTES_MAX).strip()
    if not _TOKEN.fullmatch(token):
        raise YourFault(f"`{path}` does not hold one token", help="a token is one line, without spaces")
    return token.decode("ascii")
