"""Which cluster's service accounts are taken, and where pods find the authority: the file that `up --kubernetes` names.

Rules: YAML in the safe subset of intents; unknown keys and values of the wrong kind are errors with their place. Paths
are relative to the file.
Not here: the keys themselves (cluster_keys.py), what a token must be (authority/kubernetes_token.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spangate.adapters.cluster_keys import ClusterKeys, KeyFile
from spangate.authority.kubernetes_token import Cluster
from spangate.errors import YourFault
from spangate.intent.errors import Problems
from spangate.intent.nodes import read_nodes
from spangate.intent.reader import Reader

FILE_BYTES_MAX = 64 * 1024
KEYS: Mapping[str, str] = {
    "issuer": "`iss` of the cluster's tokens, as the API server's `--service-account-issuer` says.",
    "audience": "The audience that tokens for this authority have, and no other.",
    "jwks": "The cluster's public keys: an https URL (`/openid/v1/jwks` of the API server), or a file.",
    "ca": "A file with the authority by which that URL's server is verified; the system's if left out.",
    "token": "A file with the bearer token that the URL is asked with, where it must not be asked without.",
    "addresses": "`bound`, as if left out: until it ends, a token is taken only from the address that showed it first. "
    "`any`: from everywhere, for pods that come through a proxy which changes their address.",
    "listen": "The address on which pods find the authority, in numbers: `0.0.0.0:8443`.",
}
KEYS_REQUIRED = ("issuer", "audience", "jwks", "listen")
_BOUND, _ANY = "bound", "any"
TEXT_CHARACTERS_MAX = 1024


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """What the file says."""

    cluster: Cluster
    keys: ClusterKeys | KeyFile
    listen: str
    # Whether a token is held to the address that showed it first.
    bound: bool


def read_settings(path: Path) -> KubernetesSettings:
    """The settings in the file at `path`. Raises YourFault, IntentErrors."""
    values = _values(path)
    folder = path.parent

    def file(key: str) -> Path | None:
        return folder / values[key] if key in values else None

    jwks = values["jwks"]
    keys: ClusterKeys | KeyFile
    if "://" in jwks:
        keys = ClusterKeys(jwks, ca=file("ca"), token=file("token"))
    elif "ca" in values or "token" in values:
        raise YourFault(f"`{path}`: `ca` and `token` are for a `jwks` that is a URL")
    else:
        keys = KeyFile(folder / jwks)
        keys.keys("")
    addresses = values.get("addresses", _BOUND)
    if addresses not in {_BOUND, _ANY}:
        raise YourFault(f"`{path}`: `addresses` is `{_BOUND}` or `{_ANY}`")
    cluster = Cluster(values["issuer"], values["audience"])
    return KubernetesSettings(cluster, keys, values["listen"], addresses == _BOUND)


def _values(path: Path) -> Mapping[str, str]:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise YourFault(f"cannot read `{path}`: {error}", help="docs/kubernetes.md has an example") from error
    if len(content) > FILE_BYTES_MAX:
        raise YourFault(f"`{path}` is longer than {FILE_BYTES_MAX} bytes")
    problems = Problems()
    reader = Reader(problems)
    root = read_nodes(text, path.name, problems)
    found = reader.record(root, "the file", KEYS, KEYS_REQUIRED) if root is not None else None
    values: dict[str, str] = {}
    for key, node in (found or {}).items():
        word = reader.text(node, key)
        if word is not None and len(word.text) > TEXT_CHARACTERS_MAX:
            problems.add(word.position, f"`{key}` is longer than {TEXT_CHARACTERS_MAX} characters")
        elif word is not None:
            values[key] = word.text
    problems.raise_if_any()
    return values
