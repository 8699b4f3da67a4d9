"""The LangChain adapters beyond LangChain's own suites, and how many tests are in those."""

from __future__ import annotations

import asyncio
import collections
import subprocess
import sys
from pathlib import Path

import pytest
from langchain_core.caches import BaseCache
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.stores import BaseStore
from langchain_core.vectorstores import VectorStore

from conftest import environment, run_script
from sop import Context, Database, ValidationError
from sop.ai import Metric, SOPVectorStore
from sop.ai.langchain import SOPByteStore, SOPCache, SOPRetriever

SUITES = Path(__file__).with_name("test_langchain_suites.py")
# Of langchain-tests 1.1.9. A suite that collects fewer has lost tests; a newer one may have more.
COLLECTED = {
    "TestVectorStore": 25,
    "TestByteStore": 12,
    "TestAsyncByteStore": 12,
    "TestCache": 8,
    "TestAsyncCache": 8,
    "TestRetriever": 5,
}


class Letters:
    """Embeds a text as how often it has each letter."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [float(text.count(letter)) for letter in "abc"]


@pytest.fixture
def texts(ctx: Context, db: Database) -> SOPVectorStore:
    store = SOPVectorStore(ctx, db, "texts", Letters())
    metadatas = [{"n": 1, "kind": "one"}, {"n": 2, "kind": "one"}, {"n": 3, "kind": "two"}]
    store.add_texts(["aaaa", "aaab", "bbbb"], metadatas, ids=["a", "ab", "b"])
    return store


def contents(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


def test_the_suites_have_all_their_tests() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(SUITES)]
    listed = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    classes = [line.split("::")[1] for line in listed.splitlines() if "::" in line]
    assert collections.Counter(classes) == COLLECTED


def test_they_are_langchains_own_kinds(texts: SOPVectorStore, ctx: Context, db: Database) -> None:
    assert isinstance(texts, VectorStore)
    assert isinstance(SOPByteStore(ctx, db), BaseStore)
    assert isinstance(SOPCache(ctx, db), BaseCache)
    assert isinstance(texts.embeddings, Letters)


def test_texts(ctx: Context, db: Database) -> None:
    metadatas = [{"n": 1}, {"n": 2}]
    store = SOPVectorStore.from_texts(
        ["aaaa", "bbbb"], Letters(), metadatas, ctx=ctx, db=db, collection_name="texts"
    )
    assert metadatas == [{"n": 1}, {"n": 2}]
    assert store.add_texts(iter(["abab"]), ids=["x"]) == ["x"]
    assert len(set(store.add_texts(["c", "d"]))) == 2
    best = store.similarity_search("aaaa", k=1)[0]
    assert (best.page_content, best.metadata) == ("aaaa", {"n": 1})
    assert len(store.similarity_search("b")) == 4
    again = SOPVectorStore(ctx, db, "texts", Letters())
    assert len(again.similarity_search("b", k=10)) == 5
    assert store.add_texts([]) == []
    for call in (
        lambda: store.add_texts(["a", "b"], [{}]),
        lambda: store.add_texts(["a", "b"], ids=["1"]),
        lambda: SOPVectorStore.from_texts(["a"], Letters()),
    ):
        with pytest.raises(ValidationError):
            call()


def test_from_documents_keeps_their_ids(ctx: Context, db: Database) -> None:
    documents = [Document("aa", id="x"), Document("bb")]
    store = SOPVectorStore.from_documents(documents, Letters(), ctx=ctx, db=db)
    found = store.similarity_search("aa", k=2)
    assert found[0] == documents[0]
    assert found[1].id not in (None, "")


def test_a_filter_is_one_of_the_metadata(texts: SOPVectorStore) -> None:
    assert contents(texts.similarity_search("a", k=3, filter={"kind": "two"})) == ["bbbb"]
    assert contents(texts.similarity_search("b", k=3, filter={"n": {"$lt": 3}})) == ["aaab", "aaaa"]
    assert contents(texts.similarity_search("b", k=1, filter={"n": {"$lt": 3}}, exact=True)) == ["aaab"]


@pytest.mark.parametrize(
    ("metric", "same", "other"), [(None, 1.0, 0.0), (Metric.Dot, 16.0, 0.0), (Metric.L2, 0.0, -(32**0.5))]
)
def test_scores_are_the_stores_and_relevances_from_0_to_1(
    ctx: Context, db: Database, metric: Metric | None, same: float, other: float
) -> None:
    SOPVectorStore(ctx, db, "m", Letters(), metric=metric).add_texts(["aaaa", "bbbb"])
    store = SOPVectorStore(ctx, db, "m", Letters())
    found = store.similarity_search_with_score("aaaa", k=2)
    assert [document.page_content for document, _ in found] == ["aaaa", "bbbb"]
    assert [score for _, score in found] == pytest.approx([same, other])
    assert store.similarity_search_with_score_by_vector([4.0, 0, 0], k=2) == found
    relevances = [score for _, score in store.similarity_search_with_relevance_scores("aaaa", k=2)]
    assert 0 <= relevances[1] < relevances[0] <= 1
    above = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": relevances[0]}
    )
    assert contents(above.invoke("aaaa")) == ["aaaa"]


def test_marginal_relevance_prefers_what_is_unlike_the_first(texts: SOPVectorStore) -> None:
    assert contents(texts.similarity_search("aaab", k=2)) == ["aaab", "aaaa"]
    assert contents(texts.max_marginal_relevance_search("aaab", k=2, lambda_mult=0.1)) == ["aaab", "bbbb"]
    assert contents(texts.max_marginal_relevance_search("aaab", k=2, lambda_mult=1)) == ["aaab", "aaaa"]
    by_vector = texts.max_marginal_relevance_search_by_vector
    assert contents(by_vector([3.0, 1.0, 0.0], k=3, fetch_k=2)) == ["aaab", "aaaa"]
    assert by_vector([3.0, 1.0, 0.0], filter={"kind": "none"}) == []


def test_retrievers(texts: SOPVectorStore) -> None:
    assert contents(texts.as_retriever(search_kwargs={"k": 2}).invoke("aaa")) == ["aaaa", "aaab"]
    diverse = texts.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.1})
    assert contents(diverse.invoke("aaab")) == ["aaab", "bbbb"]
    retriever = SOPRetriever(vectorstore=texts, k=1, filter={"kind": "one"})
    assert contents(retriever.invoke("b")) == ["aaab"]
    assert contents(retriever.invoke("b", filter=None)) == ["bbbb"]


def test_delete_by_id_and_of_all(texts: SOPVectorStore) -> None:
    assert texts.delete(["a", "nothing"])
    assert contents(texts.get_by_ids(["b", "a", "ab"])) == ["bbbb", "aaab"]
    assert texts.delete()
    assert texts.similarity_search("a") == []
    assert texts.delete()


def test_texts_and_other_stores_commit_together(texts: SOPVectorStore, ctx: Context, db: Database) -> None:
    rows = db.open_map(ctx, "rows")
    with pytest.raises(RuntimeError), db.begin_transaction(ctx) as t:
        inside = texts.with_transaction(t)
        inside.add_texts(["cccc"], ids=["c"])
        rows.with_transaction(t)["c"] = 1
        assert contents(inside.get_by_ids(["c"])) == ["cccc"]
        assert texts.get_by_ids(["c"]) == []
        raise RuntimeError("not yet")
    assert (texts.get_by_ids(["c"]), "c" in rows) == ([], False)
    with db.begin_transaction(ctx) as t:
        texts.with_transaction(t).add_texts(["cccc"], ids=["c"])
        rows.with_transaction(t)["c"] = 1
    assert (contents(texts.get_by_ids(["c"])), "c" in rows) == (["cccc"], True)


def test_metadata_is_never_lost_to_the_text(texts: SOPVectorStore, ctx: Context, db: Database) -> None:
    with pytest.raises(ValidationError, match="text_key"):
        texts.add_texts(["a"], [{"text": "of the metadata"}])
    other = SOPVectorStore(ctx, db, "other", Letters(), text_key="page")
    other.add_texts(["a"], [{"text": "of the metadata"}])
    document = other.similarity_search("a")[0]
    assert (document.page_content, document.metadata) == ("a", {"text": "of the metadata"})


def test_async_calls_of_a_hundred_tasks_agree_with_the_others(texts: SOPVectorStore) -> None:
    async def search() -> list[list[Document]]:
        await texts.aadd_texts(["cccc"], ids=["c"])
        return await asyncio.gather(*(texts.asimilarity_search("ccc", k=1) for _ in range(100)))

    assert asyncio.run(search()) == [texts.get_by_ids(["c"])] * 100


def test_byte_store_keys_of_a_prefix(ctx: Context, db: Database) -> None:
    store = SOPByteStore(ctx, db, "bytes")
    store.mset([(key, key.encode()) for key in ("b", "ab", "a", "abc", "aé")])
    assert list(store.yield_keys()) == ["a", "ab", "abc", "aé", "b"]
    assert list(store.yield_keys(prefix="ab")) == ["ab", "abc"]
    assert list(store.yield_keys(prefix="c")) == []
    assert store.mget(["aé", "no"]) == ["aé".encode(), None]


def test_a_cache_answers_for_the_same_prompt_and_model_only(ctx: Context, db: Database) -> None:
    cache = SOPCache(ctx, db)
    long_prompt = "tell me " * 10_000
    first = FakeListLLM(responses=["one", "two"], cache=cache)
    assert [first.invoke(long_prompt), first.invoke(long_prompt)] == ["one", "one"]
    assert first.invoke("another") == "two"
    other = FakeListLLM(responses=["other"], cache=cache)
    assert other.invoke(long_prompt) == "other"


WITHOUT_LANGCHAIN = """
import sys
sys.modules["langchain_core"] = None  # as if it were not installed
import sop.ai
assert "sop.ai.langchain" not in sys.modules
from sop import Context, Database
from sop.ai import SOPVectorStore
from sop.ai.langchain import Document

