"""The configuration of an Envoy that is only asked whom it lets in: TLS as the gateway's, and an echo behind it.

Rules: what verifies is the gateway's own piece (envoy_parts.workloads_tls). Only the answer differs: who is not
verified gets no further than the handshake, and who is hears his own words again.
Not here: who asks (adapters/anchor_check.py), why (docs/decisions/0033).
"""

from __future__ import annotations

from spangate.compiler.envoy_parts import (
    ONE_SOCKET,
    Json,
    bootstrap,
    cluster,
    overload_manager,
    pipe,
    tcp,
    typed,
    workloads_tls,
)
from spangate.settings import MIB

LISTENER = "check"
# It holds a few certificates and answers some connections.
HEAP_BYTES_MAX = 256 * MIB
CONNECTIONS_MAX = 16


def check_bootstrap(
    host: str, trust_domain: str, admin_socket: str, sds_socket: str, certificate_secret: str, bundle_secret: str
) -> Json:
    """config.bootstrap.v3.Bootstrap; the kernel chooses the port."""
    tls = workloads_tls(trust_domain, certificate_secret, bundle_secret, turn_away=True)
    echo = typed("extensions.filters.network.echo.v3.Echo")
    return bootstrap(
        "spangate-check",
        admin_socket,
        {
            "name": LISTENER,
            "address": tcp(host, 0),
            **ONE_SOCKET,
            "filter_chains": [
                {
                    "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                    "filters": [{"name": "envoy.filters.network.echo", "typed_config": echo}],
                }
            ],
        },
        [cluster("sds", pipe(sds_socket), http2=False)],
        overload_manager(HEAP_BYTES_MAX, CONNECTIONS_MAX),
    )
