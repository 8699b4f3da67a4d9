"""Transfers between accounts, from several threads: two stores change together or not at all.

Run: PYTHONPATH=python python3 examples/bank_transfer_demo.py [folder]
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from functools import partial
from typing import Callable

from sop import Context, Database, TransactionError, TransactionMode, btree

ACCOUNTS = 10
BALANCE = 1_000
THREADS = 4
TRANSFERS = 50


def open_bank(ctx: Context, db: Database) -> None:
    with db.begin_transaction(ctx) as t:
        accounts = btree.Btree.new(ctx, btree.BtreeOptions("accounts", True), t)
        accounts.add(ctx, [btree.Item(number, BALANCE) for number in range(ACCOUNTS)])
        btree.Btree.new(ctx, btree.BtreeOptions("ledger", True), t)


def transfer(ctx: Context, db: Database, entry: str, source: int, target: int, amount: int) -> bool:
    """Moves the amount and notes it in the ledger. False when the source has too little."""
    with db.begin_transaction(ctx) as t:
        accounts = btree.Btree.open(ctx, "accounts", t)
        ledger = btree.Btree.open(ctx, "ledger", t)
        available, there = (item.value for item in accounts.get_values(ctx, [source, target]))
        if available < amount:
            t.rollback(ctx)
            return False
        accounts.update(ctx, source, available - amount)
        accounts.update(ctx, target, there + amount)
        ledger.add(ctx, entry, {"from": source, "to": target, "amount": amount})
        return True


def with_retries(transaction: Callable[[], bool]) -> bool:
    """Runs the transaction again as long as another one came first."""
    attempt = 0
    while True:
        try:
            return transaction()
        except TransactionError as error:
            if not error.retryable:
                raise
            attempt += 1
            time.sleep(random.uniform(0, 0.001 * min(attempt, 10)))


def teller(db: Database, number: int, failures: list[BaseException]) -> None:
    ctx = Context()
    dice = random.Random(number)
    try:
        for count in range(TRANSFERS):
            source, target = dice.sample(range(ACCOUNTS), 2)
            move = partial(transfer, ctx, db, f"{number}-{count}", source, target, dice.randint(1, 20))
            with_retries(move)
    except BaseException as error:
        failures.append(error)


def main(folder: str) -> None:
    ctx = Context()
    with Database(ctx, storage_path=folder) as db:
        open_bank(ctx, db)
        failures: list[BaseException] = []
        tellers = [threading.Thread(target=teller, args=(db, number, failures)) for number in range(THREADS)]
        for thread in tellers:
            thread.start()
        for thread in tellers:
            thread.join()
        if failures:
            raise failures[0]

        with db.begin_transaction(ctx, TransactionMode.ForReading) as t:
            accounts = btree.Btree.open(ctx, "accounts", t)
            ledger = btree.Btree.open(ctx, "ledger", t)
            balances = dict.fromkeys(range(ACCOUNTS), BALANCE)
            for entry in ledger.values(ctx):
                balances[entry["from"]] -= entry["amount"]
                balances[entry["to"]] += entry["amount"]
            total = sum(accounts.values(ctx))
            print(f"{ledger.count()} transfers by {THREADS} threads")
            print(f"sum of all accounts: {total}, as at the start: {total == ACCOUNTS * BALANCE}")
            print(f"accounts agree with the ledger: {dict(enumerate(accounts.values(ctx))) == balances}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
