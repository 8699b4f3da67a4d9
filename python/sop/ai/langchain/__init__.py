"""LangChain over a database: a vector store of texts, a retriever, a byte store, and a cache of answers.

They need langchain-core (`pip install 'sop4py[langchain]'`), which is imported with this module and never
with `sop`. Without it `SOPVectorStore` still takes and finds texts, for scripts that call it alone; what
LangChain itself gives it, and the other classes, raise an ImportError that says what to install.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._core import HAS_LANGCHAIN, Document, missing
from .vectorstore import SOPVectorStore

if TYPE_CHECKING or HAS_LANGCHAIN:
    from .cache import SOPCache
    from .retriever import SOPRetriever
    from .stores import SOPByteStore

__all__ = ["Document", "SOPByteStore", "SOPCache", "SOPRetriever", "SOPVectorStore"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        raise missing(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
