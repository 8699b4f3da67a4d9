"""A vector store of texts, as LangChain's pipelines call it."""

from __future__ import annotations

import copy
import math
import uuid
from typing import Any, Callable, Iterable, List, Mapping, Sequence, Tuple, TypeVar

from ... import retry
from ..._progress import Progress, steps
from ...context import Context
from ...database import Database
from ...errors import ValidationError
from ...transaction import Transaction, TransactionMode
from ..vector import Hit, Metric, VectorStore
from ._core import HAS_LANGCHAIN, Document, missing
from ._core import VectorStore as LangChainVectorStore

_R = TypeVar("_R")

# Texts that are embedded between two calls of a progress function.
_EMBEDDED = 100

# A score of each metric as a relevance of 0 to 1.
_RELEVANCE: Mapping[int, Callable[[float], float]] = {
    Metric.Cosine: lambda score: (1 + score) / 2,
    Metric.Dot: lambda score: 1 / (1 + math.exp(-score)) if score > -700 else 0.0,
    Metric.L2: lambda score: 1 / (1 - score),
}


class SOPVectorStore(LangChainVectorStore):
    """Texts in the vector store `collection_name`, found by meaning.

    `embedding` is any object with `embed_documents(texts)` and `embed_query(text)`. The text lies in the
    payload, under `text_key`, beside the fields of the metadata, so that a `filter` is one of
    `VectorStore.query`, on the metadata. Each call is a transaction of its own, a call that writes is run
    again after a conflict; `with_transaction` gives the same store inside a transaction. `metric` is that of
    a new store, cosine by default; scores are the store's, the greater the better.
    """

    def __init__(
        self,
        ctx: Context,
        db: Database,
        collection_name: str,
        embedding: Any,
        *,
        text_key: str = "text",
        metric: Metric | None = None,
        **kwargs: Any,
    ) -> None:
        self.ctx = ctx
        self.db = db
        self.collection_name = collection_name
        self.embedding = embedding
        self.text_key = text_key
        self.metric = metric
        self._transaction: Transaction | None = None

    def __repr__(self) -> str:
        inside = "" if self._transaction is None else " in a transaction"
        return f"<sop.ai.SOPVectorStore {self.collection_name!r} of {self.db!r}{inside}>"

    @property
    def embeddings(self) -> Any:
        """The embedding model."""
        return self.embedding

    def with_transaction(self, trans: Transaction) -> SOPVectorStore:
        """The same store inside a transaction: what it writes takes effect with the commit."""
        inside = copy.copy(self)
        inside._transaction = trans
        return inside

    # Writing

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
        *,
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> List[str]:
        """Embeds and stores texts, all or none; an id that is there is replaced.

        Gives their ids, new ones where none are given. `progress` is told how many texts are embedded, a
        hundred at a time; what it raises stops the call, and nothing is stored.
        """
        contents = list(texts)
        for given, what in ((ids, "ids"), (metadatas, "metadatas")):
            if given is not None and len(given) != len(contents):
                raise ValidationError(f"{len(given)} {what} for {len(contents)} texts")
        names = [id or str(uuid.uuid4()) for id in ids or [None] * len(contents)]
        if not contents:
            return names
        fields = metadatas or [{}] * len(contents)
        payloads = [self._payload(text, metadata) for text, metadata in zip(contents, fields)]
        vectors: List[List[float]] = []
        for part in steps(len(contents), progress, _EMBEDDED):
            vectors += self.embedding.embed_documents(contents[part])
        self._write(lambda store: store.upsert_arrays(self.ctx, names, vectors, payloads))
        return names

    def delete(
        self, ids: Sequence[str] | None = None, *, progress: Progress | None = None, **kwargs: Any
    ) -> bool:
        """Removes texts by id, all of them for None. An id that is not there is no error."""

        def remove(store: VectorStore) -> None:
            gone = store.ids(self.ctx) if ids is None else ids
            store.delete(self.ctx, gone, progress=progress)

        self._write(remove)
        return True

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Any,
        metadatas: Sequence[Mapping[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        ctx: Context | None = None,
        db: Database | None = None,
        collection_name: str = "langchain_store",
        progress: Progress | None = None,
        **kwargs: Any,
    ) -> SOPVectorStore:
        """A store with these texts in it. `ctx` and `db` are required; `kwargs` go to the constructor."""
        if ctx is None or db is None:
            raise ValidationError("from_texts needs ctx and db")
        store = cls(ctx, db, collection_name, embedding, **kwargs)
        store.add_texts(texts, metadatas, ids=ids, progress=progress)
        return store

    # Reading

    def get_by_ids(self, ids: Sequence[str], /) -> List[Document]:
        """The documents of ids, in their order, without those that are not there."""
        # Arrays: nobody makes Python's floats of the vectors then.
        found, _, payloads = self._read(lambda store: store.get_arrays(self.ctx, ids))
        return [self._document(id, payload) for id, payload in zip(found, payloads)]

    def similarity_search(
        self, query: str, k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> List[Document]:
        """The k documents nearest in meaning to a text.

        Here and in the calls below `kwargs` are options of `VectorStore.query`: target_recall, nprobe, exact,
        centroid_ids.
        """
        return self.similarity_search_by_vector(self.embedding.embed_query(query), k, filter, **kwargs)

    def similarity_search_by_vector(
        self, embedding: List[float], k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> List[Document]:
        """The k documents nearest to a vector."""
        return [document for document, _ in self._search(embedding, k, filter, kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> List[Tuple[Document, float]]:
        """As `similarity_search`, with the scores: the greater the better."""
        return self._search(self.embedding.embed_query(query), k, filter, kwargs)

    def similarity_search_with_score_by_vector(
        self, embedding: List[float], k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> List[Tuple[Document, float]]:
        """As `similarity_search_by_vector`, with the scores."""
        return self._search(embedding, k, filter, kwargs)

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> List[Document]:
        """Of the `fetch_k` nearest documents k that are near and unlike each other.

        `lambda_mult` is from 0, the most diverse, to 1, the nearest. It needs NumPy.
        """
        vector = self.embedding.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: List[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> List[Document]:
        """As `max_marginal_relevance_search`, for a vector."""
        if not HAS_LANGCHAIN:
            raise missing("max_marginal_relevance_search")
        import numpy
        from langchain_core.vectorstores.utils import maximal_marginal_relevance

        def nearest(store: VectorStore) -> Tuple[List[Hit], Any]:
            hits = store.query(self.ctx, embedding, fetch_k, filter, **kwargs)
            _, vectors, _ = store.get_arrays(self.ctx, [hit.id for hit in hits])
            return hits, vectors

        hits, vectors = self._read(nearest)
        if not hits:
            return []
        chosen = maximal_marginal_relevance(numpy.array(embedding), list(vectors), lambda_mult, k)
        return [self._document(hits[row].id, hits[row].payload) for row in chosen]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return _RELEVANCE[self._metric()]

    def _metric(self) -> int:
        """The metric of the store, which it keeps, whatever it is opened with."""
        for store in self.db.stores(self.ctx):
            if (store.kind, store.name) == ("vector", self.collection_name):
                return int(store.options["metric"])
        return Metric.Cosine if self.metric is None else self.metric

    def _search(
        self, vector: List[float], k: int, filter: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> List[Tuple[Document, float]]:
        hits = self._read(lambda store: store.query(self.ctx, vector, k, filter, **options))
        return [(self._document(hit.id, hit.payload), hit.score) for hit in hits]

    def _payload(self, text: str, metadata: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.text_key in metadata:
            raise ValidationError(
                f"the metadata has a field {self.text_key!r}, where the text lies: use another text_key"
            )
        return {**metadata, self.text_key: text}

    def _document(self, id: str, payload: Any) -> Document:
        fields = payload if isinstance(payload, Mapping) else {}
        metadata = {name: value for name, value in fields.items() if name != self.text_key}
        return Document(id=id, page_content=str(fields.get(self.text_key, "")), metadata=metadata)

    def _open(self, trans: Transaction) -> VectorStore:
        return self.db.open_vector_store(self.ctx, trans, self.collection_name, self.metric)

    def _read(self, work: Callable[[VectorStore], _R]) -> _R:
        if self._transaction is not None:
            return work(self._open(self._transaction))
        with self.db.begin_transaction(self.ctx, TransactionMode.ForReading) as transaction:
            return work(self._open(transaction))

    def _write(self, work: Callable[[VectorStore], None]) -> None:
        if self._transaction is not None:
            work(self._open(self._transaction))
        else:
            retry.run(self.db, lambda transaction: work(self._open(transaction)), ctx=self.ctx)
