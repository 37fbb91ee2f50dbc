//! What the crate says while it works: `tracing` events and spans, and counters of `EXPLAIN ANALYZE`.
//!
//! The `supertable` command writes events to its error output where `RUST_LOG` asks for it, for example
//! `RUST_LOG=datafusion_supertable=debug`; unset, it writes none. A program that embeds the crate sets a `tracing`
//! subscriber. Neither events nor errors hold credentials or rows; the predicate of a statement is told, as in the
//! table's history.
//!
//! # Levels
//!
//! `warn` is for what an operator should look at: nothing is lost, but something did not go as it should. `info` is
//! for work that changed a table outside of a statement. `debug` follows each mutation and each conditional
//! write. There is no `error`: what fails a statement is the statement's error.
//!
//! # Spans, all at `debug`
//!
//! | span | fields | around |
//! | --- | --- | --- |
//! | `statement` | `statement` | a statement that changes rows, its reruns included |
//! | `recovery` | `table` | a pass over the WAL documents |
//! | `optimize` | `dry_run` | a compaction |
//! | `vacuum` | `dry_run` | a vacuum |
//!
//! # Events
//!
//! | message | level | fields | when |
//! | --- | --- | --- | --- |
//! | `phase` | debug | `wal_id`, `phase` = `INTENT` (with `op`), `APPENDED` or `COMPLETE`; `settled` if an answer was lost | a mutation's document got there |
//! | `phase` | debug | `phase` = `swing`, `outcome` = `committed` (with `version`) or `lost`, `mutations` | the pointer was to be swung |
//! | `committed` | debug | `wal_id`, `version`, `helped`: whether it was another process's | a mutation is in the table |
//! | `will not be committed` | debug | `wal_id`, `ending` | a mutation conflicts, or nothing is left of it |
//! | `conflict: running again` | debug | `statement`, `conflict` | a statement lost a row to another one |
//! | `compare-and-swap` | debug; warn if `unknown` | `path`, `operation`, `attempts`, `outcome` = `committed`, `lost` or `unknown`; `settled` if it took reading back | a conditional write ended |
//! | `retry` | debug | `path`, `operation`, `attempts`, `error` | a request is made again, after a pause |
//! | `recovering` | debug | `wal_id`, `action` | what recovery does about one document |
//! | `recovered` | info | `report` | a recovery found something to do |
//! | `a mutation cannot be recovered` | warn | `wal_id`, `error` | its document stays |
//! | `a commit attempt failed` | warn | `error`, `mutations` | the store failed at a commit, which is tried again |
//! | `a mutation is left to recovery` | warn | `wal_id`, `error` | its owner's outcome is unknown |
//! | `objects of a dropped table are left` | warn | `error` | the store failed after the drop was in force; the next `CREATE TABLE` of the name deletes them |
//! | `another process took this mutation: it will not commit` | warn | `wal_id` | an owner that lives did not get to renew its lease in time |
//! | `compacted` | info | `version`, `sources`, `superfiles`, `rows` | superfiles were written anew |
//! | `a superfile is damaged` | warn | `path`, `start`, `end` | the bytes there are not those that were written; what needs them fails, but for a Bloom filter, without which DataFusion goes on |
//! | `a plan stays on the coordinator` | debug | `reason` | a session with workers does not use them for a plan |
//! | `vacuumed` | info | `report` | what no version needs was deleted |
//!
//! Long operations also say how far they are, with the target
//! `PROGRESS`: `operation`, `done` of `total`, `bytes`. A compaction counts the rows of all of its
//! groups.
//!
//! # Counters in `EXPLAIN ANALYZE`
//!
//! | where | counter | counts |
//! | --- | --- | --- |
//! | scan | `superfiles`, `superfiles_pruned`, `superfiles_dropped`, `tombstoned_rows` (in the plan) | superfiles of the version, those left out, deleted rows in the others |
//! | scan | `superfiles_pruned_by_bloom_filters`, `late_materialized` (in the plan, if there are any) | those of them that only Bloom filters leave out; superfiles in which the predicate is evaluated before other columns are read |
//! | scan | `sidecars_opened`, `sidecar_load_time` | tombstone sidecars that were asked for, and the time that took |
//! | scan | `superfiles_left_out_by_keys` | superfiles without a key of the statement's source, found when it runs |
//! | `SourceFirstJoinExec` | `source_rows`, `key_ranges`, `spilled_rows` | rows of the source, the ranges in which its keys lie, rows that went to disk |
//! | scan | `bytes_scanned` and the other counters of DataFusion's Parquet scan | |
//! | `INSERT` | `superfiles_written` | |
//! | `INSERT`, `UPDATE`, `MERGE` | `key_superfiles` | superfiles whose declared keys the new ones are compared with, for all keys |
//! | `INSERT … SELECT`, `DELETE`, `UPDATE`, `MERGE` | `conflict_reruns` | times that the statement ran again |
