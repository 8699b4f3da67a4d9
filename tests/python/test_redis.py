"""The Redis connection: errors are told, a server is reached."""

from __future__ import annotations

import pytest

from redis_server import RedisServer, free_port
from sop import RedisError, ValidationError
from sop.redis import Redis, RedisOptions


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


def test_a_server_that_is_there(redis_server: RedisServer) -> None:
    Redis.open_connection(redis_server.url)
    Redis.open_connection(f"redis://localhost:{redis_server.port}")
    Redis.close_connection()
