"""A reader of databases that uses nothing but libjsondb/docs/format.md: it keeps that page true, and enough.

It reads a folder that nobody writes to, with all drives there, and checks every checksum on its way.
"""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any, Iterator

COMMIT, CHECKPOINT = 1, 2
UNIT = 256 << 10


class Cursor:
    """Bytes that are taken from the front."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        assert self.at <= len(self.data)
        return self.data[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "little")

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.number(1)
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    def bytes(self) -> bytes:
        return self.take(self.varint())

    def rest(self) -> bytes:
        return self.data[self.at :]


def checked(data: bytes, magic: bytes) -> Cursor:
    """What is behind the magic of a small file that ends with its CRC."""
    assert data[: len(magic)] == magic and zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little"), data[
        :16
    ]
    cursor = Cursor(data[:-4])
    cursor.take(len(magic))
    return cursor


def lz4(block: bytes, length: int) -> bytes:
    out, cursor = bytearray(), Cursor(block)

    def extended(count: int) -> int:
        if count == 15:
            while (more := cursor.number(1)) == 255:
                count += 255
            count += more
        return count

    while cursor.at < len(block):
        token = cursor.number(1)
        out += cursor.take(extended(token >> 4))
        if cursor.at < len(block):
            back, count = cursor.number(2), extended(token & 15) + 4
            for _ in range(count):
                out.append(out[-back])
    assert len(out) == length
    return bytes(out)


class Reader:
    """The state of a database, as engine keys and values, and what the stores make of them."""

    def __init__(self, folder: Path, drives: list[Path] = ()) -> None:
        self.folder, self.drives = folder, drives
        text = (folder / "FORMAT").read_bytes()
        self.version, self.uuid = checked(text, b"SOPDB\x1a\r\n").number(4), text[12:28]
        assert (len(text), self.version) == (32, 1)
        self.segments: dict[tuple[int, int], bytes] = {}
        self.state: dict[bytes, bytes] = {}
        manifest, records = self._slots() if self._has_slots() else self._frames()
        checkpoint = manifest[1]
        self._tree(self._root(manifest), self.state)
        for first, count, body in records:
            if first > checkpoint:
                self._commit(Cursor(body), count)

    # The log

    def _has_slots(self) -> bool:
        edges = sorted((self.folder / "log" / "boundary").glob("*-*-*"))
        return bool(edges) and edges[-1].name.endswith("slots")

    def _frames(self) -> tuple[tuple[bytes, int], list[tuple[int, int, bytes]]]:
        """The manifest in force, and (sequence number, transactions, body) of all commits."""
        commits: list[tuple[int, int, bytes]] = []
        for path in sorted((self.folder / "log").glob("*.wal")):
            data = path.read_bytes()
            header = checked(data[:76], b"SOPWAL\r\n")
            assert header.number(4) == 1
            file_id, _first = header.take(8), header.number(8)
            header.take(20)
            in_force = (header.take(16), header.number(8))
            at, before = 4096, data[72:76]
            while (frame := data[at : at + 64])[:4] == b"SOPF" and zlib.crc32(frame[:60]) == Cursor(
                frame[60:]
            ).number(4):
                kind, length, first, count, crc = struct.unpack("<2xHQQII", frame[4:32])
                assert (frame[32:36], frame[44:52], frame[52:60]) == (
                    before,
                    at.to_bytes(8, "little"),
                    file_id,
                )
                body = data[at + 64 : at + 64 + length]
                assert zlib.crc32(body) == crc
                if kind == COMMIT:
                    commits.append((first, count, body))
                else:
                    in_force = self._after_checkpoint(body, in_force)
                at, before = (at + 64 + length + 7) // 8 * 8, frame[60:]
        return in_force, commits

    def _slots(self) -> tuple[tuple[bytes, int], list[tuple[int, int, bytes]]]:
        edge = checked(
            sorted((self.folder / "log" / "boundary").glob("*-slots"))[-1].read_bytes(), b"SOPEDGE\n"
        )
        assert edge.number(4) == 3
        edge.number(8)
        slot, kind = edge.number(8), edge.number(1)
        in_force = (edge.take(16), edge.number(8))
        assert kind == 1
        commits = []
        log = self._log_of_slots()
        while (path := log / f"{(slot + 1) // 4096:012}" / f"{slot + 1:020}.c").exists():
            slot += 1
            data = path.read_bytes()
            assert data[:8] == b"SOPSLOT\n" and zlib.crc32(data[:60]) == Cursor(data[60:64]).number(4)
            kind, count = struct.unpack("<HI", data[10:16])
            length, crc = struct.unpack("<QI", data[48:60])
            assert data[32:48] == self.uuid and len(data) == 64 + length and zlib.crc32(data[64:]) == crc
            if kind == COMMIT:
                commits.append((slot, count, data[64:]))
            elif kind == CHECKPOINT:
                in_force = self._after_checkpoint(data[64:], in_force)
        return in_force, commits

    def _log_of_slots(self) -> Path:
        """Of several copies: the log of the newest epoch that has begun."""
        log = self.folder / "log"
        active = sorted(path for path in log.glob("slots-*"))
        if not active:
            return log
        copy = checked((self.folder / "COPY").read_bytes(), b"SOPCOPY\n")
        assert copy.number(4) == 1 and copy.take(16) == self.uuid
        index, count = copy.number(1), copy.number(1)
        assert index < count and len(copy.rest()) == 2 * count
        number = active[-1].name.removeprefix("slots-")
        epoch = checked((log / "epoch" / number).read_bytes(), b"SOPEPOCH")
        assert epoch.number(4) == 1 and epoch.number(8) == int(number)
        epoch.take(16)
        assert epoch.number(8) >> index & 1
        return active[-1]

    @staticmethod
    def _after_checkpoint(body: bytes, in_force: tuple[bytes, int]) -> tuple[bytes, int]:
        cursor = Cursor(body)
        new, base = ((cursor.take(16), cursor.number(8)) for _ in range(2))
        return new if base == in_force else in_force

    def _commit(self, body: Cursor, transactions: int) -> None:
        for _ in range(transactions):
            for _ in range(body.varint()):
                kind, root = body.number(1), body.take(32)
                body.varint(), body.varint(), body.bytes(), body.bytes()
                body.take(16 * body.varint())
                run: dict[bytes, bytes] = {}
                self._tree(root, run)
                if kind == 1:
                    self.state.update(run)
                else:
                    for key in run:
                        self.state.pop(key, None)
            key = b""
            for _ in range(body.varint()):
                key = key[: body.varint()] + body.bytes()
                tag = body.number(1)
                if tag == 0:
                    self.state.pop(key, None)
                else:
                    self.state[key] = body.bytes() if tag == 1 else self._blob(body.take(32))
            for _ in range(body.varint()):
                key = body.bytes()
                before = int.from_bytes(self.state.get(key, b""), "little", signed=True)
                sum_of = before + struct.unpack("<q", body.take(8))[0]
                self.state[key] = sum_of.to_bytes(8, "little", signed=True)
        assert body.rest() == b""

    # The tree

    def _root(self, name: tuple[bytes, int]) -> bytes | None:
        owner, number = struct.unpack("<QQ", name[0])
        path = self.folder / "man" / f"{name[1]:020}-{owner:016x}-{number:016x}.man"
        manifest = checked(path.read_bytes(), b"SOPMAN\r\n")
        assert (manifest.number(4), manifest.take(16), manifest.number(8)) == (1, *name)
        return manifest.take(32) if manifest.number(1) else None

    def _tree(self, root: bytes | None, into: dict[bytes, bytes]) -> None:
        if root is None:
            return
        page = self._blob(root)
        kind, prefix_length, entries = page[0], *struct.unpack("<HI", page[2:8])
        prefix = page[8 : 8 + prefix_length]
        for entry in range(entries):
            (at,) = struct.unpack_from("<I", page, 8 + prefix_length + 4 * entry)
            length, tag, inside = struct.unpack_from("<HBH", page, at)
            key = prefix + page[at + 5 : at + 5 + length]
            value = page[at + 5 + length :]
            if kind == 2:
                self._tree(value[:32], into)
            else:
                into[key] = self._blob(value[:32]) if tag else value[:inside]

    def _blob(self, reference: bytes) -> bytes:
        owner, number, offset, length, stored_length, crc = struct.unpack("<QQIIII", reference)
        if (owner, number) not in self.segments:
            self.segments[owner, number] = self._segment(owner, number)
        stored = self.segments[owner, number][offset : offset + stored_length]
        assert zlib.crc32(stored) == crc
        return stored if stored_length == length else lz4(stored, length)

    def _segment(self, owner: int, number: int) -> bytes:
        name = f"{owner:016x}-{number:016x}"
        data = (
            self._joined(name, number >> 56)
            if number >> 56
            else (self.folder / "seg" / f"{name}.seg").read_bytes()
        )
        header = checked(data[:32], b"SOPSEG\r\n")
        assert header.number(4) == 1 and header.take(16) == struct.pack("<QQ", owner, number)
        return data

    def _joined(self, name: str, number: int) -> bytes:
        """A segment that is spread over drives, from its data shards."""
        said = checked((self.folder / "set" / str(number)).read_bytes(), b"SOPSET\r\n")
        assert said.number(4) == 1 and said.number(1) == number
        data_shards, _parity, unit = said.number(1), said.number(1), said.number(4)
        assert unit == UNIT
        units: dict[int, bytes] = {}
        length = 0
        for drive in self.drives:
            label = checked((drive / f"set-{number}" / "DRIVE").read_bytes(), b"SOPDRIVE")
            assert label.number(4) == 1 and label.take(16) == self.uuid and label.number(1) == number
            index = label.number(1)
            shard = (drive / f"set-{number}" / f"{name}.{index}").read_bytes()
            checked(shard[:40], b"SOPSHARD")
            length = int.from_bytes(shard[-12:-4], "little")
            owner = struct.pack("<QQB", *(int(part, 16) for part in name.split("-")), index)
            body, stripe = shard[40:-20], 0
            while index < data_shards and body:
                stored = body[: UNIT + 4]
                assert zlib.crc32(owner + struct.pack("<Q", stripe) + stored[:-4]) == Cursor(
                    stored[-4:]
                ).number(4)
                units[stripe * data_shards + index] = stored[:-4]
                body, stripe = body[len(stored) :], stripe + 1
        whole = b"".join(units[number] for number in range(len(units)))
        assert len(whole) == length
        return whole

    # The stores

    def stores(self) -> dict[str, tuple[bytes, Any]]:
        """Id and options by name, which begins with its kind."""
        found = {}
        for key, entry in self.state.items():
            if key.startswith(bytes(8) + b"s"):
                cursor = Cursor(entry)
                name = cursor.bytes().decode()
                found[name] = (key[9:], json.loads(cursor.rest()))
        return found

    def counter(self, store: bytes, name: bytes = b"n") -> int:
        return int.from_bytes(self.state.get(bytes(8) + b"c" + store + name, b""), "little", signed=True)

    def of(self, store: bytes, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for key in sorted(key for key in self.state if key.startswith(store + prefix)):
            yield key[8 + len(prefix) :], self.state[key]

    def btree(self, name: str) -> list[tuple[Any, Any]]:
        store, options = self.stores()[f"b/{name}"]
        spec = json.loads(options["index_specification"] or "null")
        items = []
        for key, record in self.of(store):
            text = Cursor(record)
            said = json.loads(text.bytes()) if text.number(1) else _Unsaid
            cursor = Cursor(key if options["is_unique"] else key[:-16])
            items.append((_key(cursor, spec) if said is _Unsaid else said, json.loads(text.rest())))
            assert said is not _Unsaid or cursor.rest() == b""
        return items

    def vectors(self, name: str) -> dict[str, tuple[list[float], Any, int]]:
        store, _ = self.stores()[f"v/{name}"]
        dimension, _metric, _mode = struct.unpack_from("<IBB", self.state[store + b"m"])
        blocks = {int.from_bytes(block, "big"): rows for block, rows in self.of(store, b"v")}
        found = {}
        for row, entry in self.of(store, b"p"):
            (length,) = struct.unpack_from("<H", entry)
            explicit = length >> 15
            centroid = int.from_bytes(entry[2:10], "little") if explicit else 0
            begin, length = (10 if explicit else 2), length & 0x7FFF
            id = entry[begin : begin + length].decode()
            payload = json.loads(entry[begin + length :] or b"null")
            number = int.from_bytes(row, "big")
            found[id] = (_vector(blocks[number >> 6], number, dimension), payload, centroid)
            assert self.state[store + b"i" + id.encode()] == row
        return found

    def models(self, name: str) -> dict[tuple[str, str, int], tuple[Any, bytes | None]]:
        store, _ = self.stores()[f"m/{name}"]
        found = {}
        for key, record in self.of(store, b"v"):
            cursor = Cursor(key)
            category, model = _text(cursor), _text(cursor)
            version = int.from_bytes(cursor.take(8), "big")
            record_cursor = Cursor(record)
            about = json.loads(record_cursor.take(record_cursor.number(4)))
            artifact = about["artifact"]
            file = None
            if artifact:
                id = bytes.fromhex(artifact["id"].replace("-", ""))
                file = b"".join(chunk for _, chunk in self.of(store, b"a" + id))
                assert len(file) == artifact["bytes"]
            found[category, model, version] = (json.loads(record_cursor.rest()), file)
        return found


class _Unsaid:
    """No key is written out."""


def _vector(block: bytes, row: int, dimension: int) -> list[float]:
    stride, slot = 8 + 4 * dimension, row & 63
    if len(block) % stride:
        (slots,) = struct.unpack("<Q", block[-9:-1])
        assert slots >> slot & 1
        slot = bin(slots & ((1 << slot) - 1)).count("1")
    stored = block[slot * stride : (slot + 1) * stride]
    assert zlib.crc32(struct.pack("<Q", row) + stored[4:]) == Cursor(stored).number(4)
    return list(struct.unpack(f"<{dimension}f", stored[8:]))


def _text(cursor: Cursor) -> str:
    out = bytearray()
    while True:
        byte = cursor.number(1)
        if byte == 0 and cursor.number(1) == 1:
            return out.decode()
        out.append(byte)


def _key(cursor: Cursor, spec: Any) -> Any:
    if spec is None:
        return _value(cursor)
    fields = {}
    for field in spec["index_fields"]:
        if not field["ascending_sort_order"]:
            cursor.data = cursor.data[: cursor.at] + bytes(255 - byte for byte in cursor.data[cursor.at :])
        if (value := _value(cursor)) is not _Unsaid:
            fields[field["field_name"]] = value
        if not field["ascending_sort_order"]:
            cursor.data = cursor.data[: cursor.at] + bytes(255 - byte for byte in cursor.data[cursor.at :])
    return fields


def _value(cursor: Cursor) -> Any:
    tag = cursor.number(1)
    if tag <= 4:
        return {1: _Unsaid, 2: None, 3: False, 4: True}[tag]
    if tag == 5:
        return _number(cursor)
    if tag == 6:
        return _text(cursor)
    values = []
    while cursor.data[cursor.at] != 0:
        values.append(_value(cursor))
    cursor.take(1)
    return values if tag == 7 else dict(zip(values[::2], values[1::2]))


def _number(cursor: Cursor) -> int | float:
    bits = int.from_bytes(cursor.take(8), "big")
    bits = bits ^ (1 << 63) if bits >> 63 else bits ^ ((1 << 64) - 1)
    (floor,) = struct.unpack("<d", struct.pack("<Q", bits))
    above = int.from_bytes(cursor.take(2), "big") if abs(floor) >= 2**53 else 0
    return int(floor) + above if floor.is_integer() and -(2**63) <= floor < 2**64 else floor
