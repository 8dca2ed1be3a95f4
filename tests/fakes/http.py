"""A bare HTTP client for Unix sockets, so that the doors are tested by other code than ours."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path


def exchange(path: Path, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
    status, _, content = exchange_headers(path, method, target, body, {})
    return status, content


def exchange_headers(
    path: Path, method: str, target: str, body: bytes | None, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.connect(str(path))
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def post(path: Path, target: str, body: bytes) -> tuple[int, bytes]:
    return exchange(path, "POST", target, body)


def get(path: Path, target: str) -> tuple[int, bytes]:
    return exchange(path, "GET", target)
