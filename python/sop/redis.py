"""The connection to Redis. Standalone databases need none."""

from __future__ import annotations

from ._json import encode_text
from ._library import call, native


class RedisOptions:
    """Where a Redis server is, in parts."""

    def __init__(self) -> None:
        self.host = "localhost"
        self.port = 6379
        self.password = ""


class Redis:
    """The one connection to Redis of this process."""

    @staticmethod
    def open_connection(connection_string: str) -> None:
        """Connects to `redis://[:password@]host:port/number`; RedisError for a bad URL or no server there."""
        url = encode_text(connection_string, "the Redis URL")
        call(native.sop_redis_open, url, len(url))

    @staticmethod
    def close_connection() -> None:
        """Closes the connection. Without one, nothing happens."""
        call(native.sop_redis_close)
