//! Options of a session, and of a table.
//!
//! A session's are set by `SET supertable.<name> = <value>` and shown by `SHOW supertable.<name>`. A
//! table's are given in `OPTIONS ('supertable.<name>' '<value>')` when it is created, and changed later by
//! `ALTER TABLE t SET ('supertable.<name>' = '<value>')` and `UNSET ('supertable.<name>')`. They are stored
//! with the table, so every session has them. A name that does not exist, or a value that could not be
//! applied, is refused at once.
//!
//! | option `supertable.…` | session | table | default | meaning |
//! | --- | --- | --- | --- | --- |
//! | `isolation` | yes | yes | `snapshot` | `snapshot` or `serializable`; the session's word comes first |
//! | `expose_row_id` | yes | yes | `false` | how the rows' stable ids can be had: `true`, by the function `_id(…)`; `column`, also as the column `_id` of what a query reads, which `SELECT *` shows too; the farther of the two counts |
//! | `auto_compact` | yes | yes | `false` | whether small superfiles are joined in the background after writes, or new ones clustered; one of the two is enough |
//! | `cluster_by` | no | yes | none | `zorder(a, b)` or `hilbert(a, b)`: along which curve compactions write the rows; see below |
//! | `max_group_bytes` | yes | yes | 10 GiB | bytes of superfiles that a compaction in an order through the table writes anew in one commit; the session's word comes first |
//! | `read_only` | yes | no | `false` | whether the session only reads; once it does it cannot be turned off again |
//! | `check.…` | no | at creation, or by `ALTER TABLE … ADD CHECK` | none | a condition that every row meets; the rest of the name is yours |
//! | `target_file_rows` | yes | no | 16,777,216 | another name for the session's `write.target_file_rows` |
//! | `target_file_bytes` | yes | no | 2 GiB | another name for the session's `write.target_file_bytes` |
//! | `write.…` | yes | yes | see below | how superfiles are written |
//!
//! # How superfiles are written
//!
//! The session's value comes first, then the table's, then DataFusion's own setting for Parquet
//! (`datafusion.execution.parquet.…`), whose defaults are those below. While none of them says anything else than
//! DataFusion's default, the first rows of a superfile decide, column by column: whether a dictionary is worth decoding for a read
//! of one row, whether differences or streams of bytes take less than plain values, and whether a codec
//! (`zstd(1)`, `lz4_raw` or none) saves more than it costs. To get what a default says, set it under `supertable.write.…`.
//!
//! | option `supertable.write.…` | meaning | default |
//! | --- | --- | --- |
//! | `compression` | codec of data pages: `uncompressed`, `snappy`, `lz4_raw`, `zstd(1)` to `zstd(22)` | as the rows ask for |
//! | `dictionary` | dictionary-encode columns while it pays | where the rows ask for it |
//! | `row_group_rows` | rows of a row group, the unit that is skipped as a whole and encoded at once | 1,048,576 |
//! | `page_bytes` | bytes at which a data page is closed | 1 MiB |
//! | `page_rows` | rows at which a data page is closed: the unit that page statistics skip | 20,000 |
//! | `page_index` | statistics of each page, not only of each row group | `true` |
//! | `bloom_filter_columns` | columns with a Bloom filter, separated by commas; a column that is a declared key alone has one wherever its values are not numbers in ascending order | none |
//! | `bloom_filter_fpp` | how often a Bloom filter may be wrong, between 0 and 1 | DataFusion's |
//! | `bloom_filter_ndv` | distinct values of a row group that a Bloom filter expects | DataFusion's |
//! | `target_file_rows` | rows at which a superfile is closed and the next one begun; at most 16,777,216 | 16,777,216 |
//! | `target_file_bytes` | bytes in memory, before encoding, at which a superfile is closed | 2 GiB |
//!
//! A change concerns superfiles to come; those that are there stay as they are. The session's `target_file_rows` and
//! `target_file_bytes`, without `write.`, say nothing while they have their defaults. Compaction aims at
//! the same sizes.
//!
//! # Clustering
//!
//! `cluster_by` names one to eight columns of any type that has an order. It is checked when it is set; one for columns that
//! are not there, or of a table that declares an order (`WITH ORDER`), is refused. It follows columns that are renamed, and
//! a column that it names cannot be dropped before it is changed or unset. Statements write rows as they come; then
//! [`supertable_optimize`](super::functions#supertable_optimize), or `auto_compact`, brings those in order that are not. A
//! change of it concerns all rows: the next compaction writes all superfiles anew. Other names for the same columns concern
//! none.
//!
//! # Conditions
//!
//! A `check.…` option holds a condition on the row's columns, with constants and functions that always
//! give the same result. Rows that are there may violate it, so it is added later by `ALTER TABLE … ADD
//! CONSTRAINT name CHECK (…)`, which reads them. `DROP CONSTRAINT name` takes it away.
