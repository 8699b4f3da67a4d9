#!/usr/bin/env python3
"""Clustered, side by side with sop4py's clustered mode: the same processes, Redis server and disk, in turns.

  cluster_bench.py --peer VENV/bin/python     disjoint commits and one counter, both packages
  cluster_bench.py --scale 1,2,4,8,16         ours alone: what a commit costs as processes grow

Each side commits in transactions (begin, open the store, write, commit); "ours, map" is `Map.put` and
`Map.modify`.
Ours makes every commit durable before it is acknowledged; sop4py syncs nothing.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time

KEYS = 1000
# A worker that takes longer, in seconds, is stuck.
STUCK = 20


class Ours:
    """The package in PYTHONPATH."""

    def __init__(self, folder, redis):
        import sop
        from sop.ai import DBType

        sop.Redis.open_connection(redis)
        self.sop, self.context = sop, sop.Context()
        self.database = sop.Database(self.context, folder, db_type=DBType.Clustered)

    def make(self):
        with self.database.begin_transaction(self.context) as transaction:
            self.database.new_btree(self.context, "t", transaction)

    def put(self, key, value):
        with self.database.begin_transaction(self.context) as transaction:
            store = self.database.open_btree(self.context, "t", transaction)
            store.upsert(self.context, self.sop.Item(key=key, value=value))

    def increment(self, key):
        """One attempt; true when it was stored."""
        try:
            with self.database.begin_transaction(self.context) as transaction:
                store = self.database.open_btree(self.context, "t", transaction)
                found = store.find(self.context, key)
                value = store.get_current_value(self.context)["n"] if found else 0
                store.upsert(self.context, self.sop.Item(key=key, value={"n": value + 1}))
            return True
        except self.sop.ConflictError:
            return False

    def value(self, key):
        with self.database.begin_transaction(self.context) as transaction:
            store = self.database.open_btree(self.context, "t", transaction)
            return store.get_current_value(self.context)["n"] if store.find(self.context, key) else 0

    def close(self):
        self.database.close()


class OursMap(Ours):
    """Single calls that are transactions of their own."""

    def __init__(self, folder, redis):
        super().__init__(folder, redis)
        self.map = self.database.open_map(self.context, "t")

    def make(self):
        self.map.put(-1, {"n": 0})

    def put(self, key, value):
        self.map.put(key, value)

    def increment(self, key):
        self.map.modify(key, lambda value: {"n": value["n"] + 1}, {"n": 0})
        return True

    def value(self, key):
        return self.map.get(key)["n"]


class Peer:
    """sop4py 2.3.3 in its own virtual environment."""

    def __init__(self, folder, redis):
        import sop
        from sop import Context, Database, DatabaseOptions, Item, Logger, LogLevel
        from sop.transaction import DatabaseType, RedisCacheConfig

        Logger.configure(LogLevel.Error)
        self.sop, self.item, self.context = sop, Item, Context()
        config = RedisCacheConfig(url=redis)
        self.database = Database(
            DatabaseOptions(stores_folders=[folder], type=DatabaseType.Clustered, redis_config=config)
        )

    def make(self):
        transaction = self.database.begin_transaction(self.context)
        store = self.database.new_btree(self.context, "t", transaction)
        # Its documentation asks for one item before concurrent use.
        store.add(self.context, self.item(key=-1, value={"n": 0}))
        transaction.commit(self.context)

    def _in_transaction(self, work):
        transaction = self.database.begin_transaction(self.context, 1, 15)
        try:
            result = work(self.database.open_btree(self.context, "t", transaction))
            transaction.commit(self.context)
            return result
        except Exception:
            with contextlib.suppress(Exception):
                transaction.rollback(self.context)
            raise

    def put(self, key, value):
        while True:
            try:
                return self._in_transaction(
                    lambda store: store.upsert(self.context, self.item(key=key, value=value))
                )
            except Exception:
                time.sleep(random.random() * 0.005)

    def increment(self, key):
        def work(store):
            if store.find(self.context, key):
                value = store.get_current_value(self.context).value["n"]
                store.update(self.context, self.item(key=key, value={"n": value + 1}))
            else:
                store.add(self.context, self.item(key=key, value={"n": 1}))

        try:
            self._in_transaction(work)
            return True
        except Exception:
            time.sleep(random.random() * 0.005)
            return False

    def value(self, key):
        def work(store):
            return store.get_current_value(self.context).value["n"] if store.find(self.context, key) else 0

        return self._in_transaction(work)

    def close(self):
        pass


SIDES = {"ours": Ours, "ours, map": OursMap, "sop4py": Peer}


class Progress:
    """What a worker has done, for the time that it is stuck in a call and has to be killed."""

    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def tell(self, result):
        os.pwrite(self.file, json.dumps(result).encode().ljust(200), 0)

    def read(self):
        return json.loads(os.pread(self.file, 200, 0) or "{}")


def disjoint(side, process, seconds, progress):
    """Commits to keys that nobody else writes, for so long."""
    latencies, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        side.put(process * KEYS + len(latencies) % KEYS, {"n": len(latencies)})
        latencies.append(time.perf_counter() - began)
        progress.tell({"done": len(latencies)})
    latencies.sort()
    return {
        "done": len(latencies),
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[len(latencies) * 99 // 100],
    }


def counter(side, increments, progress):
    """Increments one counter; each is tried again until it is stored."""
    attempts, done = 0, 0
    while done < increments:
        attempts += 1
        done += side.increment(10**9)
        progress.tell({"done": done, "attempts": attempts})
    return {"done": done, "attempts": attempts}


def work(name, phase, folder, redis, process, amount):
    """A worker: says that it is ready, waits for a line, and says what it did."""
    side = SIDES[name](folder, redis)
    progress = Progress(progress_path(folder, process))
    if phase == "make":
        side.make()
        side.put(0, {"n": 0})
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    if phase == "disjoint":
        result = disjoint(side, process, amount, progress)
    elif phase == "counter":
        result = counter(side, int(amount), progress)
    elif phase == "value":
        result = {"value": side.value(10**9)}
    else:
        result = {}
    result["seconds"] = time.perf_counter() - began
    print(json.dumps(result), flush=True)
    side.close()


def progress_path(folder, process):
    """Beside the database."""
    return f"{folder}-progress-{process}"


class RedisServer:
    """A server of this run, without persistence."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        command = ["redis-server", "--port", str(self.port), "--save", "", "--dir", folder]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.02)

    def stop(self):
        self.process.kill()
        self.process.wait()


