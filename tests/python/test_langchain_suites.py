"""LangChain's own suites over the adapters. `test_langchain.py` pins how many tests are in them."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_tests.integration_tests import (
    AsyncCacheTestSuite,
    BaseStoreAsyncTests,
    BaseStoreSyncTests,
    RetrieversIntegrationTests,
    SyncCacheTestSuite,
    VectorStoreIntegrationTests,
)

from sop import Context, Database
from sop.ai.langchain import SOPByteStore, SOPCache, SOPRetriever, SOPVectorStore


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, ctx: Context, db: Database) -> SOPVectorStore:
        return SOPVectorStore(ctx, db, "texts", self.get_embeddings())


class _Bytes:
    @pytest.fixture
    def kv_store(self, ctx: Context, db: Database) -> SOPByteStore:
        return SOPByteStore(ctx, db)

    @pytest.fixture
    def three_values(self) -> tuple[bytes, bytes, bytes]:
        return b"", b"\x00\xff not text", b"text"


class TestByteStore(_Bytes, BaseStoreSyncTests[bytes]):
    pass


class TestAsyncByteStore(_Bytes, BaseStoreAsyncTests[bytes]):
    pass


class _Cache:
    @pytest.fixture
    def cache(self, ctx: Context, db: Database) -> SOPCache:
        return SOPCache(ctx, db)


class TestCache(_Cache, SyncCacheTestSuite):
    pass


class TestAsyncCache(_Cache, AsyncCacheTestSuite):
    pass


class TestRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def store(self, ctx: Context, tmp_path: Path) -> Iterator[None]:
        with Database(ctx, tmp_path / "texts") as db:
            self.texts = SOPVectorStore(ctx, db, "texts", DeterministicFakeEmbedding(size=6))
            self.texts.add_documents([Document(f"text {row}") for row in range(5)])
            yield

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return SOPRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, object]:
        return {"vectorstore": self.texts}

    @property
    def retriever_query_example(self) -> str:
        return "text 3"
