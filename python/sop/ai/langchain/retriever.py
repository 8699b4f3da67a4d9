"""A retriever with the number of documents as a field of its own."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore


class SOPRetriever(BaseRetriever):
    """The `k` documents of a vector store nearest to a question, with a `filter` on their metadata or none.

    Both may be given to a single call as well: `retriever.invoke(question, k=2)`. `as_retriever` of the store
    is LangChain's own, with search types and search_kwargs.
    """

    vectorstore: VectorStore
    k: int = 4
    filter: Optional[Dict[str, Any]] = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> List[Document]:
        asked = {"k": self.k, "filter": self.filter, **kwargs}
        return self.vectorstore.similarity_search(query, **asked)