def run(arguments, name, phase, folder, redis, processes, amount, traces=None):
    """Runs workers at the same time; gives what each did, also those that got stuck and were killed."""
    python, environment = sys.executable, dict(os.environ)
    if name == "sop4py":
        python = arguments.peer
        # Where our package of the same name is.
        environment.pop("PYTHONPATH", None)
    workers = []
    for process in range(processes):
        command = [python, __file__, "--work", name, phase, folder, redis, str(process), str(amount)]
        if traces is not None:
            trace = os.path.join(traces, f"{phase}-{process}")
            command = ["strace", "--follow-forks", "--summary-only", "--output", trace, *command]
        pipe = subprocess.PIPE
        workers.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
    for worker in workers:
        assert worker.stdout.readline() == "ready\n", f"a worker of {name} failed"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    end = time.monotonic() + STUCK
    return [result_of(worker, progress_path(folder, process), end) for process, worker in enumerate(workers)]


def result_of(worker, progress, end):
    """What a worker says that it did, or what it had done when it was killed."""
    try:
        said, _ = worker.communicate(timeout=max(end - time.monotonic(), 1))
        result = json.loads(said)
    except (subprocess.TimeoutExpired, ValueError):
        worker.kill()
        worker.communicate()
        result = {"done": 0, "attempts": 0, **Progress(progress).read(), "seconds": STUCK, "stuck": True}
    os.remove(progress)
    return result


def compare(arguments, scratch, redis):
    """Both phases, each side in turn, several times; the best of each."""
    names = ["ours", "ours, map", "sop4py"] if arguments.peer else ["ours", "ours, map"]
    rates, counters = {name: [] for name in names}, {name: [] for name in names}
    for round_number in range(arguments.rounds):
        for name in names:
            folder = tempfile.mkdtemp(dir=scratch)
            run(arguments, name, "make", folder, redis.url, 1, 0)
            done = run(arguments, name, "disjoint", folder, redis.url, 4, arguments.seconds)
            rates[name].append(sum(each["done"] for each in done) / arguments.seconds)
            stuck = sum("stuck" in each for each in done)
            done = run(arguments, name, "counter", folder, redis.url, 4, 100)
            (end,) = run(arguments, name, "value", folder, redis.url, 1, 0)
            stored, attempts = sum(each["done"] for each in done), sum(each["attempts"] for each in done)
            counters[name].append((stored, attempts, max(each["seconds"] for each in done)))
            print(
                f"round {round_number}, {name}: {rates[name][-1]:.0f} commits/s, {stuck} of 4 stuck;", end=" "
            )
            print(
                f"{stored} increments stored, the counter is {end.get('value')}, {attempts} attempts",
                flush=True,
            )
            shutil.rmtree(folder)
    print(
        f"\n| 4 processes, best of {arguments.rounds} | commits/s | of 400 increments | attempts each | s |"
    )
    print("|---|---|---|---|---|")
    for name in names:
        stored, attempts, seconds = min(counters[name], key=lambda each: (-each[0], each[2]))
        each = "inside" if name == "ours, map" else f"{attempts / max(stored, 1):.2f}"
        print(f"| {name} | {max(rates[name]):,.0f} | {stored} | {each} | {seconds:.1f} |")


