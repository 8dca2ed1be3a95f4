"""`up --spanner HOST:PORT`: a Spanner that is none of ours, over TLS.

Rules: nothing is started and nothing created there; what Spangate itself would have to ask it for, without a token, is
refused beforehand. The host is a name, since its certificate is verified by that.
Not here: the connection (compiler/gateway.py).
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path

from spangate.errors import YourFault
from spangate.intent.tree import Intent

# Where distributions keep the certificate authorities that they trust, besides what OpenSSL itself says.
_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
_ADDRESS = re.compile(r"([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?):([1-9][0-9]{0,4})", re.ASCII)
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True)
class RealSpanner:
    """Its address, and the certificate authorities that may vouch for it."""

    host: str
    port: int
    ca_file: Path

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


def real_spanner(address: str, ca_file: Path | None) -> RealSpanner:
    """What `--spanner` and `--spanner-ca` name. Raises YourFault."""
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > _PORT_MAX or _is_ip(match[1]):
        raise YourFault(f"`{address}` is not a host's name and a port", help="for instance spanner.googleapis.com:443")
    return RealSpanner(match[1], int(match[2]), _system_ca() if ca_file is None else _checked(ca_file))


def check_with_real(intent: Intent, *, shares_state: bool) -> None:
    """Raises YourFault for what does not go with a Spanner that wants a token from everybody."""
    if intent.google is None:
        raise YourFault(
            "a Spanner that is no emulator wants tokens", help="add `google` to the intent; see docs/broker.md"
        )
    for database in intent.databases:
        if database.live:
            raise YourFault(
                f"the schema of `{database.alias.text}` is `live`, which only an emulator can be asked for here",
                help="name a schema file",
            )
    if shares_state:
        raise YourFault("--shared-state and --spanner do not go together yet", help="leave one of them out")


def _checked(path: Path) -> Path:
    """An absolute path, since Envoy reads it. Raises YourFault."""
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        raise YourFault(f"`{path}` holds no certificate authorities in PEM: {error}") from error
    return path.resolve()


def _system_ca() -> Path:
    openssl = ssl.get_default_verify_paths().cafile
    for name in (openssl, *_CA_FILES):
        if name is not None and Path(name).is_file():
            return Path(name).resolve()
    raise YourFault("no file of certificate authorities is found on this machine", help="name one with --spanner-ca")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
