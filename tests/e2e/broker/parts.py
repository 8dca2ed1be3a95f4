"""A site whose gateway sends tokens on: authority, stand-in for Google, broker, and a Spanner that remembers them."""

from __future__ import annotations

import json
import signal
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.harness import GATEWAY, TRUST_DOMAIN, Site, eventually, site
from fakes.standin import StandInProcess
from fakes.tokens import jwt_authority
from spangate.adapters.clock import SystemClock
from spangate.adapters.intent_files import load_policy
from spangate.adapters.process import Child
from spangate.adapters.svid_door import svid_app
from spangate.adapters.unix_server import UnixServer
from spangate.authority.jwt_svid import JwtAuthority
from spangate.standin.derive import standin_config_for

ISSUER = "https://id.shop.example"
# What begins every token of the stand-in.
PREFIX = b"spangate-standin."


class TokenSite:
    """A Site, and what stands between its gateway and Google."""

    def __init__(self, found: Site, tokens: JwtAuthority, standin: StandInProcess) -> None:
        self.site = found
        self.tokens = tokens
        self.standin = standin
        self.broker: Child | None = None

    def start_broker(self) -> Child:
        """Or start it again, on the same socket."""
        folder = self.site.folder
        argv = [sys.executable, "-m", "spangate.app.broker_process", "--intent", str(folder / "spangate.yaml")]
        argv += ["--socket", str(self.site.broker_socket), "--authority", str(self.site.sockets / "authority.sock")]
        argv += ["--sts", self.standin.url, "--iam-credentials", self.standin.url]
        child = Child("broker", argv, folder / "broker.log")
        self.site.stack.callback(child.stop)
        self.broker = child

        def listens() -> bool:
            child.check()
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(self.site.broker_socket)) == 0

        eventually(listens, "the broker listens")
        return child

    def kill_broker(self) -> None:
        assert self.broker is not None
        self.broker._process.send_signal(signal.SIGKILL)
        self.broker._process.wait()

    def configure(self, **changes: Any) -> None:
        """Another set-up at Google: `changes` are of the provider."""
        config = standin_config(self.site.folder, self.tokens)
        config["pools"][0]["providers"][0].update(changes)
        self.standin.put("config", config)

    def subject(self, authorization: str | bytes) -> str:
        """Whose token that is, asked of who gave it out."""
        text = authorization if isinstance(authorization, str) else authorization.decode()
        kind, _, token = text.partition(" ")
        assert kind == "Bearer"
        return str(self.introspect(token)["sub"])

    def introspect(self, token: str) -> Mapping[str, Any]:
        body = urllib.parse.urlencode({"token": token}).encode()
        with urllib.request.urlopen(f"{self.standin.url}/v1/introspect", body, timeout=10) as answer:
            return dict(json.load(answer))


def standin_config(folder: Path, tokens: JwtAuthority) -> dict[str, Any]:
    """What the intent's operator would have set up at Google."""
    policy = load_policy(folder / "spangate.yaml")
    assert policy.google is not None
    impersonations = {policy.identities[name]: one for name, one in policy.impersonations.items()}
    return standin_config_for(
        policy.google,
        policy.trust_domain,
        issuer=tokens.issuer,
        jwks_json=json.dumps(dict(tokens.jwks())),
        impersonations=impersonations,
    )


@contextmanager
def token_site(folder: Path) -> Iterator[TokenSite]:
    """Everything but a gateway."""
    with site(folder, broker=True) as found:
        tokens = jwt_authority(SystemClock(), TRUST_DOMAIN, ISSUER)
        app = svid_app(found.authority, tokens, reserved=[GATEWAY])
        found.stack.enter_context(UnixServer(app, found.sockets / "authority.sock", name="authority"))
        config = standin_config(folder, tokens)
        standin = found.stack.enter_context(StandInProcess(config, folder, "--ruled"))
        made = TokenSite(found, tokens, standin)
        made.start_broker()
        yield made
