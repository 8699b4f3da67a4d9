"""A cache of what language models answered."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Optional, Sequence

from langchain_core._api.beta_decorator import suppress_langchain_beta_warning
from langchain_core.caches import BaseCache
from langchain_core.load import dumps, loads
from langchain_core.outputs import Generation

from ...context import Context
from ...database import Database


class SOPCache(BaseCache):
    """Answers by prompt and model in the unique B-tree `name`. `set_llm_cache(SOPCache(ctx, db))` uses it."""

    def __init__(self, ctx: Context, db: Database, name: str = "langchain_cache") -> None:
        self._map = db.open_map(ctx, name)

    def __repr__(self) -> str:
        return f"<sop.ai.langchain.SOPCache on {self._map!r}>"

    def lookup(self, prompt: str, llm_string: str) -> Optional[Sequence[Generation]]:
        """The answers to a prompt of a model, or None."""
        stored = self._map.get(_key(prompt, llm_string))
        if stored is None:
            return None
        with suppress_langchain_beta_warning():
            return [loads(text, allowed_objects="core") for text in stored]

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        """Keeps the answers to a prompt of a model."""
        self._map[_key(prompt, llm_string)] = [dumps(generation) for generation in return_val]

    def clear(self, **kwargs: Any) -> None:
        """Forgets all answers."""
        self._map.clear()


def _key(prompt: str, llm_string: str) -> str:
    # A digest: prompts are longer than keys may be.
    return hashlib.sha256(json.dumps([llm_string, prompt]).encode("utf-8")).hexdigest()
