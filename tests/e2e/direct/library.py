"""A program as anybody would write it: Google's library finds its credentials, and refreshes them."""

from __future__ import annotations

import datetime
import json
import sys

import google.auth
import google.auth.transport.requests

credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
request = google.auth.transport.requests.Request()


def used() -> str:
    """What the library would send with a call."""
    headers: dict[str, str] = {}
    credentials.before_request(request, "GET", "https://spanner.googleapis.com/", headers)
    return headers["authorization"].removeprefix("Bearer ")


first = used()
# The library's times are UTC without saying so.
seconds = (credentials.expiry.replace(tzinfo=datetime.UTC) - datetime.datetime.now(datetime.UTC)).total_seconds()
kept = used() == first
# As if its hour had passed.
credentials.expiry -= datetime.timedelta(hours=2)
again = used()
json.dump(
    {
        "kind": f"{type(credentials).__module__}.{type(credentials).__name__}",
        "project": project,
        "first": first,
        "again": again,
        "kept": kept,
        "seconds": seconds,
        "valid": credentials.valid,
    },
    sys.stdout,
)
