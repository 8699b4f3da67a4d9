"""What the vector store takes from langchain-core; where that is not installed, as much as texts need."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, NoReturn, Optional

HAS_LANGCHAIN = importlib.util.find_spec("langchain_core") is not None


def missing(what: str) -> ImportError:
    """The error for something that needs langchain-core."""
    return ImportError(f"{what} needs langchain-core: pip install 'sop4py[langchain]'", name="langchain_core")


if TYPE_CHECKING or HAS_LANGCHAIN:
    from langchain_core.documents import Document as Document
    from langchain_core.vectorstores import VectorStore as VectorStore
else:

    @dataclass
    class Document:
        """A text with its metadata."""

        page_content: str
        metadata: Dict[str, Any] = field(default_factory=dict)
        id: Optional[str] = None

    def _missing(*_: Any, **__: Any) -> NoReturn:
        raise missing("this call of SOPVectorStore")

    class VectorStore:
        """Stands in for the class of langchain-core."""

        add_documents = from_documents = search = as_retriever = _missing
        similarity_search_with_relevance_scores = _missing
        aadd_texts = aadd_documents = adelete = aget_by_ids = afrom_texts = afrom_documents = _missing
        asearch = asimilarity_search = asimilarity_search_with_score = asimilarity_search_by_vector = _missing
        asimilarity_search_with_relevance_scores = amax_marginal_relevance_search = _missing
        amax_marginal_relevance_search_by_vector = _missing
