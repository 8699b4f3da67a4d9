"""The Redis server of this process, for Clustered databases: it makes them faster, and decides nothing.

Without one they look at redis://localhost:6379 when they are opened. Standalone databases need none.
"""

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
    """The one Redis server of this process. A child made by fork starts without one.

    As a context manager it closes the connection: `with Redis.open_connection(url): ...`.
    """

    @staticmethod
    def open_connection(connection_string: str) -> Redis:
        """Connects to `redis://[user:password@]host[:port][/number]` (`rediss://` for TLS), in place of the
        server before. RedisError for a bad URL, or when nobody answers there.
        """
        url = encode_text(connection_string, "the Redis URL")
        call(native.sop_redis_open, url, len(url))
        return Redis()

    @staticmethod
    def close_connection() -> None:
        """Closes the connection: open databases go on without. Without one, nothing happens."""
        call(native.sop_redis_close)

    def __enter__(self) -> Redis:
        return self

    def __exit__(self, *_: object) -> None:
        Redis.close_connection()
