//! Limits: what this crate does not do, and what of DataFusion 55.2 shows through.
//!
//! # Of this crate
//!
//! - DataFusion 55.2, Rust 1.94. The API may change before 1.0.
//! - One statement is one transaction; there are none that span several statements. `serializable` is about the one
//!   table that a statement changes: what it reads of other tables is a snapshot.
//! - No foreign keys. A declared key has Bloom filters and statistics, one for each superfile, and no index: an `INSERT` of many
//!   rows in random order reads the key columns of the superfiles that may hold one of its keys. No partitions either: files are skipped by their statistics, which `WITH ORDER`, or `cluster_by`, makes sharp. A table is brought in order group by group, so a
//!   filter leaves out a part of each group: the larger `max_group_bytes`, the better it is, and the longer one commit takes.
//! - Nothing is deleted from the store until you run vacuum, and compaction after writes has to be asked for.
//! - A type can be widened (integer, float, decimal digits), never narrowed or converted.
//!   `CREATE OR REPLACE TABLE` replaces rows, not columns.
//! - A table of a catalog can be renamed within its schema. It keeps its directory, whose name may be an older one. A swap of
//!   two names takes three renames. If a process dies in the middle of a rename, the next session that wants the new name waits for two
//!   seconds. A table of `CREATE EXTERNAL TABLE` has the name that the session has given it.
//! - A statement of a catalog goes through `datafusion_supertable::sql`. Sessions that share a catalog share its open tables: one
//!   that only reads may, by opening a table for all, have ended what dead writers left.
//! - A session that planned a statement before another one changed the columns gets an error, and sees the new
//!   columns with its next statement.
//! - `ALTER TABLE` is not understood by `ctx.sql`: use `datafusion_supertable::sql`, or `supertable_alter`.
//! - Files of another object store are copied when they are added. Those that are read in place are in no copy of the table's
//!   directory, unless they lie below it; if you copy them on a local disk, keep their times; and a table that is opened
//!   by another form of its URL (`https://…` instead of `az://…`) must find them under the same path. Tables with `CHECK` or
//!   `WITH ORDER` take rows by `INSERT` only.
//! - A directory in which a table was dropped, or that kept a name for a renamed table, holds a small marker for ever; a
//!   catalog puts the next table of that name into another directory. A query that still reads a table that is dropped fails.
//! - A join within the source of a `MERGE` that might not fit into a bounded memory pool is planned so that it spills, which
//!   takes at least two `target_partitions`. What still does not fit fails with `ResourcesExhausted` and changes nothing.
//! - Reading a version that had other columns, the listings of a catalog, and the change feed take a multi-threaded
//!   tokio runtime and no `LocalSet`, because DataFusion asks for columns synchronously.
//! - A scan cannot be sent to another process (Ballista and the like): it is refused, because its tombstones would be lost.
//! - A store without conditional writes cannot hold a table. On GCS the tests run against a server that
//!   knows the JSON API only, behind a shim: that the generation of an object decides is tested, the wire format of writes
//!   to real GCS is not.
//! - A flipped bit in a page of an external file (`supertable_add_files`, in place or copied) may go unnoticed. Everywhere
//!   else, pages and dictionaries of superfiles included, it is an error that names the object. (A damaged Bloom filter is not
//!   used; a warning names its superfile.)
//!
//! # Of DataFusion 55.2, as far as they show here
//!
//! - What it evaluates wrongly in a condition (unwrapped casts, forgotten NULLs, correlated `EXISTS` over aggregates, …) is kept
//!   from every statement over supertables; `src/dml/sound/faults.rs` is the table of it, with a test for each row.
//! - Through `ctx.sql`, `UPDATE t SET a = 1, a = 2` is accepted, and one of the two wins; `datafusion_supertable::sql` refuses it.
//! - An expression that fails for some row (a cast, a division) may fail the statement although the row would not have been
//!   changed: rows are evaluated by the batch. Nothing is changed then.
//! - Refused: a correlated subquery over rows that differ from one reading to the next (`random()`, `LIMIT` without `ORDER BY`), in
//!   the condition of an outer join that needs both sides, over `LATERAL`, `unnest`, `VALUES` or a recursive query; and in a
//!   prepared `DELETE` or `UPDATE` the cast of an integer parameter to a timestamp, whose unit DataFusion loses.
//! - A query whose partitioned hash joins feed one another through a `UNION` may wait for ever; statements that write are planned
//!   otherwise. `SET datafusion.optimizer.enable_join_dynamic_filter_pushdown = false` ends it.
//! - A statement is cancelled where DataFusion pauses: a nested-loop join may compute for minutes without a pause, so a timeout
//!   around it comes late. In the command line a second Ctrl-C leaves at once.
//! - Plain errors, through `ctx.sql` only: `UPDATE … FROM`, `DELETE … USING`, `ON CONFLICT`, `RETURNING`
//!   and other forms that `datafusion_supertable::sql` and the command line take (see the guide on statements).
//!
//! # Of speed
//!
//! README has the figures. A scan has to decode rows that are deleted at random all over a file before it can leave them
//! out; where half of them are deleted, that is twice the work. `supertable_optimize` takes them out. While the disk is
//! busy with what others wrote, a statement's three syncs wait for that, and a `DELETE` takes 10 to 25 ms more.
//! DataFusion's own hooks for `DELETE` and `UPDATE` lose predicates (`WHERE 1 = 0`, or `WHERE id IN (SELECT …)`, arrives as
//! "every row"), so this crate does not use them: its analyzer rule plans the statement's own query.
