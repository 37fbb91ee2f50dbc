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
//! | `version` | u64 | the version, from 1, one more in each commit |
//! | `parent` | `option<[u8; 32]>` | the root of the version before; absent in version 1 only |
//! | `created_at_ms` | i64 | when the version was made, ms since 1970, by its committer's clock; never less than the parent's |
//! | `metadata` | metadata | see below |
//! | `metadata_changed_at` | u64 | the version in which the metadata last changed |
//! | `schema_changed_at` | u64 | the version in which the schema last changed |
//! | `moved_at` | u64 | the last version in which rows moved; 0: never |
//! | `commits` | `seq<commit>` | the mutations that this version committed |
//! | `pending` | `seq<commit>` | mutations of earlier versions whose WAL documents are not known to be gone |
//! | `groups` | `seq<ref>` | |
//! | `skips` | `seq<[u8; 32]>` | roots of older versions, see below |
ROOT_TAIL
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
//! | `properties` | `map<string, string>` | see below |
//! | `sort_order` | `seq<(name string, descending bool, nulls_first bool)>` | the order in which writers sort rows, empty: none |
//! | `next_field_id` | i32 | the field id that the next new field gets; ids are never used twice |
//! | `retired_names` | `seq<(parent i32, name string)>`, ascending | physical names of dropped fields, in lower case, each below the field id of its struct, or 0 for a column; never used again |
//!
//! Every field of the schema that Parquet gives a node of its own (columns, members of structs, items of lists, keys and
//! values of maps) has an id from 1 to `next_field_id − 1`, each another.
//!
//! | property | meaning |
//! | --- | --- |
//! | `column.initial_default.<field id>` | the value, as text, of rows that are older than the column; it never changes |
//! | `column.default.<name>` | SQL: what an `INSERT` that leaves the column out puts in |
//! | `supertable.check.<name>` | SQL: a condition that every row must satisfy |
//! | `supertable.…`, others | options; see [`options`](crate::guide::options) |
//!
//! A reader needs only the first. A writer must enforce `NOT NULL` (a field that is not nullable) and all conditions; one that
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
GROUP_AND_LEAF
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
