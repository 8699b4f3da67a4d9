"""A store of texts in the shape that LangChain pipelines call, with a mocked embedding model.

Run: PYTHONPATH=python python3 examples/langchain_demo.py [folder]
"""

from __future__ import annotations

import sys
import tempfile
import zlib

from sop import Context
from sop.ai import Database, SOPVectorStore

TEXTS = [
    "A B-tree keeps its keys in order.",
    "A transaction is all or nothing.",
    "Tea is best with water just off the boil.",
]


class WordEmbedding:
    """Stands in for a model: texts with words in common, long ones above all, get similar vectors."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        vector = [0.0] * 64
        for word in text.lower().strip(".?").split():
            vector[zlib.crc32(word.encode()) % len(vector)] += len(word)
        return vector


def main(folder: str) -> None:
    ctx = Context()
    with Database(ctx, storage_path=folder) as db:
        store = SOPVectorStore.from_texts(
            TEXTS,
            WordEmbedding(),
            metadatas=[{"topic": "trees"}, {"topic": "transactions"}, {"topic": "tea"}],
            ctx=ctx,
            db=db,
            collection_name="notes",
        )
        store.add_texts(["Cocoa wants milk."], [{"topic": "cocoa"}], ids=["cocoa"])

        for question in ("What is a transaction?", "How hot is water for tea?"):
            best = store.similarity_search(question, k=1)[0]
            print(f"{question} -> {best.page_content} ({best.metadata['topic']})")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
