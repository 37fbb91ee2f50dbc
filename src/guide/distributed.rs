//! Statements over several processes: the feature `distributed`.
//!
//! The process that plans a statement is the *coordinator*. *Workers* scan, filter, join, sort and aggregate; they read
//! superfiles and sidecars of the version that the coordinator pinned, and nothing else of a table. The coordinator reads the
//! pointer and the manifest, writes superfiles, and makes the one commit. The engine is
//! [datafusion-distributed](https://docs.rs/datafusion-distributed) 4.
//!
//! # Three workers on one machine
//!
//! ```text
//! cargo install --path . --features cli,distributed
//! supertable worker --listen 127.0.0.1:50051 &
//! supertable worker --listen 127.0.0.1:50052 & supertable worker --listen 127.0.0.1:50053 &
//! supertable --workers http://127.0.0.1:50051,http://127.0.0.1:50052,http://127.0.0.1:50053
//! ```
//!
//! The last one is a prompt like any other; `-f` and `-c` run scripts the same way. `EXPLAIN` shows the stages of a plan and
//! what each worker reads, `EXPLAIN ANALYZE` what each did. A statement that shows no stage runs in the coordinator alone. Tables of a few
//! MiB do: `SET distributed.file_scan_config_bytes_per_partition` (16 MiB) says how many bytes are worth another worker.
//!
//! On several machines every worker needs the tables' object store: a worker process opens it, when a plan first names it,
//! with the credentials of its own environment (`AWS_*`, `AZURE_*`, `GOOGLE_*`). Credentials never travel. A directory
//! has to be there under the same path on all of them. **Whoever reaches a worker's port can have it read what it can
//! read**, and there is neither encryption nor a password: keep the port inside.
//!
//! # In a program
//!
//! | side | call |
//! | --- | --- |
//! | coordinator | `distributed::coordinator(SessionStateBuilder, workers)`, where `FixedWorkers::new(["http://…"])` or any `WorkerResolver` says which workers there are; it registers supertables, too |
//! | worker | `distributed::worker()`, with `with_runtime_env` for its object stores and `into_worker_server` to serve it |
//!
//! The module `distributed` has both as code. A server of another making should take headers of more than 16 KiB
//! (`http2_max_header_list_size`): conditions of a statement go to workers in a header. `SupertableCodec::over` adds nodes
//! of your own. Functions of your own have to be registered under the same names on both sides.
//!
//! # What runs where
//!
//! | statement | on workers | on the coordinator |
//! | --- | --- | --- |
//! | `SELECT` | scans, filters, joins, sorts, partial and final aggregates | the last merge |
//! | `DELETE` | the same, down to bitmaps of the rows' addresses | the sidecars, the commit |
//! | `UPDATE`, `MERGE` | what finds and computes the rows | the superfiles, the commit |
//! | `INSERT … SELECT`, `CREATE TABLE AS` | joins and aggregates of the query | scans that feed the sink directly, the superfiles, the commit |
//! | table functions, `supertable_optimize`, checks of keys | nothing | all |
//!
//! A statement that lost against another one is planned anew and goes to workers again. Joins of a statement's source with its
//! target are the engine's: they read the whole target, where a session without workers leaves out superfiles by the source's keys.
//!
//! A plan goes to workers only if that is certain to change nothing. It stays on the coordinator, and is right, if
//!
//! - a scan has one partition only: one superfile too small to cut, or `target_partitions = 1`, which a coordinator raises to 2;
//! - a part of it would see too few rows or give some out twice: `NOT IN` over columns that may be NULL, a query that calls
//!   itself (`WITH RECURSIVE`), operators of others that this crate does not know;
//! - it arrives at a worker as something else than it was, or with functions that workers do not have. Each plan is written down
//!   and read again before it goes;
//! - its conditions are longer than 12 KiB, or two of different types are written alike.
//!
//! The `tracing` event `a plan stays on the coordinator` (level `DEBUG`) says why.
//!
//! # Failure
//!
//! A worker that dies ends the statements that it works for with an error; nothing was changed, and the statement may be
//! run again, once the worker is back or the coordinator knows others. There are no retries. What a worker finds wrong with an
//! object has the kind and the name that it has without workers; errors of an expression have their text only. A worker of
//! another version of this crate refuses what it does not know.
//!
//! # Limits
//!
//! - Workers write nothing: superfiles are encoded by the coordinator.
//! - The engine plans uncorrelated scalar subqueries as joins there, and has no dynamic filters between processes.
//! - `SET` settings go along; those of `datafusion.catalog` and `datafusion.runtime` do not.
//! - Ballista is not supported.
