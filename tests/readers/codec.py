"""The bytes of a supertable's own objects, as src/guide/format.rs specifies them.

Owns the decoding of pointer, manifest nodes and sidecars, and the checks that belong to it. Does not know
where objects lie or what a table's rows are (supertable.py does). Nothing here is taken from the Rust code.
"""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from dataclasses import dataclass

import blake3
import pyroaring


class Refused(Exception):
    """Bytes that are damaged, or of a format that this reader does not know."""


def hash_of(data):
    return blake3.blake3(data).digest()


class Payload:
    """Postcard: varints, zigzagged signed integers, lengths before sequences."""

    def __init__(self, data, name):
        self.data, self.at, self.name = data, 0, name

    def take(self, count):
        end = self.at + count
        if end > len(self.data):
            raise Refused(f"{self.name}: {count} bytes are missing at {self.at}")
        piece, self.at = self.data[self.at : end], end
        return piece

    def uint(self, bits=64):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if value >= 1 << bits:
            raise Refused(f"{self.name}: a number of more than {bits} bits")
        return value

    def int(self, bits=64):
        value = self.uint(bits)
        return (value >> 1) ^ -(value & 1)

    def bool(self):
        byte = self.take(1)[0]
        if byte > 1:
            raise Refused(f"{self.name}: {byte} is neither false nor true")
        return byte == 1

    def bytes(self):
        return self.take(self.uint())

    def string(self):
        return self.bytes().decode("utf-8")

    def hash(self):
        return self.take(32)

    def uuid(self):
        return uuid.UUID(bytes=self.take(16))

    def float(self):
        return struct.unpack("<d", self.take(8))[0]

    def option(self, read):
        return read() if self.bool() else None

    def seq(self, read):
        return [read() for _ in range(self.uint())]

    def rest(self):
        return len(self.data) - self.at

    def end(self):
        if self.rest():
            raise Refused(f"{self.name}: {self.rest()} bytes after the last field")


def open_frame(data, magic, expected, name):
    """The payload of a framed object whose bytes hash to `expected`."""
    if hash_of(data) != expected:
        raise Refused(f"{name}: its bytes hash to {hash_of(data).hex()}")
    if len(data) < 48 or data[:8] != magic:
        raise Refused(f"{name}: no {magic.decode()}")
    version, length = struct.unpack("<II", data[8:16])
    if version != 1:
        raise Refused(f"{name}: format version {version}; this reader knows version 1")
    if length != len(data) - 48:
        raise Refused(f"{name}: a payload of {len(data) - 48} bytes, {length} are announced")
    if hash_of(data[:-32]) != data[-32:]:
        raise Refused(f"{name}: its checksum does not match")
    return Payload(data[16:-32], name)


def line(keys):
    return json.dumps(keys, separators=(",", ":"), ensure_ascii=False).encode()


def decode_pointer(data):
    """The pointer: one line of JSON whose last key is the hash of the line without it."""
    try:
        pointer = json.loads(data)
    except ValueError:
        raise Refused("_supertable/current: no JSON") from None
    if pointer.get("format_version") != 1:
        raise Refused(f"_supertable/current: format version {pointer.get('format_version')}")
    checksum = pointer.pop("checksum", None)
    if hash_of(line(pointer)).hex() != checksum or line({**pointer, "checksum": checksum}) != data:
        raise Refused("_supertable/current: its checksum does not match, or another spelling")
    if "dropped_table" in pointer:
        raise Refused("the table was dropped")
    if "reserved_for" in pointer:
        raise Refused(f"the directory is kept for the table in {pointer['reserved_for']}")
    known = {"format_version", "table_id", "version", "manifest", "nonce", "new_nodes", "claim"}
    if set(pointer) - known:
        raise Refused(f"_supertable/current: unknown keys {sorted(set(pointer) - known)}")
    return pointer


@dataclass
class Ref:
    hash: bytes
    first: uuid.UUID
    superfiles: int
    rows: int
    live_rows: int
    bytes: int


def ref(p):
    return Ref(p.hash(), p.uuid(), p.uint(), p.uint(), p.uint(), p.uint())


