//! Examples, by purpose. All of them run at the command line, and through `sql()`.
//!
//! The quickstart of README runs on S3, too. The table's location appears once in the script:
//!
//! ```console
//! sed 's|target/quickstart/flights/|s3://my-bucket/flights/|' sql/quickstart.sql | cargo run --features cli
//! ```
//!
//! # Rows
//!
//! ```sql
//! -- Creates the table; or opens it, if it is there with these columns.
//! CREATE EXTERNAL TABLE flights (
//!     flight INT NOT NULL, carrier VARCHAR, month INT, dep_delay INT, note VARCHAR DEFAULT ''
//! ) STORED AS SUPERTABLE LOCATION 's3://my-bucket/flights/';
//!
//! -- Opens one that exists.
//! CREATE EXTERNAL TABLE old STORED AS SUPERTABLE LOCATION 's3://my-bucket/old-flights/';
//!
//! INSERT INTO flights SELECT * FROM old;
//!
//! -- Any predicate that works in a SELECT: subqueries, also on the table itself, NULLs, parameters.
//! DELETE FROM flights WHERE carrier IN (SELECT carrier FROM airlines WHERE name LIKE 'Express%');
//! DELETE FROM flights WHERE dep_delay > (SELECT 10 * avg(dep_delay) FROM flights);
//!
//! -- Any expression that works in a SELECT; all of them see the row as it was.
//! UPDATE flights SET dep_delay = 0, note = 'rebased ' || note WHERE dep_delay < 0 AND month = 1;
//!
//! MERGE INTO flights AS t USING corrections AS c ON t.flight = c.flight
//!     WHEN MATCHED AND c.cancelled THEN DELETE
//!     WHEN MATCHED THEN UPDATE SET dep_delay = c.dep_delay
//!     WHEN NOT MATCHED THEN INSERT (flight, carrier) VALUES (c.flight, c.carrier);
//!
//! INSERT OVERWRITE flights SELECT * FROM flights WHERE month < 3;
//!
//! -- Shows the plan, changes nothing.
//! EXPLAIN DELETE FROM flights WHERE month = 2;
//!
//! TRUNCATE TABLE flights;
//! ```
//!
//! `NOT NULL` and `DEFAULT` are declared as usual. DataFusion cannot declare `CHECK` here, so it is a table
//! option; there can be any number, each with a name:
//!
//! ```sql
//! CREATE EXTERNAL TABLE orders (id BIGINT NOT NULL, qty INT, state VARCHAR DEFAULT 'new')
//! STORED AS SUPERTABLE LOCATION 's3://my-bucket/orders/' WITH ORDER (id)
//! OPTIONS ('supertable.check.qty_positive' 'qty > 0');
//! ```
//!
//! `WITH ORDER` sorts what is written: then a query or statement that names a few `id`s opens few files.
//!
//! Every row has an id that stays the same through `UPDATE`, `MERGE` and compaction. It is no column, so
//! `SELECT *` and `INSERT` do not know of it; the function `_id` gives it, where it is asked for, or a column in what
//! queries read:
//!
//! ```sql
//! SET supertable.expose_row_id = true;
//! SELECT _id(id) AS rid, * FROM orders;           -- any column says which table's row is meant
//! DELETE FROM orders WHERE _id(id) = 33127952630095272843148758351873;
//! SET supertable.expose_row_id = 'column';
//! SELECT * FROM orders WHERE _id = 33127952630095272843148758351873;
//! ```
//!
//! # Versions
//!
//! Every statement makes a version, and no version ever changes.
//!
//! ```sql
//! -- What was done, newest first; what is in the table; what it is; what is in flight.
//! SELECT version, time, operation, rows_inserted, rows_deleted, rows_updated FROM supertable_history('flights') LIMIT 10;
//! SELECT superfile, live_rows, bytes, columns['month']['min'] FROM supertable_files('flights');
//! SELECT * FROM supertable_properties('flights');
//! SHOW CREATE TABLE flights;
//! SELECT * FROM supertable_wal('flights');
//!
//! -- The table as it was, by version or by time.
//! SELECT count(*) FROM "flights@v7";
//! SELECT count(*) FROM supertable_at('flights', version => 7);
//! SELECT count(*) FROM supertable_at('flights', now() - INTERVAL '1 day');
//! PREPARE old AS SELECT count(*) FROM supertable_at('flights', $1);
//! EXECUTE old(7);
//!
//! -- Makes an earlier version the current one again. Nothing is lost: it is a new version.
//! SELECT * FROM supertable_restore('flights', 7);
//!
//! -- The change feed: insert, delete, update_preimage, update_postimage, row by row, after version 7.
//! SELECT _version, _change_type, _id, flight FROM supertable_changes('flights', 7);
//! ```
//!
//! A version can be read and restored as long as vacuum keeps it. One that is gone is an error that says which remain.
//!
//! # Columns
//!
//! Columns change, files do not: a column is known by its field id, so nothing is rewritten. In its Parquet files a column
//! keeps the name that it was made with, beside the id.
//!
//! ```sql
//! ALTER TABLE flights ADD COLUMN gate VARCHAR, ADD COLUMN paid BOOLEAN NOT NULL DEFAULT false;
//! ALTER TABLE flights RENAME COLUMN note TO remark, MOVE COLUMN gate AFTER flight;
//! ALTER TABLE flights ALTER COLUMN dep_delay TYPE BIGINT, DROP COLUMN month;
//! ```
//!
//! DataFusion knows no `ALTER TABLE`. The command line understands it, at the prompt too. In any session there is a
//! function that does the same, and from Rust `datafusion_supertable::sql(&ctx, "ALTER TABLE …")`:
//!
//! ```sql
//! SELECT * FROM supertable_alter('flights', 'ADD COLUMN terminal INT, DROP COLUMN gate');
//! ```
//!
//! # Files
//!
//! ```sql
//! -- Parquet files that others wrote become part of the table; columns in the names of directories (year=2024/)
//! -- too. In the table's own object store their footers are read, and they stay where they are.
//! SELECT * FROM supertable_add_files('flights', 's3://my-bucket/archive/*.parquet');
//! -- Or as copies, which no longer need the originals.
//! SELECT * FROM supertable_add_files('flights', 's3://my-bucket/archive/*.parquet', copy => true);
//!
//! -- How superfiles are written: per table, and before that per session (SET supertable.write.…).
//! CREATE EXTERNAL TABLE events (id BIGINT, kind VARCHAR) STORED AS SUPERTABLE LOCATION 's3://my-bucket/events/'
//!     OPTIONS ('supertable.write.compression' 'zstd(9)', 'supertable.write.bloom_filter_columns' 'kind');
//! ALTER TABLE events SET ('supertable.write.row_group_rows' = '100000');
//! ```
//!
//! A file that stays is its owner's: nothing of the table ever writes or deletes it, also not `DROP TABLE` or vacuum.
//! `DELETE` and `UPDATE` work on its rows as on others. If its owner changes or removes it, statements that need it fail with
//! an error that names it; they never answer wrongly. `supertable_optimize('flights', full => true)` puts its rows into
//! superfiles of the table.
//!
//! # Upkeep
//!
//! Every statement adds superfiles and tombstones; nothing is written over. Two functions tidy up, and neither
//! disturbs readers or writers:
//!
//! ```sql
//! -- Joins small superfiles, and writes those anew of which a fifth is deleted, or whose many small deletes have
//! -- cost as much as writing it anew. No row changes.
//! SELECT * FROM supertable_optimize('flights');
//! SELECT * FROM supertable_optimize('flights', target_bytes => 536870912, deleted_percent => 10, dry_run => true);
//!
//! -- Brings the whole table in its declared order; or along a curve over several columns (zorder or hilbert), so that a
//! -- filter on any of them leaves out superfiles, row groups and pages. In several commits; what is in order already stays.
//! SELECT * FROM supertable_optimize('orders', full => true);
//! SELECT * FROM supertable_optimize('flights', order => 'zorder(month, dep_delay)');
//!
//! -- The same as a property of the table: from now on supertable_optimize('flights'), and auto_compact, keep it so, and
//! -- write only what is new, or not in that order.
//! ALTER TABLE flights SET ('supertable.cluster_by' = 'zorder(month, dep_delay)');
//! SELECT * FROM supertable_optimize('flights');
//!
//! -- Deletes what no version of the last seven days refers to, and what dead writers left.
//! SELECT * FROM supertable_vacuum('flights');
//! SELECT * FROM supertable_vacuum('flights', retain => INTERVAL '1 day', dry_run => true);
//!
//! -- Finishes or undoes what crashed processes left. Opening a table does it, too.
//! SELECT * FROM supertable_recover('flights');
//! ```
//!
//! Each group of superfiles that is written anew is one commit of at most 10 GiB of them (`max_group_bytes`), sorted in
//! half of a bounded memory pool by spilling, so a crash loses one group's work and the next call goes on with the rest. Rows
//! that others delete or update meanwhile are carried over to the copy. New rows form groups of their own until they are worth
//! joining with what is there: each row is written once when it is clustered, and once more for each fourfold growth of the
//! group that it is in. With `SET supertable.auto_compact = true`, or the table option `'supertable.auto_compact' 'true'`, small
//! superfiles are joined, or new ones clustered, in the background after writes. Vacuum never runs by itself.
//!
//! # A catalog
//!
//! With a catalog, tables need no `CREATE EXTERNAL TABLE`: every directory with a table in it is one.
//!
//! ```console
//! supertable s3://my-bucket/lake/
//! ```
//!
//! ```sql
//! CREATE TABLE flights (flight INT NOT NULL, carrier VARCHAR, month INT);        -- lake/public/flights/
//! CREATE TABLE january AS SELECT * FROM flights WHERE month = 1;                 -- streams, whatever its size
//! CREATE TABLE late (flight INT, dep_delay INT) WITH ORDER (flight) OPTIONS ('supertable.check.late' 'dep_delay > 0');
//! CREATE OR REPLACE TABLE january AS SELECT * FROM flights WHERE month = 1;      -- one commit; the old rows stay if it fails
//! SHOW TABLES;
//! ALTER TABLE january RENAME TO first_month;                                     -- at one moment, for everybody; nothing is moved
//! DROP TABLE first_month;                                                        -- safe beside readers and writers
//! ```
//!
//! A renamed table keeps its history and earlier versions (`"first_month@v7"`), its old name is free at once, and statements that
//! are under way go on.
//!
//! The files in `sql/` show every behaviour with its result; `sql/oracle.py` compares those results with DuckDB's.
//!
//! # A catalog from Rust
//!
//! `open_catalog(&ctx, "lake", "s3://my-bucket/lake/")?` opens a catalog. Its statements go through
//! `datafusion_supertable::sql(&ctx, "CREATE TABLE lake.public.t AS …").await?` in place of `ctx.sql(…)`, because DataFusion's
//! own would collect the rows in memory, drop a table before the query that replaces it has succeeded, and not say which session
//! asks. (With `ctx.sql`, `CREATE`, `DROP` and `OR REPLACE` of stored tables are refused, and `DROP TABLE IF EXISTS` does nothing.)
//!
//! # Statements that conflict
//!
//! A statement reads one version of each table. It becomes visible wholly or not at all, and is durable once it
//! has returned. Two statements that change the same row are ordered: the second runs again on the new version, after
//! a pause, at most ten times in all; so does one that another process took for dead. Then it ends in an error of kind
//! `Conflict`, has changed nothing, and can be run again:
//!
//! ```
//! use datafusion::error::DataFusionError;
//! use datafusion_supertable::{Error, ErrorKind};
//!
//! fn may_run_again(error: &DataFusionError) -> bool {
//!     Error::find_in(error).is_some_and(|e| e.kind() == ErrorKind::Conflict)
//! }
//! ```
//!
//! Statements that only append conflict with no change of rows. A `MERGE` that inserts a row because it found none with
//! its key runs again if another statement has added that key meanwhile, so concurrent upserts leave a key once. The default is snapshot isolation. With
//! `SET supertable.isolation = 'serializable'`, or the table option of that name, a statement that reads the table it
//! changes takes effect as if it had run alone at the moment of its commit.
//!
//! A session that must not write sets `supertable.read_only = true`: it sends no request that writes, does not even recover
//! what dead writers left, and cannot turn it off again. `RUST_LOG=datafusion_supertable=debug` shows what happens.
//!
//! # Many writers
//!
//! Statements of one process that are ready at the same time share one replacement of the pointer. Between processes, the
//! one with the oldest ready statement commits all that are ready; the others watch until they find themselves done, and take
//! over if nothing happens. This only saves time: two that lead at once race for the pointer as always, and one wins.