def calls_of(traces, phase):
    """Calls to the system by name, of all workers of a phase."""
    calls = {}
    for name in os.listdir(traces):
        if not name.startswith(f"{phase}-"):
            continue
        with open(os.path.join(traces, name)) as lines:
            for line in lines:
                words = line.split()
                if len(words) >= 5 and words[0][0].isdigit() and words[-1] != "total":
                    calls[words[-1]] = calls.get(words[-1], 0) + int(words[3])
    return calls


def scale(arguments, scratch, redis):
    """Rates as processes grow; then, in runs of their own under strace, the calls of a commit."""
    print("| processes | commits/s | p50 ms | p99 ms | syncs | links | opens | Redis |\n|" + "---|" * 8)
    for processes in arguments.scale:
        best = None
        for _ in range(arguments.rounds):
            folder = tempfile.mkdtemp(dir=scratch)
            run(arguments, "ours, map", "make", folder, redis.url, 1, 0)
            done = run(arguments, "ours, map", "disjoint", folder, redis.url, processes, arguments.seconds)
            rate = sum(each["done"] / each["seconds"] for each in done)
            # A worker that was killed told none.
            told = [each for each in done if "p50" in each]
            latency = [sorted(each[part] for each in told)[len(told) // 2] * 1e3 for part in ("p50", "p99")]
            best = max(best or (0,), (rate, *latency))
            shutil.rmtree(folder)
        calls, commits = traced(arguments, scratch, redis, processes)
        syncs = calls.get("fsync", 0) + calls.get("fdatasync", 0)
        made = calls.get("linkat", 0) + calls.get("link", 0)
        read = calls.get("openat", 0)
        rate, p50, p99 = best
        print(
            f"| {processes} | {rate:,.0f} | {p50:.2f} | {p99:.2f} | {syncs / commits:.2f}",
            f"| {made / commits:.2f} | {read / commits:.2f} | {calls.get('sendto', 0) / commits:.2f} |",
            flush=True,
        )
        if arguments.calls:
            for name, count in sorted(calls.items(), key=lambda call: -call[1])[:20]:
                print(f"    {name} {count / commits:.2f}")


def traced(arguments, scratch, redis, processes):
    """The calls of the workers after they were ready, and their commits. What opening takes is taken away."""
    folder, traces = tempfile.mkdtemp(dir=scratch), tempfile.mkdtemp(dir=scratch)
    run(arguments, "ours, map", "make", folder, redis.url, 1, 0)
    run(arguments, "ours, map", "counter", folder, redis.url, processes, 0, traces)
    done = run(arguments, "ours, map", "disjoint", folder, redis.url, processes, arguments.seconds, traces)
    opening, all_calls = calls_of(traces, "counter"), calls_of(traces, "disjoint")
    shutil.rmtree(folder)
    return {name: count - opening.get(name, 0) for name, count in all_calls.items()}, sum(
        each["done"] for each in done
    )


def main():
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer", metavar="PYTHON", help="the interpreter of an environment with sop4py 2.3.3"
    )
    parser.add_argument(
        "--folder", default=None, help="where the databases are made; default: the temporary folder"
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=lambda text: [int(number) for number in text.split(",")])
    parser.add_argument("--calls", action="store_true", help="with --scale: the calls of a commit, by name")
    parser.add_argument("--work", nargs=6, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, phase, folder, redis, process, amount = arguments.work
        work(name, phase, folder, redis, int(process), float(amount))
        return
    scratch = tempfile.mkdtemp(dir=arguments.folder)
    redis = RedisServer(scratch)
    try:
        (scale if arguments.scale else compare)(arguments, scratch, redis)
    finally:
        redis.stop()
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
