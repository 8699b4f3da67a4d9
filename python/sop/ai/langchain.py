"""A vector store of texts in the shape that LangChain pipelines call. It does not need LangChain."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Sequence

from ..context import Context
from ..database import Database
from ..errors import ValidationError
from ..transaction import TransactionMode
from .vector import Item

_TEXT = "text"


@dataclass
class Document:
    """A text with its metadata."""

    page_content: str
    metadata: Dict[str, Any] = field(default_factory=dict)


class SOPVectorStore:
    """Texts in a vector store, found by meaning.

    `embedding` is any object with `embed_documents(texts)` and `embed_query(text)`. The text lies in the
    payload, under "text", beside the metadata.
    """

    def __init__(
        self, ctx: Context, db: Database, collection_name: str, embedding: Any, **kwargs: Any
    ) -> None:
        self.ctx = ctx
        self.db = db
        self.collection_name = collection_name
        self.embedding = embedding

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> List[str]:
        """Embeds and stores texts, all in one transaction. Gives their ids, new ones if none are given."""
        contents = list(texts)
        names = [str(uuid.uuid4()) for _ in contents] if ids is None else list(ids)
        for given, what in ((names, "ids"), (metadatas, "metadatas")):
            if given is not None and len(given) != len(contents):
                raise ValidationError(f"{len(given)} {what} for {len(contents)} texts")
        vectors = self.embedding.embed_documents(contents)
        items = [
            Item(name, vector, {**(metadatas[row] if metadatas else {}), _TEXT: content})
            for row, (name, vector, content) in enumerate(zip(names, vectors, contents))
        ]
        with self.db.begin_transaction(self.ctx) as transaction:
            self.db.open_vector_store(self.ctx, transaction, self.collection_name).upsert_batch(
                self.ctx, items
            )
        return names

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> List[Document]:
        """The k documents nearest in meaning to a text."""
        vector = self.embedding.embed_query(query)
        with self.db.begin_transaction(self.ctx, TransactionMode.ForReading) as transaction:
            store = self.db.open_vector_store(self.ctx, transaction, self.collection_name)
            hits = store.query(self.ctx, vector=vector, k=k)
        return [_document(hit.payload or {}) for hit in hits]

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Any,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ctx: Context | None = None,
        db: Database | None = None,
        collection_name: str = "langchain_store",
        ids: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> SOPVectorStore:
        """A store with these texts in it. `ctx` and `db` are required."""
        if ctx is None or db is None:
            raise ValidationError("from_texts needs ctx and db")
        store = cls(ctx, db, collection_name, embedding)
        store.add_texts(texts, metadatas, ids)
        return store


def _document(payload: Mapping[str, Any]) -> Document:
    metadata = {name: value for name, value in payload.items() if name != _TEXT}
    return Document(str(payload.get(_TEXT, "")), metadata)
