"""Envoy configurations of the bench: the backend, and the product's gateway with parts of it changed.

Rules: what is compared differs in exactly one thing. The plain gateway is the product's own configuration without the
filters and without the access log: same TLS, same pools, same limits.
Not here: the configurations that are measured (spangate.compiler).
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Sequence
from typing import Any

from spangate.compiler.envoy_parts import ROUTER, Json, bootstrap, overload_manager, pipe, tcp, typed
from spangate.compiler.gateway import CONNECTIONS_MAX, HEAP_BYTES_MAX

# More than the load ever has in flight.
STREAMS_MAX = 1024
BACKEND_LISTENER = "backend"
BODY_BYTES_MAX = 1024 * 1024
LUA = "envoy.filters.http.lua"


def backend(admin: str) -> Json:
    """Answers every request by itself, as soon as it has read all of it: 200, gRPC status OK, no message."""
    buffer = typed("extensions.filters.http.buffer.v3.Buffer", max_request_bytes=BODY_BYTES_MAX)
    routes = [_answer({"prefix": "/"}, None)]
    manager = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="backend",
        codec_type="HTTP2",
        http2_protocol_options={"max_concurrent_streams": STREAMS_MAX},
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        http_filters=[{"name": "envoy.filters.http.buffer", "typed_config": buffer}, ROUTER],
    )
    listener: Json = {
        "name": BACKEND_LISTENER,
        "address": tcp("127.0.0.1", 0),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return bootstrap("backend", admin, listener, [], overload_manager(HEAP_BYTES_MAX, CONNECTIONS_MAX))


def framed(encoded: bytes) -> bytes:
    """A gRPC message: not compressed, length, bytes."""
    return b"\0" + len(encoded).to_bytes(4, "big") + encoded


def without_filters(gateway: Json) -> Json:
    """The gateway's configuration as a proxy that checks nothing, its access log kept."""
    return with_filters(gateway, [])


def with_filters(gateway: Json, filters: Sequence[Json]) -> Json:
    """The gateway's configuration with these HTTP filters before the router and nothing that belongs to its own."""
    changed: Any = copy.deepcopy(gateway)
    manager = _manager(changed)
    manager["http_filters"] = [*filters, ROUTER]
    manager.pop("local_reply_config", None)
    for route in manager["route_config"]["virtual_hosts"][0]["routes"]:
        route.pop("typed_per_filter_config", None)
    return _json(changed)


def lua(source: str) -> Json:
    """The Lua filter with `source`, as the product configures it."""
    return {
        "name": LUA,
        "typed_config": typed(
            "extensions.filters.http.lua.v3.Lua",
            default_source_code={"inline_string": source},
            clear_route_cache=False,
        ),
    }


def guard_of(gateway: Json) -> Json:
    """The product's own guard behind the filter."""
    found: list[Json] = _manager(gateway)["http_filters"]
    return copy.deepcopy(next(one for one in found if one["name"] == "envoy.filters.http.rbac"))


def without_access_log(gateway: Json) -> Json:
    """The same configuration writing nothing."""
    silent: Any = copy.deepcopy(gateway)
    del _manager(silent)["access_log"]
    return _json(silent)


def moved(gateway: Json, admin: str, access_log: str) -> Json:
    """The same configuration with its admin interface and its access log elsewhere."""
    changed: Any = copy.deepcopy(gateway)
    changed["admin"]["address"] = pipe(admin)
    for log in _manager(changed).get("access_log", []):
        log["typed_config"]["path"] = access_log
    return _json(changed)


def manager_of(gateway: Json) -> Any:  # noqa: ANN401 - JSON of any depth
    """The HTTP connection manager's configuration, to be changed in a copy."""
    return _manager(gateway)


def _answer(match: Json, message: bytes | None) -> Json:
    direct: Json = {"status": 200}
    if message is not None:
        direct["body"] = {"inline_bytes": base64.b64encode(framed(message)).decode()}
    return {
        "match": match,
        "direct_response": direct,
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in (("content-type", "application/grpc"), ("grpc-status", "0"))
        ],
    }


def _manager(gateway: Any) -> Any:  # noqa: ANN401 - JSON of any depth
    return gateway["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


def _json(value: Any) -> Json:  # noqa: ANN401 - JSON of any depth
    return dict(value)
