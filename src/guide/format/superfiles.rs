//! Superfiles, external files, and tombstones.
//!
//! # Superfiles
//!
//! A superfile is a Parquet file that any Parquet reader opens. It is written once and never changes. It has at most 2^24
//! rows. Rows are numbered from 0 in the order of the file, over all row groups: this number is a row's *position*.
//! Deleted rows stay in the file, so a program that opens a superfile by itself sees them too.
//!
//! A foreign writer may choose row groups, pages, encodings, compression and statistics freely, with these rules:
//!
//! - Columns have the table's field ids and physical names, nested fields too. A column of the table may be missing only
//!   if it is nullable and has no initial default; a column that the table does not have must not be there.
//! - The embedded Arrow schema (`ARROW:schema`), if there is one, uses plain types: `Utf8`, `Binary`, `List` and not
//!   their view types.
//! - For float columns it writes no statistics into row groups and page indexes: Parquet leaves NaN out of its bounds, and
//!   readers that order NaN above all numbers would leave out rows that are there.
//!
//! # Columns
//!
//! Readers and writers know a column by its *field id*, never by its name alone. Each field of a table's schema says in its
//! metadata:
//!
//! | key | value |
//! | --- | --- |
//! | `PARQUET:field_id` | its id, decimal; superfiles have it in their Parquet schema |
//! | `supertable.physical_name` | what superfiles call the field; absent if that is its name |
//! | `supertable.added` | `1` on a member that its struct got later: older superfiles hold the struct without it |
//!
//! A field gets its physical name when it is made, and keeps it for ever: the name that it has then, or, where
//! another field of the same parent has or had that physical name, `name_id` with its field id (again and again,
//! until it is free). Names that differ in case alone count as the same. `_id` is never a column's physical name. Columns
//! and members of structs have physical names; a list's items and what is in a map go by their places.
//!
//! To read the table's column *c* from a superfile:
//!
//! 1. Find the column of the file with the field id of *c*. Inside a struct, find its members in the same way, at every
//!    depth; a member that the file does not have is NULL. Items of lists, and keys and values of maps, have one place.
//! 2. If the file has none, the value of all its rows is that of `initial_defaults` in the table's metadata, if *c* has one
//!    there: text that is to be cast to the type of *c*. Else it is NULL.
//! 3. Cast to the type that *c* has today. It is the file's type or a wider one: an integer of more bits, a float of more
//!    bits, a decimal of more digits and the same scale.
//!
//! A column of the file that the table does not have was dropped: leave it out.
//!
//! Superfiles have plain types where the table's schema has views (`Utf8View`, `BinaryView`); the values are the same.
//!
//! Text of initial defaults and of constants is as Arrow casts values to strings: digits, `true` and `false`, ISO 8601 dates
//! and times, strings as they are.
//!
//! # Row ids
//!
//! Each row has an id of 128 bits that it keeps when it is updated or moved. It stands in one of two places:
//!
//! - If the entry has `first_row_id`, the id of the row at position *p* is `first_row_id + p`.
//! - Otherwise the superfile stores ids, in a column with the physical name `_id` and the field id 2147483647, of type
//!   Decimal128(38, 0) (the id as a number). A value that is NULL there, with `first_row_id` given, falls back to the rule above.
//!
//! `INSERT` stores none. `UPDATE`, `MERGE` and compactions store them, because the rows had ids before.
//!
//! # Tombstones
//!
//! A sidecar is `superfiles/<uuid>.tombstones`. The manifest entry of a superfile names the sidecar in force, its hash, its
//! length and how many rows it deletes; a reader must check all three. A further `DELETE` writes a new sidecar, with the
//! union; so an old version goes on to see what it saw.
//!
//! ```text
//! offset      size  field
//! 0           8     magic "INFTOMB\0"
//! 8           4     version, u32 little-endian = 1
//! 12          1     flag: 0, or 1 if the next two fields are there
//! (13         16    who closed the sidecar to replacement: a uuid, big-endian)
//! (29         8     when: i64 little-endian, ms since 1970)
//! 13 | 37     4     n, length of the bitmap, u32 little-endian
//! 17 | 41     n     the bitmap, in roaring's portable serialisation for 32-bit values
//! end               nothing follows
//! ```
//!
//! Positions are below the superfile's number of rows. Writers of this crate write the flag 0. See the
//! [specification of roaring](https://github.com/RoaringBitmap/RoaringFormatSpec).
//!
//! # Checksums
//!
//! Every byte of a superfile is covered. The manifest entry has the lengths and hashes of the file's end, its
//! *footer checksum*; the footer, which it covers, has a checksum of each block of the rest.
//!
//! ```text
//! pages … | page indexes: index_len bytes | footer: footer_len bytes, to the end of the file
//!           whatever lies between            metadata, its length (4), "PAR1" (4)
//!
//! offset  size  the footer checksum
//! 0       4     footer_len, u32 little-endian
//! 4       4     index_len, u32 little-endian: 0 if there are none
//! 8       16    the first half of the blake3 of the footer
//! 24      16    the first half of the blake3 of the page indexes
//! ```
//!
//! The page indexes begin at the least offset of a column or offset index that the footer names, and end where the footer
//! begins. A reader reads the footer by its length, compares the hash, and only then decodes it.
//!
//! The footer ends with a field of its own, which other readers skip: the Parquet format reserves the field 32767 of its
//! structs for extensions.
//!
//! ```text
//! pages, indexes, footer without its last byte: L bytes | the field | 0x00 | footer's length (4) | "PAR1"
//!
//! offset  size  the field, in Thrift's compact encoding
//! 0       1     0x08: binary, the field's id follows
//! 1       3     0xfe 0xff 0x03: the id 32767, as a zigzag varint
//! 4       1…5   m, the length of what follows, varint
//!
//! then m bytes
//! 0       4·n   CRC-32 of each block, u32 little-endian, from the start of the file on
//! 4·n     8     L, the bytes that are covered, u64 little-endian: where the field begins
//! 4·n+8   4     the length of a block, u32 little-endian: 1,024 to 1,048,576, writers of this crate use 16,384
//! 4·n+12  4     n, the number of blocks, u32 little-endian: L divided by the length of a block, rounded up
//! 4·n+16  16    d3f1a36b-55c2-4f0e-9a41-b1c6a70e32d7, big-endian: whose extension this is
//! ```
//!
//! CRC-32 is that of zlib, gzip and Parquet's own pages. A reader finds the field from the end of the file: the last nine
//! bytes are the end of the struct, the footer's length and the magic; before them stands the uuid. It checks that the
//! table is that of this file (the field begins at L and ends nine bytes before the end), rounds what it reads to whole
//! blocks, and compares each of them. An external file has no such field. A foreign writer may leave it
//! out: then nothing proves the pages of its files.
//!
//! To write the field, hold the last nine bytes of the Parquet file back, compute the checksums of all before, and write the
//! field, the byte 0, the footer's new length (the old one and that of the field) and the magic. No offset in the
//! file changes. Size and footer checksum in the entry are those of the result.
//!
//! # External files
//!
//! An *external file* is a Parquet file that its owner wrote and that an entry names (the entry has `external`). Its columns
//! carry no field ids of the table, so the entry says where its fields are; its rows have no stored ids, so the entry
//! has `first_row_id`. A column `_id` of such a file is not a row id. Its types may differ more from the table's than
//! those of superfiles: dictionaries, a coarser unit of time, another name of the zone UTC, a decimal with a smaller
//! scale. Each value of the file still is a value of the table's type, and a cast gives it.
//!
//! The file is either a copy, under the name of a superfile, or stays *in place*: then the entry has its path and a
//! *tag* of the state in which it was added.
//!
//! ```text
//! path  "data/a.parquet"     below the table's root
//!       "/data/a.parquet"    from the root of the object store that the table is in (on a local disk: of the file system)
//! tag   the object's ETag; on a local disk "<modification time in µs since 1970>-<size>"
//! ```
//!
//! A path has no empty segments and neither `.` nor `..`, and does not begin with one of the table's own folders. A reader must
//! compare the tag whenever it reads the file, also a part of it, and refuse a file whose tag is another: its owner may
//! write it anew at any time. Nobody but the owner writes or deletes the file.
//!
//! A column of the table that an entry places nowhere is missing in the file: the rules above apply. Bounds that such a
//! file's footer has for float columns must not be used, because other writers leave NaN out of them.
