"""The configuration of an Envoy that is only asked whom it lets in: TLS as the gateway's, and an echo behind it.

Rules: what verifies is set as in the gateway: certificate and roots by SDS, names by matchers that come with them. Only
the answer differs: who is not verified gets no further than the handshake, and who is hears his own words again.
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
    sds,
    tcp,
    typed,
    uri_names,
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
    tls = typed(
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        require_client_certificate=True,
        disable_stateless_session_resumption=True,
        disable_stateful_session_resumption=True,
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [sds(certificate_secret)],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": uri_names({"prefix": f"spiffe://{trust_domain}/"}),
                },
                "validation_context_sds_secret_config": sds(bundle_secret),
            },
        },
    )
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
