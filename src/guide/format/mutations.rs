//! A mutation on its way: its WAL document and its change set.
//!
//! Readers of tables need neither.
//!
//! # WAL document, `wal/mutations/<wal id>.json`
//!
//! An object of JSON. Other spacing, and keys that are not listed, are tolerated; a writer that replaces a document may
//! drop them. A document whose `schema_version` is not 1 must be left alone.
//!
//! | key | value | if absent |
//! | --- | --- | --- |
//! | `wal_id` | as in the name | refused |
//! | `schema_version` | 1 | refused |
//! | `op_kind` | `"INSERT"`, `"DELETE"`, `"UPDATE"`, `"MERGE"`, `"TRUNCATE"`, `"OVERWRITE"`, `"COMPACT"`, `"ALTER"`, `"RESTORE"` | refused |
//! | `state` | `"INTENT"`, `"APPENDED"`, `"COMPLETE"` | refused |
//! | `created_at` | RFC 3339 | refused |
//! | `lease` | `{"owner": text, "acquired_at": time, "expires_at": time}` or null; for people | null |
//! | `predicate_repr` | the statement, at most 1,024 bytes; for people | `""` |
//! | `target_ids` | row ids that the statement removes; for people | `[]` |
//! | `new_row_count` | rows in the superfiles that it adds, or null | null |
//! | `new_row_content_hash` | blake3 of the change set; null in `INTENT` | null |
//! | `preallocated_superfile_id` | the base of the mutation's id block | null |
//! | `minted_id_spans` | `[{"first": row id, "last": row id}]`, both inclusive; for people | `[]` |
//! | `tombstone_progress` | `[{"target_id", "outcome": "PENDING"\|"TOMBSTONED"\|"NOT_FOUND", "tombstoned_in_superfile"}]`; for people | `[]` |
//! | `nonce` | a uuid, fresh in every write | the nil uuid |
//! | `base_version` | the version that the statement read | 0 |
//! | `checksum` | blake3 of the compact JSON of all keys above, in this order, each with its value | not verified |
//!
//! The three lists for people are left empty for mutations of more than 1,000 rows.
//!
//! # Change set, `wal/mutations/<wal id>.arrow`
//!
//! The whole effect of a statement on its base: with the base's manifest, any process can commit it. An Arrow IPC stream,
//! immutable. The metadata of its schema, all of it text:
//!
//! | key | value |
//! | --- | --- |
//! | `supertable.format_version` | `1` |
//! | `supertable.op` | as `op_kind` |
//! | `supertable.base_version` | the version that the statement read |
//! | `supertable.rows_inserted`, `.rows_deleted`, `.rows_updated` | counts, if nothing else happens meanwhile |
//! | `supertable.started_at_ms` | when the statement began, ms since 1970 |
//! | `supertable.statement` | at most 1,024 bytes of its text |
//! | `supertable.changes` | how many rows the stream has |
//! | `supertable.metadata` | hex of the table's new metadata, framed as `STBLMETA`, if the statement changes it; else absent |
//! | `supertable.absent_keys` | hex of the [absent keys](#absent-keys), if the statement inserts rows because it found none with their keys; else absent |
//! | `supertable.isolation` | `snapshot`; or `serializable`, if the statement conflicts with every change of rows since its base. Any other value must be refused |
//!
//! A row for each superfile that the mutation adds, tombstones or drops. No superfile is named twice. The columns are exactly
//! these, in this order; those with `?` may be NULL.
//!
//! | column | type | `ADD` | `TOMBSTONE` | `DROP` |
//! | --- | --- | --- | --- | --- |
//! | `kind` | Utf8 | `ADD` | `TOMBSTONE` | `DROP` |
//! | `superfile` | FixedSizeBinary(16) | its id | its id | its id |
//! | `rows` | UInt64 | physical rows | rows of `delta` | rows that were live at the base |
//! | `entry` | Binary? | its [entry](super::manifest#leaf-stblleaf), with `moved_at`, `added_at` and `delete_count` 0 | | |
//! | `base` | FixedSizeBinary(16)? | | sidecar in force at the base, if there was one | the same |
//! | `sidecar` | FixedSizeBinary(16)? | | the staged sidecar | |
//! | `sidecar_hash` | FixedSizeBinary(32)? | | its blake3 | |
//! | `sidecar_cardinality` | UInt64? | | its positions | |
//! | `sidecar_size` | UInt64? | | its bytes | |
//! | `delta` | Binary? | | roaring bitmap of the positions that the statement removes, in the portable serialisation | |
//! | `moves` | Binary? | | | where a compaction put the rows, if it says so; see below |
//!
//! Invariants, which a process checks before it commits a change set: a `delta` is not empty, holds nothing that was
//! deleted at the base, and no position past the end of the superfile. The staged sidecar holds the union of the sidecar
//! at the base and `delta`; where there was none, it holds `delta` exactly. A `RESTORE` may `ADD` superfiles that its base
//! has already: they get the tombstones of the row in place of those that they have.
//!
//! ## Absent keys
//!
//! A `MERGE` inserts a row because it found none whose *key* (its values of the columns that `ON` compares by `=`) is the
//! row's; and whatever adds rows to a table with declared keys found none with theirs. A sequence, one element for the columns of
//! the `MERGE` and one for each declared key that the statement might break. [Postcard](super::encodings#postcard):
//!
//! | field | type | meaning |
//! | --- | --- | --- |
//! | `columns` | `seq<i32>` | the field ids of the key columns, ascending; none: nothing is known of the keys |
//! | `ranges` | `seq<seq<(min option<value>, max option<value>)>>` | 1 to 64; each key lies in one of them, which has bounds for each key column; absent: no bound |
//! | `hashes` | `option<seq<[u8; 8]>>` | the hashes of all keys, ascending, at most 32,768; absent: not known |
//! | `adds_others` | bool | whether the change set may add a row with a key that was not in the table and is none of these |
//!
//! Keys with a NULL equal none and are left out. The *hash* of a key is the first 8 bytes of the blake3 of its values, each
//! after its length in bytes (u64 LE): 0 or 1, an integer as 16 bytes LE, a decimal without its scale as
//! 16 bytes LE, the bytes of a string or binary. Keys with a float have none.
//!
//! ## Moves
//!
//! A *place* counts the rows of all superfiles that the change set adds, in its order. `moves` maps positions in the
//! source to places, as runs of consecutive rows by ascending position. Positions in no run were deleted at the base.
//!
//! ```text
//! count   varint             how many runs
//! then, for each run:
//! gap     varint             positions between the end of the run before and this run
//! rows    varint             length of the run, at least 1
//! step    zigzag varint      its first place, less the place after the run before
//! ```
//!
//! Runs that could be one are one. Positions and places stay below 2^32. If one source has moves, all have, and together
//! they fill every place exactly once.
