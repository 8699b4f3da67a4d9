"""The Redis connection: errors are told, a server is reached."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time

import pytest

from sop import RedisError, ValidationError
from sop.redis import Redis, RedisOptions


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize("url", ["", "nonsense", "http://localhost", "redis://", "redis://localhost:port"])
def test_a_bad_url_raises(url: str) -> None:
    with pytest.raises((RedisError, ValidationError)):
        Redis.open_connection(url)


@pytest.mark.parametrize("url", [None, 7, "redis://\0", "redis://\ud800"])
def test_what_is_no_url(url: object) -> None:
    with pytest.raises((RedisError, ValidationError)):
        Redis.open_connection(url)


def test_a_server_that_is_not_there_raises() -> None:
    with pytest.raises(RedisError):
        Redis.open_connection(f"redis://127.0.0.1:{free_port()}")


def test_closing_without_a_connection_is_no_error() -> None:
    Redis.close_connection()
    Redis.close_connection()
    assert (RedisOptions().host, RedisOptions().port, RedisOptions().password) == ("localhost", 6379, "")


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_server_that_is_there(tmp_path) -> None:
    port = free_port()
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                Redis.open_connection(f"redis://127.0.0.1:{port}/0")
                break
            except RedisError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        Redis.open_connection(f"redis://localhost:{port}")
        Redis.close_connection()
    finally:
        server.terminate()
        server.wait(timeout=20)
