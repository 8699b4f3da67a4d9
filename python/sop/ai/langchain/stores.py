"""A byte store: what LangChain keeps parent documents and embeddings in."""

from __future__ import annotations

import base64
from itertools import takewhile
from typing import Iterator, List, Optional, Sequence, Tuple

from langchain_core.stores import ByteStore

from ...context import Context
from ...database import Database


class SOPByteStore(ByteStore):
    """Bytes by key in the unique B-tree `name`, keys in order.

    A call takes all of its keys or none. Values lie there in base64: a B-tree holds JSON.
    """

    def __init__(self, ctx: Context, db: Database, name: str = "langchain_bytes") -> None:
        self._map = db.open_map(ctx, name)

    def __repr__(self) -> str:
        return f"<sop.ai.langchain.SOPByteStore on {self._map!r}>"

    def mget(self, keys: Sequence[str]) -> List[Optional[bytes]]:
        """The values of keys, None for one that is not there."""
        return [None if text is None else base64.b64decode(text) for text in self._map.get_many(keys)]

    def mset(self, key_value_pairs: Sequence[Tuple[str, bytes]]) -> None:
        """Sets the values of keys."""
        self._map.put_many((key, base64.b64encode(value).decode("ascii")) for key, value in key_value_pairs)

    def mdelete(self, keys: Sequence[str]) -> None:
        """Removes keys. One that is not there is no error."""
        self._map.remove_many(keys)

    def yield_keys(self, *, prefix: Optional[str] = None) -> Iterator[str]:
        """Iterates over the keys that begin with a prefix, or all, in order."""
        if not prefix:
            return self._map.keys()
        return takewhile(lambda key: key.startswith(prefix), self._map.keys(prefix))
