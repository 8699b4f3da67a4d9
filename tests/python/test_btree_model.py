"""Random histories of a B-tree in two open transactions, against a sorted map.

SOP_COUNT histories, from SOP_SEED on; without a seed the same ones each time. Each transaction sees its own
snapshot and writes, whatever the keys and the placement of the values, and of two that meet one commits.
Checkpoints happen in between; the folder is closed and opened.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
from hypothesis import HealthCheck
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from conftest import count, seed
from sop import ConflictError, Context, Database
from sop.btree import (
    Btree,
    BtreeOptions,
    IndexFieldSpecification,
    IndexSpecification,
    Item,
    PagingInfo,
    ValueDataSize,
)
from sorted_map import UNSET, Id, Order, SortedMap

MEMORY = Path("/dev/shm")
# The least there is. A commit of more than a sixteenth of it starts a checkpoint.
MEMORY_LIMIT = 16 << 20
HISTORIES_REMEMBERED = 500

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**53, 2**53 + 1, float(2**53), 0.5, 1.0]),
    st.text(st.characters(codec="utf-8"), max_size=3),
)
FEW = st.sampled_from([None, False, True, 0, 1, 2.5, "", "a", "b", [], [1], {}, {"a": 1}, {"a": 1, "b": 0}])
ANY = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=2), SCALARS, max_size=3),
)
# Mostly keys that come again.
MIXED_KEYS = st.integers(0, 3).flatmap(lambda choice: FEW if choice else ANY)
FIELD_KEYS = st.fixed_dictionaries({}, optional={"a": FEW, "b": FEW, "note": st.integers(0, 9)})
FILLINGS = st.one_of(
    st.none(),
    st.integers(),
    st.text(st.characters(codec="utf-8"), max_size=20),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.none()),
    # In the log, in a segment at the checkpoint, in a segment at the commit.
    st.sampled_from([100, 5_000, 70_000]).map("x".__mul__),
)
SHAPES = st.fixed_dictionaries(
    {
        "is_unique": st.booleans(),
        "fields": st.sampled_from([(), (("a", True), ("b", False)), (("b", False),)]),
        "size": st.sampled_from(list(ValueDataSize)),
    }
)
WHO = st.sampled_from([0, 0, 1])  # most calls to one, so that it gets somewhere before the other commits
HOW = st.sampled_from(["add", "add", "add_if_not_exists", "update", "upsert"])


class Session:
    """One open transaction, and what it must see."""

    def __init__(self, machine: BtreeModel) -> None:
        self.ctx = machine.ctx
        self.t = machine.db.begin_transaction(machine.ctx)
        self.map = SortedMap(machine.order, machine.is_unique, machine.committed)
        self.began = len(machine.commits)
        self.checkpoints = machine.checkpoints
        self.open()

    def open(self) -> None:
        self.store = Btree.open(self.ctx, "s", self.t)


class BtreeModel(RuleBasedStateMachine):
    """A B-tree, two transactions on it, and the sorted maps they must be."""

    conflicts = commits_done = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="sop-model-", dir=MEMORY if MEMORY.is_dir() else None)
        self.ctx = Context()
        self.committed: dict[Id, tuple] = {}
        self.commits: list[set[Id]] = []
        self.native_ids: dict[Id, str] = {}
        self.number = self.checkpoints = 0

    @initialize(shape=SHAPES)
    def make(self, shape: dict[str, Any]) -> None:
        self.is_unique, fields = shape["is_unique"], shape["fields"]
        self.order = Order(fields)
        options = BtreeOptions("s", self.is_unique, is_primitive_key=not fields)
        options.set_value_data_size(shape["size"])
        index = IndexSpecification([IndexFieldSpecification(*field) for field in fields])
        self.open()
        with self.db.begin_transaction(self.ctx) as t:
            Btree.new(self.ctx, options, t, index if fields else None)
        self.sessions = [Session(self), Session(self)]

    def open(self) -> None:
        self.db = Database(self.ctx, storage_path=self.folder, memory_limit=MEMORY_LIMIT)

    def teardown(self) -> None:
        self.db.close(self.ctx)
        shutil.rmtree(self.folder)

    def key(self, data: st.DataObject) -> Any:
        return data.draw(FIELD_KEYS if self.order.fields else MIXED_KEYS)

    def value(self, filling: Any) -> Any:
        """No two are equal."""
        self.number += 1
        return [self.number, filling]

    def check_item(self, who: int, item: Item, expected: Id, with_value: bool = True) -> None:
        key, value = self.sessions[who].map.rows[expected]
        assert self.order.rank(item.key) == expected[0]
        assert item.key == key
        assert item.value == (value if with_value else None)
        # An item keeps its id, whoever reads it, whatever becomes of its value.
        assert self.native_ids.setdefault(expected, item.id) == item.id

    def check_items(self, who: int, items: list[Item], expected: list[Id], with_value: bool = True) -> None:
        assert len(items) == len(expected)
        for item, id in zip(items, expected):
            self.check_item(who, item, id, with_value)

    # Writing

    @rule(who=WHO, how=HOW, data=st.data(), filling=FILLINGS)
    def write(self, who: int, how: str, data: st.DataObject, filling: Any) -> None:
        session, key, value = self.sessions[who], self.key(data), self.value(filling)
        call = getattr(session.store, how)
        arguments = data.draw(st.sampled_from([(key, value), (Item(key, value),)]))
        assert call(self.ctx, *arguments) is session.map.write(how, key, value, self.number)

    @rule(who=WHO, how=HOW, data=st.data(), fillings=st.lists(FILLINGS, max_size=5))
    def write_batch(self, who: int, how: str, data: st.DataObject, fillings: list[Any]) -> None:
        session, items, expected = self.sessions[who], [], True
        for filling in fillings:
            items.append(Item(self.key(data), self.value(filling)))
            expected &= session.map.write(how, items[-1].key, items[-1].value, self.number)
        assert getattr(session.store, how)(self.ctx, items) is expected

    @rule(who=WHO, data=st.data(), count=st.integers(1, 3))
    def remove(self, who: int, data: st.DataObject, count: int) -> None:
        session, keys = self.sessions[who], [self.key(data) for _ in range(count)]
        expected = [session.map.remove(key) for key in keys]
        assert session.store.remove(self.ctx, keys) is all(expected)

    @rule(who=WHO, filling=FILLINGS, as_item=st.booleans())
    def update_current(self, who: int, filling: Any, as_item: bool) -> None:
        session, value = self.sessions[who], self.value(filling)
        current = session.map.current()
        given = Item("ignored", value) if as_item else value
        assert session.store.update_current_item(self.ctx, given) is (current is not None)
        if current:
            session.map.put(current, session.map.rows[current][0], value)

    @rule(who=WHO)
    def remove_current(self, who: int) -> None:
        session = self.sessions[who]
        expected = session.map.remove_id(session.map.current())
        assert session.store.remove_current_item(self.ctx) is expected

    # Finding

    @rule(who=WHO, data=st.data())
    def find(self, who: int, data: st.DataObject) -> None:
        session, key = self.sessions[who], self.key(data)
        assert session.store.find(self.ctx, key) is (session.map.find(key) is not None)

    @rule(who=WHO, data=st.data(), first_only=st.booleans())
    def find_one(self, who: int, data: st.DataObject, first_only: bool) -> None:
        session, key = self.sessions[who], self.key(data)
        item, expected = session.store.find_one(self.ctx, key, first_only), session.map.find(key)
        assert (item is None) is (expected is None)
        if expected:
            self.check_item(who, item, expected)

    @rule(who=WHO, choice=st.integers(0, 99))
    def find_with_id(self, who: int, choice: int) -> None:
        session = self.sessions[who]
        known = [id for id in session.map.ids if id in self.native_ids]
        if not known:
            return
        wanted = known[choice % len(known)]
        key = session.map.rows[wanted][0]
        session.map.looked_up.add(wanted[0])
        assert session.store.find_with_id(self.ctx, key, self.native_ids[wanted])
        session.map.place = wanted
        found = session.store.get_values(self.ctx, [Item(key, id=self.native_ids[wanted])])
        self.check_items(who, found, [wanted])

    @rule(who=WHO, data=st.data())
    def find_with_an_unknown_id(self, who: int, data: st.DataObject) -> None:
        session, key = self.sessions[who], self.key(data)
        assert not session.store.find_with_id(self.ctx, key, uuid.uuid4())
        session.map.find(key)

    @rule(who=WHO, data=st.data(), count=st.integers(0, 3))
    def get_values(self, who: int, data: st.DataObject, count: int) -> None:
        session, keys = self.sessions[who], [self.key(data) for _ in range(count)]
        found = session.store.get_values(self.ctx, keys)
        assert len(found) == len(keys)
        for key, item in zip(keys, found):
            expected = session.map.look_up(key)
            if expected:
                self.check_item(who, item, expected)
            else:
                assert (item.key, item.value) == (key, None)

    # Walking

    @rule(who=WHO, move=st.sampled_from(["first", "last", "next", "next", "previous", "previous"]))
    def step(self, who: int, move: str) -> None:
        session = self.sessions[who]
        assert getattr(session.store, move)(self.ctx) is session.map.step(move)

    @rule(
        who=WHO,
        offset=st.integers(0, 2),
        size=st.integers(1, 4),
        fetch=st.integers(0, 3),
        backward=st.booleans(),
        with_values=st.booleans(),
    )
    def page(self, who: int, offset: int, size: int, fetch: int, backward: bool, with_values: bool) -> None:
        session = self.sessions[who]
        get = session.store.get_items if with_values else session.store.get_keys
        found = get(self.ctx, PagingInfo(offset, size, fetch, int(backward)))
        expected = session.map.page(offset * size, fetch or size, backward)
        self.check_items(who, found, expected, with_values)

    @rule(who=WHO, data=st.data(), bounds=st.integers(0, 3), reverse=st.booleans())
    def iterate(self, who: int, data: st.DataObject, bounds: int, reverse: bool) -> None:
        session = self.sessions[who]
        start = self.key(data) if bounds & 1 else None
        stop = self.key(data) if bounds & 2 else None
        expected = session.map.range(start, stop, reverse)
        rows = [session.map.rows[id] for id in expected]
        arguments = (self.ctx, start, stop, reverse)
        self.check_items(who, list(session.store.items(*arguments)), expected)
        assert list(session.store.keys(*arguments)) == [row[0] for row in rows]
        assert list(session.store.values(*arguments)) == [row[1] for row in rows]

    # Transactions

    @rule(who=WHO)
    def commit(self, who: int) -> None:
        session = self.sessions[who]
        model = session.map
        later = set().union(*self.commits[session.began :])
        same_key = not model.looked_up.isdisjoint(id[0] for id in later)
        must_lose = not model.written.isdisjoint(later) or (self.is_unique and same_key)
        may_lose = must_lose or same_key or (model.walked and bool(later))
        # Only so much of what others committed since is kept to compare with.
        forgotten = self.checkpoints > session.checkpoints
        try:
            session.t.commit(self.ctx)
        except ConflictError as error:
            assert model.written
            assert may_lose if error.code == 10 else forgotten
            BtreeModel.conflicts += 1
        else:
            assert not (model.written and must_lose)
            self.committed = {
                **{id: row for id, row in self.committed.items() if id not in model.written},
                **{id: model.rows[id] for id in model.written if id in model.rows},
            }
            self.commits.append(model.written)
            BtreeModel.commits_done += 1
        self.sessions[who] = Session(self)

    @rule(data=st.data(), filling=FILLINGS)
    def meet(self, data: st.DataObject, filling: Any) -> None:
        """Both write one key, then commit."""
        key = self.key(data)
        for session in self.sessions:
            value = self.value(filling)
            assert session.store.upsert(self.ctx, key, value)
            session.map.write("upsert", key, value, self.number)
        self.commit(0)
        self.commit(1)

    @rule(who=WHO)
    def roll_back(self, who: int) -> None:
        self.sessions[who].t.rollback(self.ctx)
        self.sessions[who] = Session(self)

    @rule(who=WHO)
    def reopen_store(self, who: int) -> None:
        """Another handle of the same transaction: it sees the same, and its cursor is its own."""
        session = self.sessions[who]
        session.open()
        session.map.place = UNSET

    @rule()
    def reopen_database(self) -> None:
        self.db.close(self.ctx)
        self.open()
        self.sessions = [Session(self), Session(self)]

    @rule()
    def fill_memory(self) -> None:
        """Starts a checkpoint."""
        with self.db.begin_transaction(self.ctx) as t:
            other = Btree.new(self.ctx, BtreeOptions("other", True), t)
            other.upsert(self.ctx, [Item(row, "x" * 60_000) for row in range(20)])
        self.checkpoints += 1

    @invariant()
    def both_see_their_own(self) -> None:
        for who, session in enumerate(getattr(self, "sessions", [])):
            assert session.store.count(self.ctx) == len(session.map.ids)
            current, item = session.map.current(), session.store.get_current_item(self.ctx)
            assert (item is None) is (current is None)
            if current:
                self.check_item(who, item, current)


def test_a_btree_is_a_sorted_map() -> None:
    histories, start = count(300), os.environ.get("SOP_SEED")
    # In parts, each with the next seed: hypothesis remembers all that it tried.
    for part, first in enumerate(range(0, histories, HISTORIES_REMEMBERED)):
        settings = hypothesis.settings(
            max_examples=min(HISTORIES_REMEMBERED, histories - first),
            stateful_step_count=50,
            deadline=None,
            database=None,
            derandomize=start is None and part == 0,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        )
        machine = type(BtreeModel.__name__, (BtreeModel,), {})
        if not settings.derandomize:
            hypothesis.seed(seed() + part)(machine)
        run_state_machine_as_test(machine, settings=settings)
    print(f"{histories} histories, {BtreeModel.commits_done} commits, {BtreeModel.conflicts} conflicts")
