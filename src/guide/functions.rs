//! The table functions. What SQL has no statement for is a relation to select from.
//!
//! The table's name comes first, as a string; it may name a schema and a catalog. Other arguments are constants
//! (versions and moments to read may be [parameters](#supertable_at)), given by position in the order below, or by
//! name: `retain => INTERVAL '7 days'`. An argument that is unknown, given twice, NULL or of another type is an error
//! that says which ones there are. Nothing happens until the query runs: `EXPLAIN` does nothing, and what a function
//! changes it changes once for each place where it is written, however often the query reads its rows (a query in
//! `WITH` that is used twice), or not at all if the query needs none of them (`LIMIT 0`). *At* is a version's number,
//! or a moment: a timestamp, a date or text that can be read as one, which means the last version that is not younger.
//! Moments in answers are in UTC.
//!
//! | function | arguments | answer |
//! | --- | --- | --- |
//! | [`supertable_history`](#supertable_history) | | what was done, newest first |
//! | [`supertable_files`](#supertable_files) | `at` | the superfiles |
//! | [`supertable_properties`](#supertable_properties) | | what the table is, as keys and values |
//! | [`supertable_wal`](#supertable_wal) | | the mutations in flight |
//! | [`supertable_at`](#supertable_at) | `at`, or `version =>`, or `timestamp =>` | the table as it was |
//! | [`supertable_changes`](#supertable_changes) | `from`, `to` | rows that came, went or changed |
//! | [`supertable_restore`](#supertable_restore) | `at` | the version that was made |
//! | [`supertable_alter`](#supertable_alter) | `changes` | the version that was made |
//! | [`supertable_add_files`](#supertable_add_files) | `location`, `copy =>` | files whose rows are the table's now |
//! | [`supertable_optimize`](#supertable_optimize) | `target_bytes =>`, `target_rows =>`, `deleted_percent =>`, `full =>`, `order =>`, `rewrite =>`, `max_group_bytes =>`, `dry_run =>` | groups of superfiles that were written anew |
//! | [`supertable_vacuum`](#supertable_vacuum) | `retain =>`, `dry_run =>` | kinds of objects that were deleted |
//! | [`supertable_recover`](#supertable_recover) | | WAL documents that were looked at |
//!
//! # Statements
//!
//! Through [`sql`](crate::sql()) and at the command line, in every SQL dialect, the statements that other tables have for the
//! same are queries of these functions:
//!
//! | statement | stands for |
//! | --- | --- |
//! | `DESCRIBE HISTORY t [LIMIT n]` | `SELECT * FROM supertable_history('t')` |
//! | `… FROM t VERSION AS OF 7`, `… FROM t TIMESTAMP AS OF '2026-01-01'` | `supertable_at('t', …)`; the number, or the text of the moment, is a literal |
//! | `RESTORE [TABLE] t TO VERSION [AS OF] 7`, `… TO TIMESTAMP [AS OF] '2026-01-01'` | `SELECT * FROM supertable_restore('t', …)` |
//! | `OPTIMIZE [TABLE] t [FULL] [ZORDER BY (a, b) \| HILBERT BY (a, b)]` | `SELECT * FROM supertable_optimize('t', full => true, order => 'zorder(a, b)')` |
//! | `VACUUM [TABLE] t [RETAIN 168 HOURS] [DRY RUN]` | `SELECT * FROM supertable_vacuum('t', retain => INTERVAL '168 hours', dry_run => true)` |
//! | `ALTER TABLE [IF EXISTS] t …` | `SELECT * FROM supertable_alter('t', '…')` |
//! | `CALL supertable_…(…)` | `SELECT * FROM supertable_…(…)` |
//!
//! # `supertable_history`
//!
//! One row for each statement that a version committed; the version that made the table has one of its own, with
//! the operation `CREATE`. The walk goes back as far as rows are asked for (`LIMIT`), and ends at the oldest version that
//! vacuum left.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `version` | `UInt64` | |
//! | `time` | `Timestamp(ms, UTC)` | when it was committed |
//! | `operation` | `Utf8` | `INSERT` (also of external files), `OVERWRITE`, `DELETE`, `UPDATE`, `MERGE`, `TRUNCATE`, `ALTER`, `COMPACT`, `RESTORE` |
//! | `rows_inserted`, `rows_deleted`, `rows_updated` | `UInt64` | NULL for `CREATE` |
//! | `live_rows`, `superfiles` | `UInt64` | of the version |
//! | `duration_ms` | `Int64` | from the statement's beginning to the commit |
//! | `wal_id` | `Utf8` | the mutation, 32 hexadecimal digits |
//! | `statement` | `Utf8` | its text, cut when long |
//!
//! # `supertable_files`
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `superfile` | `Utf8` | its path below the table; with a slash before it, from the root of the object store |
//! | `rows`, `live_rows` | `UInt64` | in the file, and those not deleted |
//! | `bytes` | `UInt64` | |
//! | `tombstones` | `UInt64` | deleted rows |
//! | `sidecar` | `Utf8` | the object that lists them, or NULL |
//! | `created` | `Timestamp(ms, UTC)` | |
//! | `source` | `Utf8` | where a file was added from, or NULL |
//! | `columns` | `Map` from names to `{min, max, nulls}` | bounds as text, for all rows of the file, deleted ones included |
//! | `clustering` | `Utf8` | along what a compaction wrote it: `zorder(…)`, `hilbert(…)`, `order(…)` for the declared order, `as stored`; NULL if along nothing |
//!
//! # `supertable_properties`
//!
//! `key` and `value`, both `Utf8`: `table_id`, `version`, `schema_changed_at`, `live_rows`, `rows`, `superfiles`,
//! `bytes`, `sort_order`, then the table's declared keys (`key.<name>`), defaults, options and conditions. The value of a key that sounds like a
//! credential is `(hidden)`.
//!
//! # `supertable_wal`
//!
//! The mutations in flight, oldest first. Nothing is changed. A document that cannot be read is a row too.
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `wal_id`, `operation`, `state`, `owner` | `Utf8` | the state is `INTENT`, `APPENDED` or `COMPLETE` |
//! | `created` | `Timestamp(ms, UTC)` | |
//! | `age_ms` | `Int64` | |
//! | `lease_expires`, `lease_expired` | `Timestamp(ms, UTC)`, `Boolean` | the first by its owner's clock; whether this process has seen the document stand still for one lease (60 s) |
//! | `base_version` | `UInt64` | the version that the statement read |
//! | `new_rows` | `UInt64` | |
//! | `statement` | `Utf8` | |
//! | `problem` | `Utf8` | what is wrong with a document that cannot be read |
//!
//! # `supertable_at`
//!
//! A relation with the columns of that version. Finding it takes a number of reads that grows with the logarithm of its
//! distance: some forty of a million versions. Filters, projections and limits reach its files as they do for the
//! table itself. `"t@v7"` in `FROM` means `supertable_at('t', 7)`, unless something has that very name; so do the
//! [statements above](#statements), and where the SQL dialect has it (`SET datafusion.sql_parser.dialect = 'databricks'`)
//! `t FOR SYSTEM_TIME AS OF …`. A version cannot be changed.
//!
//! The version or the moment may be a parameter, or an expression of parameters: `supertable_at('t', $1)`, by `PREPARE` and
//! `EXECUTE`, and by `DataFrame::with_param_values`. It is evaluated when the statement is executed. The statement is
//! planned with the columns that the table has at that moment (what `SELECT *` stands for is settled then), so a value that
//! means a version with other columns fails with [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported), which names the
//! first difference; write that version into the statement. The versions of `supertable_changes` may be parameters, too;
//! the table's name may not, nor what other functions take. (Where DataFusion can tell the types of some parameters only,
//! `SessionContext::sql` wants them all in `PREPARE p(BIGINT, …)`; through `sql()`) and at the command line
//! they may be left out.)
//!
//! # `supertable_changes`
//!
//! The rows that came, went or changed after the version `from`, up to and including `to` (by default the current one):
//! the table's columns, then `_change_type` (`insert`, `delete`, `update_preimage`, `update_postimage`), `_id`
//! (`Decimal128(38, 0)`) and `_version` (`UInt64`). Versions come in order, rows within one in no order. Rows that a compaction
//! moved are no change, and a restore is what it does to the rows. `from` 0 means from the beginning. Large joins
//! spill within the memory pool.
//!
//! Where the columns changed on the way, every version is seen with those of `to`, by field id: a column that was not there
//! yet has its initial default or NULL, one that is not there any more is left out. (After a restore of older columns, a
//! value or NULL that those cannot hold is an error.) The feed needs the names `_change_type` and `_version` for itself.
//!
//! # `supertable_restore`
//!
//! Makes the table what it was, in a new version; rows get back the ids that they had. One row: `restored`, `version`
//! and `live_rows`, all `UInt64`. If the version is the current one, none is made.
//!
//! # `supertable_alter`
//!
//! What `ALTER TABLE t …` does; see [`columns`](super::columns). One row: `version`, and the number of `columns`,
//! both `UInt64`. With `if_exists => true` there is no row, and no error, if there is no such table.
//!
//! # `supertable_add_files`
//!
//! One file, a directory, or a pattern; see [`columns`](super::columns). One row for each file: `file` (`Utf8`),
//! `rows` and `bytes` (`UInt64`), its `superfile` (`Utf8`), and where it is `placed` (`Utf8`): `in place`, or `copied` from
//! another store or with `copy => true`. A file without rows has a row, too, with NULL for its superfile and `no rows`; nothing
//! is kept of it. Times in a coarser unit than the table's, decimals with a smaller scale and columns that are NULL in every
//! row fit. All are added in one version, or none.
//!
//! # `supertable_optimize`
//!
//! Joins superfiles that are small (less than three quarters of the target), and writes those anew of which
//! `deleted_percent` (20) or more is deleted, or whose tombstones have cost as much as the superfile is large: so many
//! versions have deleted rows of it, and a thousandth of them at least. `target_bytes` is 256 MiB, and `target_rows` where
//! writers close a superfile (`write.target_file_rows`), unless they are given; an eighth of
//! `write.target_file_bytes`, where that is less. (Given targets that are larger than what writers are told to write
//! have superfiles written anew each time.) Rows keep their ids, and a declared order is kept, by a sort within the memory
//! pool.
//!
//! A table that says what it is clustered by (the option [`cluster_by`](super::options)) is compacted along that instead; a
//! size then counts for nothing, and `target_bytes` is refused. See below.
//!
//! ## An order through the table
//!
//! `full => true` brings the whole table in its order: along what it is clustered by, or else in the declared order, so
//! that the bounds of superfiles that were written together do not overlap, or else as it is stored, without deleted rows.
//! `order => 'zorder(a, b)'` does so along a Z-order curve over up to eight columns, and `order => 'hilbert(a, b)'` along a
//! Hilbert curve: then a filter on *any* of the columns leaves out superfiles, row groups and pages by their statistics
//! (which are kept for a table's first 32 columns). An order that is named comes before the table's own. Values count by
//! rank, as a sample of the rows has them, so any type that has an order will do, whatever its range; NULLs are smallest, and of
//! a string the first 64 bytes count. Scans do not announce such an order, and a table that declares one (`WITH ORDER`)
//! refuses another one. `target_rows` is where a superfile ends; `target_bytes` and `deleted_percent` are refused with `full`
//! and `order`, because nothing is chosen by them.
//!
//! This is done in groups of at most `max_group_bytes` of superfiles (10 GiB, or what a session's or the table's option says),
//! each of which is sorted on its own, in half of a bounded memory pool and by spilling, and committed on its own. A crash or a
//! cancelled call loses one group's work; a conflict repeats one. What a group wrote is a *run*: superfiles that follow one
//! another, which the manifest says of them. So the next call goes on with what is left, and one after that has
//! nothing to do and makes no version. Sources that overlap come into one group as far as the bound allows; the larger a
//! group may be, the fewer runs there are, and the more a filter leaves out.
//!
//! | call | written anew |
//! | --- | --- |
//! | no arguments, on a table that says what it is clustered by | what is in no run of that order (new rows; all, after the order was changed), with the runs that are worth it; in a run, superfiles of which `deleted_percent` is deleted |
//! | `full => true`, or `order =>` | the same, and all runs that are smaller than half a group, whenever there is more than one; in a run, superfiles of which any row is deleted; with `target_rows`, runs of superfiles of another size |
//! | `rewrite => true` | everything, each time: for instance because it is to be compressed in another way |
//!
//! New rows form runs of their own until they are worth joining with those that are there: a run is taken along once
//! what it is joined with has three times its rows. So each time a row of a run is written anew (other than for deleted rows
//! beside it), its run grows fourfold at least, up to the size of a group: what comes in batches of one part in *n* of a group
//! is written at most 1 + log₄ *n* times by compactions, however large the table becomes. A thousand equal batches leave at most 15 runs.
//!
//! One row for each group of superfiles that was written anew, which is one commit:
//!
//! | column | type | |
//! | --- | --- | --- |
//! | `action` | `Utf8` | `compacted in version …`, `would be compacted`, or `left: …` and why |
//! | `superfiles_before`, `superfiles_after` | `UInt64` | |
//! | `rows` | `UInt64` | live rows |
//! | `bytes_before`, `bytes_after` | `UInt64` | |
//!
//! What is not known is NULL: what a dry run, or a group that was left, would have come to. Rows that other statements
//! delete or update meanwhile are deleted in the copy too. A group is left, after ten attempts, if others keep taking
//! its superfiles.
//!
//! After writes, where `supertable.auto_compact` asks for it, a compaction waits until sixteen small superfiles of
//! about one size are there, so a row is written a few times at most. A superfile that is to be written anew for its deleted
//! rows does not wait, and takes small ones along. Ten thousand updates of single rows all over a million rows in
//! 15 MB leave at most 16 superfiles and 1,600 deleted rows at any time, and have about as many bytes rewritten as
//! those statements wrote. One compaction runs at a time in a process. A table that says what it is clustered by is
//! compacted along that, once sixteen new superfiles are there or as many bytes as one that is not small, with the same bound
//! on how often a row is written; and at most one group for each write, so that a large table whose order was changed is not
//! all of it one writer's business.
//!
//! # `supertable_vacuum`
//!
//! Deletes what no retained version refers to: superfiles, sidecars, manifest nodes; and ends what dead writers
//! began. Retained is every version that was current at some moment of the last `retain` (seven days), and what a
//! statement under way reads or has staged. `retain` is an interval of days or less. Less than a few minutes is for tables at
//! rest: a query that still reads an older version then finds its files gone.
//!
//! One row for each kind of object: `what` and `action` (`Utf8`), `objects` and `bytes` (`UInt64`, NULL where they say
//! nothing). The last row says which versions remain.
//!
//! # `supertable_recover`
//!
//! Finishes or undoes what crashed statements left; opening a table does it, too. One row for each WAL document that
//! was looked at: `wal_id`, `action` and `detail`, all `Utf8`. The action is `committed`, `retired`, `undone`,
//! `conflicting`, `in flight` (left alone, its owner lives), `orphan removed`, `left to vacuum` or `failed`.
//!
//! What was ready to be committed is committed at once. Any other statement is undone once its document stood still for
//! one lease (60 s) of this process's own time, whatever the clocks of both machines say: so this function, and a vacuum,
//! wait for up to a lease if there is such a document that the process has not watched for so long. After opening a table
//! that goes on in the background.