class Letters:
    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]
    def embed_query(self, text):
        return [float(text.count(letter)) for letter in "abc"]

ctx = Context()
with Database(ctx, "data") as db:
    store = SOPVectorStore.from_texts(["aa", "bb"], Letters(), [{"n": 1}, {}], ctx=ctx, db=db, ids=["x", "y"])
    assert store.similarity_search("a", k=1) == [Document("aa", {"n": 1}, "x")]
    for call in (
        store.as_retriever,
        lambda: store.asimilarity_search("a"),
        lambda: store.max_marginal_relevance_search("a"),
        lambda: SOPVectorStore.from_documents([], Letters()),
        lambda: sop.ai.langchain.SOPByteStore,
        lambda: __import__("sop.ai.langchain", fromlist=["SOPCache"]).SOPCache,
    ):
        try:
            call()
        except ImportError as error:
            assert "pip install 'sop4py[langchain]'" in str(error), error
        else:
            raise AssertionError(call)
"""


def test_without_langchain_texts_are_found_and_the_rest_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "without.py"
    script.write_text(WITHOUT_LANGCHAIN, encoding="utf-8")
    run_script(script, cwd=tmp_path)


def test_importing_sop_imports_no_langchain() -> None:
    code = "import sop, sop.ai, sys; assert 'langchain_core' not in sys.modules; sop.ai.SOPVectorStore"
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)
