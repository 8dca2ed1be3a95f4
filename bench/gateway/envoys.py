"""Envoy configurations of the bench: the backend, and the product's gateway with parts of it taken away.

Rules: what is compared differs in exactly one thing. The plain gateway is the product's own configuration without the
filters and without the access log: same TLS, same pools, same limits.
Not here: the configurations that are measured (spangate.compiler).
"""

from __future__ import annotations

import copy
from typing import Any

from spangate.compiler.envoy_parts import ROUTER, Json, bootstrap, overload_manager, pipe, tcp, typed
from spangate.compiler.gateway import CONNECTIONS_MAX, HEAP_BYTES_MAX

# More than the load ever has in flight.
STREAMS_MAX = 1024
BACKEND_LISTENER = "backend"
BODY_BYTES_MAX = 1024 * 1024


def backend(admin: str) -> Json:
    """Answers every request by itself, as soon as it has read all of it: 200, gRPC status OK, no message."""
    buffer = typed("extensions.filters.http.buffer.v3.Buffer", max_request_bytes=BODY_BYTES_MAX)
    answer = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in (("content-type", "application/grpc"), ("grpc-status", "0"))
        ],
    }
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="backend",
        codec_type="HTTP2",
        http2_protocol_options={"max_concurrent_streams": STREAMS_MAX},
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answer]}]},
        http_filters=[{"name": "envoy.filters.http.buffer", "typed_config": buffer}, ROUTER],
    )
    listener: Json = {
        "name": BACKEND_LISTENER,
        "address": tcp("127.0.0.1", 0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return bootstrap("backend", admin, listener, [], overload_manager(HEAP_BYTES_MAX, CONNECTIONS_MAX))


def without_filters(gateway: Json) -> Json:
    """The gateway's configuration as a proxy that checks nothing, its access log kept."""
    plain: Any = copy.deepcopy(gateway)
    manager = _manager(plain)
    manager["http_filters"] = [ROUTER]
    del manager["local_reply_config"]
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        route.pop("typed_per_filter_config", None)
    return _json(plain)


def without_access_log(gateway: Json) -> Json:
    """The same configuration writing nothing."""
    silent: Any = copy.deepcopy(gateway)
    del _manager(silent)["access_log"]
    return _json(silent)


def with_admin(gateway: Json, admin: str) -> Json:
    """The same configuration with its admin interface elsewhere."""
    moved: Any = copy.deepcopy(gateway)
    moved["admin"]["address"] = pipe(admin)
    return _json(moved)


def _manager(gateway: Any) -> Any:  # noqa: ANN401 - JSON of any depth
    return gateway["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def _json(value: Any) -> Json:  # noqa: ANN401 - JSON of any depth
    return dict(value)
