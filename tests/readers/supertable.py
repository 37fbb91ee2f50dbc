"""An independent reader of supertables on a local disk, written from the specification of the format.

    python3 supertable.py ROOT                  rows of the current version as JSON lines, ordered by _id
    python3 supertable.py ROOT --version 3      rows of version 3
    python3 supertable.py ROOT --time 2026-01-31T12:00:00Z    rows of the newest version not younger than this
    python3 supertable.py ROOT --columns        columns, each with its field id and its physical name

It only reads. What it does not know, it refuses. Values that JSON lacks are text: decimals and row ids as
digits, times as ISO 8601, bytes as hex.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import json
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from codec import (
    Refused,
    check_file,
    decode_group,
    decode_leaf,
    decode_pointer,
    decode_root,
    decode_sidecar,
)

# The field id of the stored row id.
ROW_ID = 2**31 - 1


class Table:
    def __init__(self, root):
        self.root = os.path.abspath(root)
        self.pointer = decode_pointer(self.read("_supertable/current"))

    def read(self, *path):
        try:
            with open(os.path.join(self.root, *path), "rb") as file:
                return file.read()
        except FileNotFoundError:
            raise Refused(f"{os.path.join(*path)} is not there") from None

    def node(self, decode, hash, expected):
        name = f"_supertable/manifest/{hash.hex()}"
        return decode(self.read(name), expected, name)

    def root_node(self, hash):
        return self.node(decode_root, hash, hash)

    def version(self, wanted=None, time_ms=None):
        """The root of the version that is meant."""
        root = self.root_node(bytes.fromhex(self.pointer["manifest"]))
        if root.version != self.pointer["version"]:
            raise Refused(f"the pointer names version {self.pointer['version']}, its root is {root.version}")
        while not (time_ms is None or root.created_at_ms <= time_ms):
            root = self.step(root, root.version - 1)
        while wanted is not None and root.version != wanted:
            root = self.step(root, wanted)
        return root

    def step(self, root, wanted):
        """The oldest version that `root` names, is not older than `wanted`, and is there."""
        for version, hash in root.ancestors():
            path = os.path.join(self.root, "_supertable/manifest", hash.hex())
            if version >= wanted and os.path.exists(path):
                found = self.root_node(hash)
                if found.version != version:
                    raise Refused(f"version {root.version} names version {found.version} as {version}")
                return found
        raise Refused(f"there is no such version; the oldest that was reached is {root.version}")

    def entries(self, root):
        for group in root.groups:
            for leaf in self.node(decode_group, group.hash, group):
                yield from self.node(decode_leaf, leaf.hash, leaf)

    def columns(self, root):
        return [
            {"name": field.name, "field_id": field_id(field), "physical_name": physical_name(field)}
            for field in schema_of(root)
        ]

    def rows(self, root):
        """The version's rows, each a dictionary with the row id as `_id`, ordered by it."""
        fields, rows = schema_of(root), []
        for entry in self.entries(root):
            rows += self.superfile(entry, fields, root.initial_defaults)
        return sorted(rows, key=lambda row: row["_id"])

    def superfile(self, entry, fields, initial_defaults):
        file = pq.ParquetFile(pa.BufferReader(self.superfile_bytes(entry)))
        # Pyarrow's threads may abort a process that ends while they begin.
        stored = file.read(use_threads=False)
        if stored.num_rows != entry.rows:
            raise Refused(f"superfile {entry.id} has {stored.num_rows} rows, not {entry.rows}")
        columns = [self.row_ids(entry, stored)]
        for field in fields:
            columns.append(self.column(entry, stored, field, initial_defaults))
        names = ["_id", *(field.name for field in fields)]
        rows = pa.table(columns, names=names).to_pylist()
        deleted = self.deleted(entry)
        return [row for position, row in enumerate(rows) if position not in deleted]

    def deleted(self, entry):
        if entry.tombstones is None:
            return ()
        name = f"superfiles/{entry.tombstones.sidecar}.tombstones"
        return decode_sidecar(self.read(name), entry.tombstones, entry.rows, name)

    def superfile_bytes(self, entry):
        path = os.path.join(self.root, f"superfiles/{entry.id}.parquet")
        if entry.in_place is not None:
            # Relative to the table's root, or from the root of the store, which is the disk's.
            path = os.path.join(self.root, entry.in_place[0])
            self.check_tag(path, entry.in_place[1])
        data = self.read(path)
        check_file(data, entry, path)
        return data

    def check_tag(self, path, tag):
        state = os.stat(path)
        if f"{state.st_mtime_ns // 1000}-{state.st_size}" != tag:
            raise Refused(f"{path} was changed since it was added to the table")

    def row_ids(self, entry, stored):
        if entry.first_row_id is not None:
            ids = range(entry.first_row_id, entry.first_row_id + entry.rows)
        else:
            ids = [int(id) for id in self.stored_ids(entry, stored)]
        return pa.array([decimal.Decimal(id) for id in ids], pa.decimal128(38, 0))

    def stored_ids(self, entry, stored):
        """The file's column of row ids, which has a field id of its own."""
        for field, column in zip(stored.schema, stored.columns):
            if field_id(field) == ROW_ID:
                return column.to_pylist()
        raise Refused(f"superfile {entry.id} stores no row ids")

    def column(self, entry, stored, field, initial_defaults):
        """The column `field` of the table as the superfile has it, by field id; never by name alone."""
        where = Members(entry.external)
        found = where.find(field, stored.schema)
        if found is not None:
            chunks = stored.column(found).combine_chunks()
            return conform(chunks, stored.schema.field(found), field, where)
        kind, text = (entry.external or {}).get(field_id(field), (None, None))
        if kind is None:
            text = initial_defaults.get(field_id(field))
        return constant(text, field.type, entry.rows)


