"""The stand-in for Google's token service and IAM Credentials as one: a request in, an answer out.

    POST /v1/token                                                        token exchange
    POST /v1/introspect                                                   whose token that is
    POST /v1/projects/-/serviceAccounts/<email>:generateAccessToken       impersonation
    GET  /v1/projects/-/serviceAccounts/<email>/allowedLocations          what client libraries look up besides
    GET  /v1/projects/<n>/locations/global/workloadIdentityPools/<pool>/allowedLocations

Rules: this is NOT Google. What it gives out begins with `spangate-standin.` and is worth nothing elsewhere.
Not here: sockets and TLS (adapters/standin_door.py).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from spangate.standin import answers
from spangate.standin.access_token import TokenMint
from spangate.standin.answers import Answer, Refused
from spangate.standin.asked import Asked
from spangate.standin.config import StandInConfig
from spangate.standin.faults import Faults
from spangate.standin.iam_credentials import IamCredentials
from spangate.standin.id_token import Keys
from spangate.standin.sts import TokenService

_GENERATE = re.compile(r"/v1/(.+):generateAccessToken")
_LOCATIONS = re.compile(r"/v1/(.+)/allowedLocations")


class StandIn:
    """Both services over one configuration. Not for several threads at once."""

    def __init__(
        self, config: StandInConfig, mint: TokenMint, now: Callable[[], datetime], nonce: Callable[[], str], keys: Keys
    ) -> None:
        """`nonce`: letters that differ each time. `keys`: where issuers' keys come from that are not configured."""
        self.config = config
        self.faults = Faults()
        # How many requests each part had, failed ones included.
        self.asked: Counter[str] = Counter()
        self._tokens = TokenService(mint, now, nonce, keys)
        self._iam = IamCredentials(mint, now, nonce)

    def answer(self, asked: Asked) -> Answer:
        """What Google would say, as far as it is known."""
        try:
            return self._answer(asked)
        except Refused as refused:
            return refused.answer

    def _answer(self, asked: Asked) -> Answer:
        if asked.path == "/v1/introspect" and asked.method == "POST":
            return self._tokens.introspect(asked, self.config)
        generate = _GENERATE.fullmatch(asked.path)
        locations = _LOCATIONS.fullmatch(asked.path)
        if asked.path == "/v1/token" and asked.method == "POST":
            return self._counted("token") or self._tokens.exchange(asked, self.config)
        if generate and asked.method == "POST":
            return self._counted("iam") or self._iam.generate_access_token(generate[1], asked, self.config)
        if locations and asked.method == "GET":
            self.asked["locations"] += 1
            return self._iam.allowed_locations(locations[1], asked, self.config)
        return answers.not_found(asked.path[:128])

    def _counted(self, part: str) -> Answer | None:
        self.asked[part] += 1
        return self.faults.due(part)
