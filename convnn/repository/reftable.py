"""What a branch refers to where git keeps branches as reftables (https://git-scm.com/docs/reftable)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from convnn.files import read_regular

MAX_LIST = 1 << 20  # bytes of the list of tables
MAX_TABLE = 1 << 28  # bytes of a table
HEADERS = {1: 24, 2: 28}  # bytes, by version
DELETED, COMMIT, TAG, SYMBOLIC = range(4)  # kinds of records


def read_reference(folder: Path, name: str) -> str | None:
    """Return what a name refers to in a folder of tables: a commit in hexadecimal digits, or "ref: NAME".

    Raises OSError and ValueError where the tables cannot be read.
    """
    if not (table_list := folder / "tables.list").exists():
        return None
    tables = read_regular(table_list, MAX_LIST, single_link=False).decode("ascii").split("\n")
    for table in filter(None, reversed(tables)):  # the newest is the last
        if not re.fullmatch(r"[\w-]+\.ref", table):
            raise ValueError("the list of reftables names what is none")
        data = read_regular(folder / table, MAX_TABLE, single_link=False)
        try:
            for record_name, value in _records(data):
                if record_name == name.encode():
                    return value
        except (IndexError, KeyError) as error:
            raise ValueError("a reftable is damaged") from error
    return None


def _records(data: bytes) -> Iterator[tuple[bytes, str | None]]:
    """Yield the name of each reference of a table with its value; None for one that is deleted."""
    version, block_size = data[4], int.from_bytes(data[5:8])
    if data[:4] != b"REFT":
        raise ValueError("a reftable is damaged")
    id_size = 32 if data[24:28] == b"s256" and version == 2 else 20
    block, start = 0, HEADERS[version]  # the first block begins with the header of the file
    while data[start : start + 1] == b"r":
        end = block + int.from_bytes(data[start + 1 : start + 4])
        restarts = int.from_bytes(data[end - 2 : end])
        yield from _block_records(data[start + 4 : end - 2 - 3 * restarts], id_size)
        is_padded = block_size > end - block and data[end : end + 1] == b"\0"
        following = block + block_size if is_padded else end
        if following <= block:
            raise ValueError("a reftable is damaged")
        block = start = following


def _block_records(data: bytes, id_size: int) -> Iterator[tuple[bytes, str | None]]:
    position, name = 0, b""
    while position < len(data):
        shared, position = _number(data, position)
        rest, position = _number(data, position)
        size, kind = rest >> 3, rest & 7
        name, position = name[:shared] + data[position : position + size], position + size
        _, position = _number(data, position)  # which update it is from
        value = None
        if kind in (COMMIT, TAG):
            value = data[position : position + id_size].hex()
            position += id_size * kind  # a tag has the id of its commit, too
        elif kind == SYMBOLIC:
            size, position = _number(data, position)
            value = "ref: " + data[position : position + size].decode("utf-8", "replace")
            position += size
        elif kind != DELETED:
            raise ValueError("a reftable is damaged")
        yield name, value


def _number(data: bytes, position: int) -> tuple[int, int]:
    """Return a number of variable length, and the position after it."""
    value = data[position] & 127
    while data[position] & 128:
        position += 1
        value = (value + 1) << 7 | data[position] & 127
    return value, position + 1