class Members:
    """Which member of a struct, or column of a file, holds a field of the table."""

    def __init__(self, external):
        self.external = external

    def find(self, field, among):
        for i, candidate in enumerate(among):
            if self.external is None:
                same = field_id(candidate) is not None and field_id(candidate) == field_id(field)
            else:
                same = self.external.get(field_id(field)) == ("name", candidate.name)
            if same:
                return i
        return None


def schema_of(root):
    return pa.ipc.open_stream(root.schema).schema


def field_id(field):
    id = (field.metadata or {}).get(b"PARQUET:field_id")
    return None if id is None else int(id)


def physical_name(field):
    return (field.metadata or {}).get(b"supertable.physical_name", field.name.encode()).decode()


def constant(text, type, rows):
    if text is None:
        return pa.nulls(rows, type)
    value = pa.array([text], pa.string()).cast(type)
    return pa.concat_arrays([value] * rows) if rows else value[:0]


def conform(array, stored, field, where):
    """`array`, stored as `stored`, in the type that the table's field has today."""
    type = field.type
    if pa.types.is_dictionary(array.type) and not pa.types.is_dictionary(type):
        array = array.dictionary_decode()
    if pa.types.is_struct(type):
        members, columns = list(stored.type), array.flatten()
        parts = []
        for member in type:
            found = where.find(member, members)
            if found is None:
                parts.append(pa.nulls(len(array), member.type))
            else:
                parts.append(conform(columns[found], members[found], member, where))
        return pa.StructArray.from_arrays(parts, fields=list(type), mask=array.is_null())
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        items = conform(array.values, stored.type.value_field, type.value_field, where)
        made = pa.ListArray if pa.types.is_list(type) else pa.LargeListArray
        return made.from_arrays(array.offsets, items, type=type, mask=array.is_null() if array.null_count else None)
    return array.cast(type)


def plain(value):
    """`value` as JSON can say it."""
    if isinstance(value, dict):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return value


def milliseconds(text):
    """The moment `text` in milliseconds since 1970."""
    moment = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return (moment - epoch) // datetime.timedelta(milliseconds=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root")
    parser.add_argument("--version", type=int)
    parser.add_argument("--time", type=milliseconds)
    parser.add_argument("--columns", action="store_true")
    arguments = parser.parse_args()
    try:
        table = Table(arguments.root)
        root = table.version(arguments.version, arguments.time)
        rows = table.columns(root) if arguments.columns else table.rows(root)
    except (Refused, OSError, pa.ArrowException) as refused:
        sys.exit(f"refused: {refused}")
    for row in rows:
        print(json.dumps(plain(row), ensure_ascii=False))


if __name__ == "__main__":
    main()
