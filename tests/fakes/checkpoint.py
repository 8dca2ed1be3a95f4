"""A checkpoint that answers as it is told, and counts."""

from __future__ import annotations

from dataclasses import dataclass, field

from fakes.envoy import IDENTITY, Call, Reply
from fakes.seals import KEYS

ROLE = b"sg_checkout"
OWNER = b"abcdefghijklm"
TAG = b"sg:abcdefghijklm:0123456789ab"
AWAY = Reply({b":status": b"503"}, b"upstream connect error or disconnect/reset before headers")


@dataclass
class FakeCheckpoint:
    """Allows or denies everything under `epoch`; `replies` overrides by path."""

    epoch: bytes = b"0123456789ab"
    allows: bool = True
    role: bytes = ROLE
    tag: bytes = TAG
    owner: bytes = OWNER
    # Further headers of an allow.
    more: dict[bytes, bytes] = field(default_factory=dict)
    message: bytes = b"spangate: denied"
    # The status and reason of a denial.
    status: bytes = b"7"
    reason: bytes = b"missing-grant"
    keys: bytes = KEYS
    # Further headers of an epoch.
    told: dict[bytes, bytes] = field(default_factory=dict)
    replies: dict[bytes, Reply] = field(default_factory=dict)
    asked: list[tuple[bytes, bytes]] = field(default_factory=list)
    epochs_asked: int = 0

    def __call__(self, call: Call) -> Reply:
        if call.path == b"/epoch":
            self.epochs_asked += 1
            headers = {b":status": b"200", b"x-spangate-epoch": self.epoch, b"x-spangate-seal": self.keys}
            headers |= self.told
            return self.replies.get(b"/epoch", Reply(headers))
        assert call.path == b"/decide"
        assert call.body is not None
        self.asked.append((call.headers[b"x-spangate-identity"], call.body))
        return self.replies.get(b"/decide", self.decision())

    def decision(self) -> Reply:
        """The answer to /decide as long as nothing overrides it."""
        common = {b":status": b"200", b"x-spangate-id": b"d%d" % len(self.asked), b"x-spangate-epoch": self.epoch}
        if self.allows:
            allow = {
                b"x-spangate-decision": b"allow",
                b"x-spangate-role": self.role,
                b"x-spangate-tag": self.tag,
                b"x-spangate-owner": self.owner,
                b"x-spangate-subject": self.subject(),
            }
            return Reply({**common, **allow, **self.more})
        deny = {
            b"x-spangate-decision": b"deny",
            b"x-spangate-reason": self.reason,
            b"x-spangate-status": self.status,
        }
        return Reply({**common, **deny}, self.message)

    def subject(self) -> bytes:
        """Whom the last question was about, by the aliases that an epoch tells."""
        identity = self.asked[-1][0] if self.asked else IDENTITY
        for pair in filter(None, self.told.get(b"x-spangate-aliases", b"").split(b",")):
            alias, domain = pair.split(b"=")
            if identity.startswith(b"spiffe://" + alias + b"/"):
                return b"spiffe://" + domain + identity.removeprefix(b"spiffe://" + alias)
        return identity

    def goes_away(self) -> None:
        self.replies = {b"/epoch": AWAY, b"/decide": AWAY}

    def comes_back(self) -> None:
        self.replies = {}
