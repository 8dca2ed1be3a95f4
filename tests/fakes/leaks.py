"""Token files that hold no token, and whether an error gives away what they hold."""

from __future__ import annotations

import traceback

_PIECE = "SECRET"
# Each holds _PIECE.
NO_TOKENS = [
    b"eyJ.SECRET-1.sig\neyJSECRET-2\n",
    b"eyJ.SECRET-1.sig\r\nx-more: SECRET-2",
    b"eyJ.SECRET-1 SECRET-2.sig",
    b"Bearer SECRET-1",
    b"SECRET-1\0",
    b"SECRET-\xe2\x82\xac",
    b"\xff\xfeSECRET",
]


def leaks(error: BaseException) -> bool:
    """Whether its text, its traceback, or anything that it came from holds a piece of the token."""
    shown = "".join(traceback.format_exception(error))
    one: BaseException | None = error
    while one is not None:
        # What would be printed; a context that is suppressed is not.
        shown += str(one) + repr(one) + repr(vars(one))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return _PIECE in shown
