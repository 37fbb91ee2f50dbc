//! The manifest of one version: root, groups, leaves.
//!
//! ```text
//! root    what the version says of itself, and references to groups, as many as it takes
//! group   1 to 64 references to leaves
//! leaf    1 to 64 entries of superfiles
//! ```
//!
//! Each node is one immutable object, [framed](super::encodings#the-frame), named by the blake3 of all its bytes, and shared by
//! the versions that have it in common. Entries ascend strictly by superfile id (as bytes) over the whole tree, so a
//! reader finds a superfile by binary search over `first`.
//!
//! Notation: see [`encodings`](super::encodings#postcard). Fields stand in the order of the tables.
//!
//! # Root, `STBLROOT`
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `salt` | `[u8; 16]` | see below |
//! | `version` | u64 | the version, from 1, one more in each commit |
//! | `parent` | `option<[u8; 32]>` | the root of the version before; absent in version 1 only |
//! | `skips` | `seq<[u8; 32]>` | roots of older versions, see below |
//! | `created_at_ms` | i64 | when the version was made, ms since 1970, by its committer's clock; never less than the parent's |
//! | `metadata` | metadata | see below |
//! | `metadata_changed_at` | u64 | the version in which the metadata last changed |
//! | `schema_changed_at` | u64 | the version in which the schema last changed, or a key was declared that no older one implies |
//! | `moved_at` | u64 | the last version in which rows moved; 0: never |
//! | `rows_changed_at` | u64 | the last version in which rows came, went or changed |
//! | `restored_at` | u64 | the last version that a `RESTORE` made; 0: never |
//! | `dropped` | `seq<(added_at u64, columns seq<(field_id i32, bounds)>)>` | what is known of the rows of dropped superfiles, see [protocol](super::protocol#keys); no column twice |
//! | `added_keys` | `seq<added keys>` | keys that versions added lately, the youngest last, see [protocol](super::protocol#keys) |
//! | `commits` | `seq<commit>` | the mutations that this version committed |
//! | `pending` | `seq<commit>` | mutations of earlier versions whose WAL documents are not known to be gone |
//! | `groups` | `seq<ref>` | |
//!
//! *bounds* are `min` and `max`, `option<value>` each, as in the [statistics](#leaf-stblleaf) of a column. *added keys* are `version`
//! u64 (which added them), `superfiles` `seq<[u8; 16]>`, `columns` `seq<i32>` (field ids, ascending), `hashes` `seq<[u8; 8]>`, ascending.
//!
//! # Metadata
//!
//! What the table is, apart from its rows. In the root the fields stand without a frame; in a change set they are
//! framed as `STBLMETA`.
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `table_id` | `[u8; 16]` | |
//! | `schema` | bytes | the columns: an Arrow IPC stream without batches. Keys of fields: see [`superfiles`](super::superfiles#columns) |
//! | `properties` | `map<string, string>` | options, see below |
//! | `defaults` | `map<string, string>` | by a column's name: SQL of what an `INSERT` that leaves the column out puts in |
//! | `initial_defaults` | `map<i32, string>` | by a column's field id: the value, as text, of rows that are older than the column; it never changes |
//! | `adoptions` | u64 | how often external files were added; a mutation that adds some adds one |
//! | `sort_order` | `seq<(name string, descending bool, nulls_first bool)>` | the order in which writers sort rows, empty: none |
//! | `keys` | `seq<(name string, is_primary bool, columns seq<i32>)>` | declared keys, their columns by field id in the order of the declaration |
//! | `next_field_id` | i32 | the field id that the next new field gets; ids are never used twice |
//! | `retired_names` | `seq<(parent i32, name string)>`, ascending | physical names of dropped fields, in lower case, each below the field id of its struct, or 0 for a column; never used again |
//!
//! Every field of the schema that Parquet gives a node of its own (columns, members of structs, items of lists, keys and
//! values of maps) has an id from 1 to `next_field_id − 1`, each another. A new version keeps each physical name of the
//! version before at the same field id, or retires it.
//!
//! A key has one column at least, each of which is in the schema, and none twice; names differ; there is one primary key at
//! most, whose columns are not nullable. No two live rows have the same values in the columns of a key; a row with a NULL there
//! equals none. A writer that cannot see to it must refuse to add rows to a table with keys.
//!
//! `adoptions` is there so that two mutations that add external files at once change the metadata both: then one of them
//! conflicts, and looks again which files the table has.
//!
//! Properties are [options](crate::guide::options) by name. A reader needs none of them. `supertable.check.<name>` is SQL: a
//! condition that every row must satisfy. A writer must enforce `NOT NULL` (a field that is not nullable) and all conditions; one that
//! cannot evaluate SQL must refuse to write a table that has any.
//!
//! # Commit
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `wal_id` | `[u8; 16]` | the mutation |
//! | `op` | string | as `op_kind` in its [document](super::mutations) |
//! | `version` | u64 | the version that committed it |
//! | `rows_inserted`, `rows_deleted`, `rows_updated` | u64 each | |
//! | `statement` | string | at most 1,024 bytes of its text |
//! | `started_at_ms` | i64 | when it began |
//!
//! # Reference
//!
//! To a group or a leaf:
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `hash` | `[u8; 32]` | the node's name |
//! | `first` | `[u8; 16]` | the smallest superfile id below it |
//! | `superfiles`, `rows`, `live_rows`, `bytes` | u64 each | sums over the entries below it; `bytes` without sidecars |
//!
//! A reader must check `first` and the sums against what it finds in the node.
//!
//! # Group, `STBLGRUP`
//!
//! `salt` `[u8; 16]`, then `seq<ref>`: 1 to 64 leaves.
//!
//! # Leaf, `STBLLEAF`
//!
//! `salt` `[u8; 16]`, then `seq<entry>`: 1 to 64 entries. An entry:
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `id` | `[u8; 16]` | the superfile |
//! | `rows` | u64 | its rows, deleted ones included |
//! | `size` | u64 | its bytes |
//! | `created_at_ms` | i64 | when it was written |
//! | `first_row_id` | `option<[u8; 16]>` | see [`superfiles`](super::superfiles#row-ids); absent: the file stores the ids |
//! | `footer_checksum` | `option<bytes>` | 40 bytes, the [hashes of the file's end](super::superfiles#checksums); absent if the end takes more than 256 MiB |
//! | `in_place` | `option<(path string, tag string)>` | the file is not the table's own but is read here; not without `footer_checksum` |
//! | `external` | `option<external>` | the file was written by others; see below |
//! | `clustering` | `option<clustering>` | along what the file was written; see below |
//! | `stats` | `seq<column>` | what is known of its columns; no column twice |
//! | `tombstones` | `option<(sidecar [u8; 16], hash [u8; 32], cardinality u64, size u64)>` | the sidecar in force: id, blake3, number of positions, bytes; absent while no row is deleted |
//! | `moved_at` | u64 | the last version in which a change set that moves rows tombstoned it; 0: never |
//! | `added_at` | u64 | the last version in which a row came into it, other than by a `COMPACT` |
//! | `delete_count` | u32 | how many versions have deleted rows of it |
//!
//! **external**: `source` string (where the file was, and which state of it: a table takes no state of an object twice),
//! `columns` `seq<(field_id i32, stored)>`, no field twice. *stored* is an enum: 0 `name` string, the field is the file's field
//! of this name, in the column or struct that it belongs to; 1 `option<string>`, the field is not in the file and all
//! rows have this value, as text, or NULL. A field that is not listed is not in the file.
//!
//! **clustering**: `layout` enum (0 Z-order, 1 Hilbert, 2 the table's `sort_order`, 3 as stored), `columns` `seq<i32>` (field ids),
//! `run` `[u8; 16]` (the first superfile that was written of the same run), `bytes` u64 (the size of what the run was made
//! from). A compaction writes it; others may ignore it, and must drop it from no entry.
//!
//! **column** (statistics of one column):
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `field_id` | i32 | |
//! | `min`, `max` | `option<value>` each | no value of the file is smaller, or greater; absent: not known |
//! | `null_count` | `option<u64>` | how many rows are NULL |
//! | `min_exact`, `max_exact` | bool each | whether the bound is a value of the file, not only a bound |
//!
//! | variant of *value* | type | columns |
//! | --- | --- | --- |
//! | 0 | bool | Boolean |
//! | 1 | i64 | Int8 to Int64, dates, times, timestamps and durations in the column's unit |
//! | 2 | u64 | UInt8 to UInt64 |
//! | 3 | f64 | floats; never NaN |
//! | 4 | i128 | Decimal32 to Decimal128, without their scale |
//! | 5 | string | strings |
//! | 6 | bytes | binary |
//!
//! Bounds hold for all rows of the file, deleted ones included, in the order of the variant's values; strings and bytes compare
//! byte by byte; floats in IEEE 754's total order, so a column with a NaN has no bounds. A writer shortens strings and bytes
//! to 128 bytes, and keeps statistics of the first 32 columns at most. Statistics may be missing; they must not be wrong.
//!
//! # Earlier versions
//!
//! A root names its parent and some far older versions, so that any version takes few reads. `skips` has, for each power *p*
//! of 4 from 4 on, as long as the result is not 0, the root of the version `⌊(version − 1) / p⌋ · p`: the first for 4, the
//! second for 16, and so on. Version 1 to 4 have none, version 22 has those of versions 20 and 16. Which versions these are
//! follows from `version` alone; a reader must refuse a root with another number of skips.
//!
//! A new version gets its skips from its parent: where the version for *p* is the parent's own number, it is the parent's
//! root; otherwise it is the parent's skip for the same *p*.
//!
//! To find version *v*: from a newer version, go to the oldest version that it names (by skip or as parent) that is not
//! older than *v* and whose root is there. To find the version of a moment *t*: the newest whose `created_at_ms` is not greater
//! than *t*. Because a version is never younger than the next one, both kinds of steps close in on it. Vacuum deletes
//! the farthest roots first and the parent last: a skip that leads nowhere proves nothing, only a parent that is not there
//! ends the history.
//!
//! # Drafts
//!
//! `salt` is 16 bytes that a writer draws for each draft of a version, so that no two drafts give a node one name. A name
//! that a vacuum has found unused then never comes into use again. The first version of a table has a salt of zeros.
