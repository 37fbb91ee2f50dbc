//! Changing columns, and adopting files that others wrote.
//!
//! # `ALTER TABLE`
//!
//! DataFusion has no such statement for tables like these. It is understood by `sql()`), by the
//! command line (at the prompt, in scripts, in pipes and after `-c`), and everywhere as the function
//! `supertable_alter('t', '…')`; not by `SessionContext::sql`. `ALTER TABLE IF
//! EXISTS` does nothing where there is no such table. For `RENAME TO` see
//! [`statements`](super::statements#renaming-a-table).
//!
//! ```text
//! ALTER TABLE t changes
//!
//! changes := RENAME TO name
//!          | change (, change)*
//! change  := ADD [COLUMN] [IF NOT EXISTS] path type [NOT NULL | NULL] [DEFAULT expr] [place]
//!          | ADD [CONSTRAINT name] { PRIMARY KEY | UNIQUE } (name, …)
//!          | ADD [CONSTRAINT name] CHECK (expr)
//!          | DROP [COLUMN] [IF EXISTS] path
//!          | DROP CONSTRAINT [IF EXISTS] name | DROP PRIMARY KEY
//!          | RENAME [COLUMN] path TO name
//!          | ALTER [COLUMN] path { [SET DATA] TYPE type | {SET | DROP} NOT NULL
//!                                | SET DEFAULT expr | DROP DEFAULT }
//!          | MOVE [COLUMN] path place
//!          | SET [TBLPROPERTIES] ('key' = 'value', …)
//!          | UNSET [TBLPROPERTIES] ('key', …)
//! place   := FIRST | AFTER name
//! path    := name (. name)*       a field of a struct; a list's items are called element
//! ```
//!
//! All changes of one statement are one version, or none. No superfile is written anew: a column is known by its
//! field id, so old superfiles are read by today's names.
//!
//! - A new column is NULL in old rows, or has the default of the moment when it was added. `SET DEFAULT` is about new
//!   rows only. A default is an expression without columns that does not differ from row to row.
//! - A dropped column does not come back: another one of its name and type is another column.
//! - A type can be widened: an integer to a larger one, a float to a double, a decimal to more digits of the same scale.
//!   Everything else is refused; add a column and `UPDATE` it.
//! - `SET NOT NULL` reads the superfiles whose statistics do not say that they have no NULL. Deleted rows count as long as
//!   they are in a superfile (`supertable_optimize('t', full => true)` takes them out). A new column that is `NOT NULL` needs a
//!   default, unless the table is empty.
//! - `ADD CHECK` reads the columns that the condition names, in all rows, and fails if it is false for one; a row for which it
//!   is NULL passes. A check without a name is called `check1`, `check2` and so on. `supertable_restore` brings back the checks
//!   of its version, as it does with keys.
//! - A column by which the table is ordered or clustered, or that is part of a key, cannot be dropped. A table keeps at least
//!   one column.
//! - A view or prepared statement goes on by the names that it uses. If one of them has changed, or a session learns
//!   of new columns only while it runs a statement, that is an error, and the next statement sees the new columns.
//!
//! # Keys
//!
//! `PRIMARY KEY (…)` and `UNIQUE (…)`, or either behind a column, stand in `CREATE EXTERNAL TABLE` and in a catalog's `CREATE
//! TABLE`, or are added later by `ALTER TABLE`, which sorts the key columns of all rows to check them. No two rows of a table
//! have the same values in the columns of a key; rows that are NULL in one of them count as different, and those of the
//! primary key are `NOT NULL`. `INSERT`, `UPDATE`, `MERGE`, `INSERT OVERWRITE` and `supertable_add_files` enforce it. A statement
//! that would leave a key twice fails with [`ErrorKind::DuplicateKey`](crate::ErrorKind::DuplicateKey), which names the key and
//! one of its values, and changes nothing. Of two statements that add one key at the same time, at any level of isolation,
//! one runs again and finds the other's row. `supertable_restore` brings back the keys of its version.
//!
//! What it costs: rows that come in ascending order of the key, or are at most 32,768, are compared with no other new row;
//! superfiles whose statistics leave no room for their keys are not read. Otherwise the key columns (and nothing else) of new
//! rows are compared with each other and with those of the superfiles that may hold one, by hashes where 32 MiB hold the new
//! ones, else by sorting. An `UPDATE` that sets no column of a key, and a
//! `DELETE`, cost nothing.
//!
//! A lookup by the key reads the superfiles that may have it. Where keys ascend as they are handed out, statistics tell them
//! apart. Superfiles with other keys, random ones for instance, get Bloom filters of each column that is a key alone; a
//! session reads them once (up to 128 million rows that statistics leave) and keeps them in the cache of the process. `EXPLAIN`
//! counts them as `superfiles_pruned_by_bloom_filters`.
//!
//! A key has columns of integers, decimals, text, bytes, dates or times; a float is refused, whose zeros are two. DataFusion
//! plans with keys without NULLs: `SELECT id, v FROM t GROUP BY id` is understood. Names are given by
//! `ALTER TABLE … ADD CONSTRAINT name`; DataFusion drops those of `CREATE`, where a key is called `primary_key`, or `a_b_key` by
//! its columns. `supertable_properties('t')` lists them.
//!
//! # Columns in files
//!
//! A superfile is a Parquet file that any reader can open. It calls a column by the column's *physical name*: the name
//! that the column had when it was made. A rename does not change it. A column whose name another one has or had in this
//! table gets `name_id` with its field id, so a physical name means one column for ever; so do fields of structs. `_id`
//! is the stored row id (field id 2147483647), never a column of yours. The Arrow schema in a superfile has plain types
//! (`Utf8`, `Binary`, `List`); a scan gives the types that the table declares. What a file does not say is which of its
//! rows are deleted, and which files are the table's: the manifest says that.
//!
//! # Adopting files
//!
//! `supertable_add_files('t', location)` takes Parquet files into the table: one file, a directory, or a pattern with `*`.
//! Nothing is decoded, and of a file in the table's own object store (the same scheme and bucket, container or host; on the
//! local disk, any file) nothing but its footer is read: it stays where it is, and the table reads it there. From another
//! store, or with `copy => true`, its bytes are copied as they are, within one object store by the store itself, and the
//! original is not needed afterwards. The column `placed` of the answer says which.
//!
//! A directory of a Delta, Iceberg or Hudi table, of a supertable or of infino is no plain directory of Parquet: its own
//! records say which files and rows count. A file at or below one is refused; read such a table in its own format, and
//! `INSERT INTO … SELECT`. Each directory above the location is asked for such records.
//!
//! A file that stays is its owner's. Nothing of the table writes or deletes it: not vacuum, compaction, `DELETE` or `DROP TABLE`,
//! nor what undoes a statement that died. Its owner must neither change nor delete it as long as a version that is to be
//! read has it. If he does, no statement that needs it gives a wrong answer: it fails with an error that names the file, and
//! says to put it back, to delete its rows by a condition that its bounds prove for all of them (then it is not read), or to
//! restore a version from before it was added. A change is seen by the object's ETag, and on the
//! local disk by its time and size (of a copy of the files, the times have to be kept). `UPDATE` and compaction put its rows
//! into superfiles of the table; `supertable_optimize('t', full => true)` does with all, and then, when the older versions
//! are not to be read any more, the files are not needed. Superfiles have checksums of all their bytes. Of
//! files of others, copied ones too, only footer and page indexes are covered: a flipped bit in a page may go unnoticed.
//!
//! The path of a file below the table's directory is kept relative to it, so both can be moved together. Any other path is
//! kept from the root of the object store: a table that is opened by another form of its URL, or moved to another store,
//! must find the file there.
//!
//! - Columns are found by name, in any order. A narrower type is fine. A column that a file lacks is NULL.
//! - Columns in the names of directories (`year=2024/month=3/`) count as the file's, and files are skipped by them.
//! - Refused, and with it all others: a file with a column that the table does not have, with a type that does not fit, or
//!   without a column that is `NOT NULL` or has a default; one that the table has already, also when two processes add it at
//!   once; and a file of another supertable, which may hold deleted rows. A table has a file until all of its rows are
//!   deleted or were put into superfiles of the table: after that it can be added again, which is for you to know.
//! - Of a table with keys, the key columns of the files are read.
//! - A table with conditions (`check.…`) or an order takes rows by `INSERT` only, because only that tests and sorts them.