@dataclass
class Root:
    version: int
    parent: bytes | None
    created_at_ms: int
    schema: bytes
    initial_defaults: dict  # field id -> text
    groups: list
    skips: list

    def skip_versions(self):
        powers = [4**n for n in range(1, 32)]
        versions = [(self.version - 1) // power * power for power in powers]
        return [version for version in versions if version > 0]

    def ancestors(self):
        """Older versions and their roots, the oldest first."""
        found = dict(zip(self.skip_versions(), self.skips))
        if self.parent is not None:
            found[self.version - 1] = self.parent
        return sorted(found.items())


OPERATIONS = {"INSERT", "DELETE", "UPDATE", "MERGE", "TRUNCATE", "OVERWRITE", "COMPACT", "ALTER", "RESTORE"}


def commit(p):
    wal_id, op = p.take(16), p.string()
    if op not in OPERATIONS:
        raise Refused(f"{p.name}: unknown operation {op}")
    version, inserted, deleted, updated = (p.uint() for _ in range(4))
    return wal_id, op, version, inserted, deleted, updated, p.string(), p.int()


def decode_root(data, expected, name):
    p = open_frame(data, b"STBLROOT", expected, name)
    p.take(16)  # the salt
    version, parent, skips, created_at_ms = p.uint(), p.option(p.hash), p.seq(p.hash), p.int()
    p.uuid()  # the table's id
    schema = p.bytes()
    p.seq(lambda: (p.string(), p.string()))  # properties
    p.seq(lambda: (p.string(), p.string()))  # defaults, which are for writers
    initial_defaults = dict(p.seq(lambda: (p.int(32), p.string())))
    p.uint()  # how often external files were added
    p.seq(lambda: (p.string(), p.bool(), p.bool()))  # the order in which writers sort rows
    p.seq(lambda: (p.string(), p.bool(), p.seq(lambda: p.int(32))))  # declared keys
    p.int(32)  # the next field id
    p.seq(lambda: (p.int(32), p.string()))  # retired physical names
    for _ in range(5):  # when metadata, schema, places of rows and rows last changed; when a restore was
        p.uint()
    # What is known of rows of dropped superfiles, and the keys that were added lately: for writers.
    p.seq(lambda: (p.uint(), p.seq(lambda: (p.int(32), p.option(lambda: bound(p)), p.option(lambda: bound(p))))))
    p.seq(lambda: (p.uint(), p.seq(p.uuid), p.seq(lambda: p.int(32)), p.seq(lambda: p.take(8))))
    p.seq(lambda: commit(p)), p.seq(lambda: commit(p))
    groups = p.seq(lambda: ref(p))
    p.end()
    root = Root(version, parent, created_at_ms, schema, initial_defaults, groups, skips)
    if len(skips) != len(root.skip_versions()):
        raise Refused(f"{name}: {len(skips)} skip pointers in version {version}")
    return root


def decode_group(data, node, name):
    p = open_frame(data, b"STBLGRUP", node.hash, name)
    p.take(16)  # the salt
    leaves = p.seq(lambda: ref(p))
    p.end()
    check_sums(node, leaves, name)
    return leaves


@dataclass
class Tombstones:
    sidecar: uuid.UUID
    hash: bytes
    cardinality: int
    size: int


@dataclass
class Entry:
    id: uuid.UUID
    rows: int
    size: int
    first_row_id: int | None
    footer_checksum: bytes | None  # lengths and hashes of the file's end
    in_place: tuple | None  # (path, tag) of a file that is read where its owner has it
    external: dict | None  # field id -> ("name", name in the file) or ("constant", text or None)
    tombstones: Tombstones | None

    # What a reference to a node sums up.
    superfiles = 1

    @property
    def first(self):
        return self.id

    @property
    def live_rows(self):
        return self.rows - (self.tombstones.cardinality if self.tombstones else 0)

    @property
    def bytes(self):
        return self.size


def variant(p, *readers):
    """The value of an enum, whose variants these functions read."""
    kind = p.uint(32)
    if kind >= len(readers):
        raise Refused(f"{p.name}: unknown variant {kind}")
    return readers[kind]()


def bound(p):
    return variant(p, p.bool, p.int, p.uint, p.float, lambda: p.int(128), p.string, p.bytes)


def statistics(p):
    return p.int(32), p.option(lambda: bound(p)), p.option(lambda: bound(p)), p.option(p.uint), p.bool(), p.bool()


def external(p):
    p.string()  # where the file was
    name, constant = lambda: ("name", p.string()), lambda: ("constant", p.option(p.string))
    return dict(p.seq(lambda: (p.int(32), variant(p, name, constant))))


def clustering(p):
    variant(p, *[lambda: None] * 4)
    return p.seq(lambda: p.int(32)), p.uuid(), p.uint()


def entry(p):
    id, rows, size = p.uuid(), p.uint(), p.uint()
    p.int()  # when it was written
    first_row_id = p.option(lambda: int.from_bytes(p.take(16), "big"))
    footer_checksum, in_place = p.option(p.bytes), p.option(lambda: (p.string(), p.string()))
    columns = p.option(lambda: external(p))
    p.option(lambda: clustering(p)), p.seq(lambda: statistics(p))
    tombstones = p.option(lambda: Tombstones(p.uuid(), p.hash(), p.uint(), p.uint()))
    p.uint(), p.uint(), p.uint(32)  # when its rows last moved, and last came; how many versions have deleted rows of it
    if footer_checksum is not None and len(footer_checksum) != 40 or in_place and footer_checksum is None:
        raise Refused(f"{p.name}: superfile {id} has no footer_checksum that can be")
    return Entry(id, rows, size, first_row_id, footer_checksum, in_place, columns, tombstones)


def decode_leaf(data, node, name):
    p = open_frame(data, b"STBLLEAF", node.hash, name)
    p.take(16)  # the salt
    entries = p.seq(lambda: entry(p))
    p.end()
    check_sums(node, entries, name)
    return entries


def check_sums(node, children, name):
    """A node holds 1 to 64 children in ascending order, and is what the reference to it says."""
    if not 1 <= len(children) <= 64:
        raise Refused(f"{name}: {len(children)} children")
    firsts = [child.first for child in children]
    if firsts != sorted(set(firsts)) or firsts[0] != node.first:
        raise Refused(f"{name}: its children are out of order")
    for what in ("superfiles", "rows", "live_rows", "bytes"):
        if sum(getattr(child, what) for child in children) != getattr(node, what):
            raise Refused(f"{name}: its {what} are not those of the reference to it")


def decode_sidecar(data, tombstones, rows, name):
    """The deleted positions of a superfile of `rows` rows."""
    if hash_of(data) != tombstones.hash or len(data) != tombstones.size:
        raise Refused(f"{name}: its bytes are not those that the manifest names")
    p = Payload(data, name)
    if p.take(8) != b"INFTOMB\0" or p.take(4) != struct.pack("<I", 1):
        raise Refused(f"{name}: no sidecar of version 1")
    if p.bool():
        p.take(24)  # who closed it, and when
    bitmap = p.take(struct.unpack("<I", p.take(4))[0])
    p.end()
    deleted = pyroaring.BitMap.deserialize(bitmap)
    if len(deleted) != tombstones.cardinality or (deleted and deleted.max() >= rows):
        raise Refused(f"{name}: its positions are not those that the manifest counts")
    return deleted


# What the table of a superfile's checksums ends with.
CHECKSUMS = bytes.fromhex("d3f1a36b55c24f0e9a41b1c6a70e32d7")


def check_file(data, entry, name):
    """Compares a superfile's bytes with its entry, and then with the checksums in its footer."""
    if len(data) != entry.size:
        raise Refused(f"{name} has {len(data)} bytes, not {entry.size}")
    if entry.footer_checksum is None:
        return
    footer, index = struct.unpack("<II", entry.footer_checksum[:8])
    start = len(data) - footer
    if not 12 <= footer <= len(data) or index > start:
        raise Refused(f"{name}: a footer of {footer} bytes in a file of {len(data)}")
    if hash_of(data[start:])[:16] != entry.footer_checksum[8:24]:
        raise Refused(f"{name}: its footer is not the one that the manifest names")
    if hash_of(data[start - index : start])[:16] != entry.footer_checksum[24:]:
        raise Refused(f"{name}: its page indexes are not those that the manifest names")
    # The table stands before the end of the footer's struct, the footer's length and the magic.
    table = data[start:-9]
    if data[-9] == 0 and table[-16:] == CHECKSUMS:
        check_blocks(data, table, name)


def check_blocks(data, table, name):
    covered, size, count = struct.unpack("<QII", table[-32:-16])
    if not 1 << 10 <= size <= 1 << 20 or count != -(-covered // size) or 32 + 4 * count > len(table):
        raise Refused(f"{name}: its checksums are not those of a file")
    field = b"\x08\xfe\xff\x03" + varint(4 * count + 32) + table[-32 - 4 * count :]
    if data[covered:-9] != field:
        raise Refused(f"{name}: its checksums are not of a file of {len(data)} bytes")
    for block, checksum in enumerate(struct.unpack(f"<{count}I", table[-32 - 4 * count : -32])):
        piece = data[block * size : min(covered, (block + 1) * size)]
        if zlib.crc32(piece) != checksum:
            raise Refused(f"{name}: damaged in the {len(piece)} bytes from {block * size} on")


def varint(number):
    piece = b""
    while number >= 0x80:
        piece, number = piece + bytes([number & 0x7F | 0x80]), number >> 7
    return piece + bytes([number])
