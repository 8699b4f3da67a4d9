"""Stands in for chromadb: the calls that `from_chroma` makes, and what they answer in chromadb 1.5.9.

A folder holds `chroma.sqlite3`, here the JSON text of its collections. As there, rows and the fields
of metadata come in any order.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

DICE = random.Random(5)


class Settings:
    def __init__(self, anonymized_telemetry: bool) -> None:
        assert not anonymized_telemetry


class Collection:
    def __init__(self, name: str, fields: dict) -> None:
        self.name = name
        self.configuration_json = {"hnsw": {"space": fields["space"]}, "spann": None}
        self._rows = fields["rows"]

    def count(self) -> int:
        return len(self._rows)

    def get(self, ids: list[str] | None = None, include: list[str] | None = None) -> dict:
        rows = [row for row in self._rows if ids is None or row["id"] in ids]
        DICE.shuffle(rows)
        found: dict = {"ids": [row["id"] for row in rows]}
        if "embeddings" in include:
            found["embeddings"] = np.array([row["embedding"] for row in rows], dtype=np.float32)
        for part in ("document", "metadata", "uri"):
            if f"{part}s" in include:
                found[f"{part}s"] = [_shuffled(row.get(part)) for row in rows]
        return found


def _shuffled(value: object) -> object:
    if not isinstance(value, dict):
        return value
    fields = list(value.items())
    DICE.shuffle(fields)
    return dict(fields)


class PersistentClient:
    def __init__(self, path: str, settings: Settings) -> None:
        said = json.loads(Path(path, "chroma.sqlite3").read_text(encoding="utf-8"))
        self._collections = [Collection(name, fields) for name, fields in said.items()]

    def count_collections(self) -> int:
        return len(self._collections)

    def list_collections(self, limit: int, offset: int) -> list[Collection]:
        return self._collections[offset : offset + limit]
