"""Which token keeps keys, and by which module it is reached: a PKCS #11 URI, read strictly.

Rules: RFC 7512, section 2.3, and of its attributes only those that say where keys are: `token`, `serial` and `object`
in the path, `module-path` in the query. Each stands once at most, and what is not understood is an error: an attribute
that is passed over would choose another token than was meant. A PIN is none of them, since arguments can be seen by
others. `str()` of what was read is read as the same.
Not here: the token (pkcs11_keys.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from spangate.errors import YourFault

SCHEME = "pkcs11:"
# What the keys of one installation are called by, before a slash and their own names.
PREFIX = "spangate"
# PKCS #11 pads these with blanks to this size (CK_TOKEN_INFO).
_TOKEN_BYTES_MAX, _SERIAL_BYTES_MAX = 32, 16
_URI_CHARACTERS_MAX = 4096
_PATH_NAMES = ("token", "serial", "object")
_PATH_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_QUERY_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=/?|-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_EXAMPLE = "for example: pkcs11:token=authority?module-path=/usr/lib/softhsm/libsofthsm2.so"


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """The token with this label, this serial number, or both; `module`: the absolute path of its PKCS #11 library."""

    module: str
    token: str | None = None
    serial: str | None = None
    prefix: str = PREFIX

    def __str__(self) -> str:
        found = {"token": self.token, "serial": self.serial, "object": self.prefix}
        path = ";".join(f"{name}={quote(value, safe='')}" for name, value in found.items() if value is not None)
        return f"{SCHEME}{path}?module-path={quote(self.module)}"

    @classmethod
    def parse(cls, uri: str) -> TokenPlace:
        """What `uri` says. Raises YourFault."""
        if not uri.startswith(SCHEME) or len(uri) > _URI_CHARACTERS_MAX:
            raise _fault(uri[:_URI_CHARACTERS_MAX], f"it does not begin with `{SCHEME}`, or is too long")
        path, asked, query = uri.removeprefix(SCHEME).partition("?")
        named = _attributes(uri, path, ";", _PATH_NAMES, _PATH_VALUE)
        ways = _attributes(uri, query, "&", ("module-path",), _QUERY_VALUE) if asked else {}
        token, serial, prefix = named.get("token"), named.get("serial"), named.get("object", PREFIX)
        module = ways.get("module-path", "")
        if token is None and serial is None:
            raise _fault(uri, "it names no token: `token` is a label, `serial` a serial number")
        for name, value, most in (("token", token, _TOKEN_BYTES_MAX), ("serial", serial, _SERIAL_BYTES_MAX)):
            if value is not None and (len(value.encode()) > most or value != value.rstrip(" ")):
                raise _fault(uri, f"`{name}` has at most {most} bytes and does not end in a blank")
        if not _PREFIX.fullmatch(prefix):
            raise _fault(uri, "`object` is what the names of keys begin with: letters, digits, dots and dashes")
        if not module.startswith("/"):
            raise _fault(uri, "it does not say by `module-path` where the token's library is, from the root on")
        return cls(module, token, serial, prefix)


def _attributes(
    uri: str, text: str, separator: str, known: tuple[str, ...], pattern: re.Pattern[str]
) -> dict[str, str]:
    """Name and value of each. Raises YourFault."""
    found: dict[str, str] = {}
    for part in text.split(separator):
        name, _, value = part.partition("=")
        if name in ("pin-value", "pin-source"):
            # Not shown: it may hold the PIN.
            raise YourFault(
                "the PIN of a token does not stand in its URI, which others can see",
                help="put it into a file that only you can read, and name that by --passphrase-file",
            )
        if name not in known:
            raise _fault(uri, f"`{name}` is none of {', '.join(known)}")
        if name in found:
            raise _fault(uri, f"`{name}` stands twice")
        if not pattern.fullmatch(value):
            raise _fault(uri, f"the value of `{name}` is empty, or not encoded as RFC 7512 wants it")
        try:
            decoded = unquote_to_bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            raise _fault(uri, f"the value of `{name}` is not UTF-8") from None
        if not decoded.isprintable():
            raise _fault(uri, f"the value of `{name}` has characters that cannot be printed")
        found[name] = decoded
    return found


def _fault(uri: str, why: str) -> YourFault:
    shown = "a PKCS #11 URI" if "pin-" in uri else f"`{uri}`"
    return YourFault(f"{shown} says nothing of use: {why}", help=_EXAMPLE)
