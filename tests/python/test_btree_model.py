"""Random histories of a B-tree against a plain list, over reopening and rollback."""

from __future__ import annotations

import bisect
import json
import shutil
import tempfile

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sop import Context, Database
from sop.btree import Btree, BtreeOptions, Item, PagingInfo

KEYS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=4).filter(lambda text: text.isprintable()),
    st.lists(st.integers(0, 2), max_size=3),
)
VALUES = st.one_of(
    st.none(), st.integers(), st.text(max_size=20), st.dictionaries(st.text(max_size=3), st.none())
)


def order(key: object) -> tuple:
    """The documented order of keys."""
    if key is None:
        return (0,)
    if isinstance(key, bool):
        return (1, key)
    if isinstance(key, (int, float)):
        return (2, key)
    if isinstance(key, str):
        return (3, key.encode())
    return (4, [order(element) for element in key])


class UniqueBtree(RuleBasedStateMachine):
    """A unique B-tree and a sorted list of [order, key, value]."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="sop-model-")
        self.ctx = Context()
        self.db = Database(self.ctx, storage_path=self.folder)

    @initialize(small=st.booleans())
    def make(self, small: bool) -> None:
        self.rows: list[tuple] = []
        self.committed: list[tuple] = []
        self.t = self.db.begin_transaction(self.ctx)
        options = BtreeOptions("s", True, is_value_data_in_node_segment=small)
        self.store = Btree.new(self.ctx, options, self.t)
        self.commit_and_go_on()

    def teardown(self) -> None:
        self.db.close(self.ctx)
        shutil.rmtree(self.folder)

    def place(self, key: object) -> tuple[int, bool]:
        at = bisect.bisect_left([row[0] for row in self.rows], order(key))
        return at, at < len(self.rows) and self.rows[at][0] == order(key)

    def commit_and_go_on(self) -> None:
        self.t.commit(self.ctx)
        self.committed = list(self.rows)
        self.begin()

    def begin(self) -> None:
        self.t = self.db.begin_transaction(self.ctx)
        self.store = Btree.open(self.ctx, "s", self.t)

    @rule(key=KEYS, value=VALUES, how=st.sampled_from(["add", "add_if_not_exists", "update", "upsert"]))
    def write(self, key: object, value: object, how: str) -> None:
        at, there = self.place(key)
        expected = {"add": not there, "add_if_not_exists": not there, "update": there, "upsert": True}[how]
        assert getattr(self.store, how)(self.ctx, Item(key, value)) is expected
        if expected and there:
            self.rows[at] = (*self.rows[at][:2], value)
        elif expected:
            self.rows.insert(at, (order(key), key, value))

    @rule(key=KEYS)
    def remove(self, key: object) -> None:
        at, there = self.place(key)
        assert self.store.remove(self.ctx, [key]) is there
        if there:
            del self.rows[at]

    @rule(key=KEYS)
    def find(self, key: object) -> None:
        at, there = self.place(key)
        item = self.store.find_one(self.ctx, key)
        assert (item is not None) is there
        if there:
            assert item.value == self.rows[at][2]
        if self.rows:
            near = self.rows[min(at, len(self.rows) - 1)]
            assert self.store.get_current_value(self.ctx) == near[2]
            assert order(self.store.get_current_key(self.ctx)) == near[0]

    @rule(start=KEYS, stop=KEYS, reverse=st.booleans())
    def scan(self, start: object, stop: object, reverse: bool) -> None:
        low = self.place(start)[0] if start is not None else 0
        high = self.place(stop)[0] if stop is not None else len(self.rows)
        expected = [row[2] for row in self.rows[low:high]]
        found = list(self.store.values(self.ctx, start, stop, reverse))
        assert found == (expected[::-1] if reverse else expected)

    @rule(size=st.integers(1, 7))
    def pages(self, size: int) -> None:
        self.store.first(self.ctx)
        found = []
        while page := self.store.get_items(self.ctx, PagingInfo(page_size=size)):
            assert len(page) <= size
            found += [item.value for item in page]
        assert found == [row[2] for row in self.rows]

    @rule()
    def count(self) -> None:
        assert self.store.count() == len(self.rows)
        keys = [json.dumps(key) for key in self.store.keys(self.ctx)]
        assert len(keys) == len(self.rows)

    @rule()
    def commit(self) -> None:
        self.commit_and_go_on()

    @rule()
    def roll_back(self) -> None:
        self.t.rollback(self.ctx)
        self.rows = list(self.committed)
        self.begin()

    @rule()
    def reopen(self) -> None:
        self.t.commit(self.ctx)
        self.committed = list(self.rows)
        self.db.close(self.ctx)
        self.db = Database(self.ctx, storage_path=self.folder)
        self.begin()


UniqueBtree.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestUniqueBtree = UniqueBtree.TestCase
