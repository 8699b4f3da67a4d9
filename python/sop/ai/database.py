"""A database opened for its vector stores."""

from __future__ import annotations

import os
from typing import Mapping, Sequence

from ..context import Context
from ..database import Database
from ..transaction import DBType, ErasureCodingConfig
from .vector import Metric, UsageMode, VectorStore, usage_mode_value


class VectorDatabase(Database):
    """A Database whose vector stores have a usage mode, and open without a transaction."""

    def __init__(
        self,
        ctx: Context,
        storage_path: str | os.PathLike[str] = "",
        db_type: DBType = DBType.Standalone,
        erasure_config: Mapping[str, ErasureCodingConfig] | None = None,
        stores_folders: Sequence[str | os.PathLike[str]] | None = None,
        usage_mode: UsageMode = UsageMode.Dynamic,
        *,
        memory_limit: int | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__(
            ctx,
            storage_path,
            db_type,
            erasure_config,
            stores_folders,
            memory_limit=memory_limit,
            read_only=read_only,
        )
        self.usage_mode = UsageMode(usage_mode_value(usage_mode))

    def open(self, ctx: Context, name: str, metric: Metric | None = None) -> VectorStore:
        """The vector store `name`; its calls commit by themselves. The first write makes a missing one.

        A store keeps the metric it is made with, cosine if None is given; calls with another one raise
        ValidationError.
        """
        return VectorStore._open(ctx, self._folder, name, self._usage_mode(), metric)

    def _usage_mode(self) -> int:
        return self.usage_mode.value
