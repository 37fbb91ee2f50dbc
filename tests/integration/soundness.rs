//! Random programs: each statement changes exactly the rows for which its predicate is true.
//!
//! What is true says an oracle that evaluates predicates row by row, subqueries by definition, without the
//! optimiser (see `oracle`); for what SQLite understands in the same way, the oracle itself is compared
//! with SQLite. One statement in three is prepared. Sessions have all settings that change plans flipped
//! at random, tables are written with all options and changed in many ways before.
//!
//! - `SUPERTABLE_SOUNDNESS_SEED`: the seed of the first program (a failure prints its own).
//! - `SUPERTABLE_SOUNDNESS_PROGRAMS`: how many programs to run, with consecutive seeds.
//! - `SUPERTABLE_SOUNDNESS_STATEMENTS`: how many statements a program checks.
//! - `SUPERTABLE_SOUNDNESS_REDUCE`: a failing statement is made small, which takes a while.
//! - `SUPERTABLE_SOUNDNESS_VERBOSE`: why statements were skipped.
//!
//! The long form: `SUPERTABLE_SOUNDNESS_STATEMENTS=6 SUPERTABLE_SOUNDNESS_PROGRAMS=20000 cargo test --features cli --test integration soundness -- --nocapture`.
//! It prints how many statements ran, and what was refused, with the message.
//!
//! A `SELECT` that is wrong in the same way over tables in memory is DataFusion's own, and counted only.
//!
//! Not generated, because it has no one answer: sums of floats, `LIMIT` without a total order, floats as
//! groups, equality of floats in subqueries.

mod expected;
mod exprs;
mod layout;
mod oracle;
mod predicates;
mod program;
mod queries;
mod random;
mod reduce;
mod rows;
mod settings;
mod simplify;
mod sqlite;
mod statement;
mod types;

use std::time::Duration;

use datafusion::prelude::{SessionConfig, SessionContext};

use crate::support::programs::{from_environment, run_programs};

const DEFAULT_SEED: u64 = 1;
const DEFAULT_PROGRAMS: u64 = 300;
const DEFAULT_STATEMENTS: u64 = 2;

#[test]
fn statements_change_exactly_the_rows_that_their_predicates_name() {
    let first = from_environment("SUPERTABLE_SOUNDNESS_SEED", DEFAULT_SEED);
    let programs = from_environment("SUPERTABLE_SOUNDNESS_PROGRAMS", DEFAULT_PROGRAMS);
    let statements = from_environment("SUPERTABLE_SOUNDNESS_STATEMENTS", DEFAULT_STATEMENTS);
    let tally = run_programs(first, programs, |seed, counts| {
        program::run(seed, statements, counts)
    });
    let count = |what: &str| -> u64 {
        let matching = tally.iter().filter(|(name, _)| name.starts_with(what));
        matching.map(|(_, n)| n).sum()
    };
    let (tried, ran) = (count("tried"), count("ran"));
    println!("{ran} of {tried} statements ran and were compared");
}

/// Joins of large inputs are partitioned; here the threshold makes those of small ones so.
#[tokio::test]
async fn joins_of_a_statement_that_writes_do_not_wait_for_one_another() {
    let directory = tempfile::tempdir().unwrap();
    let ctx = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    datafusion_supertable::register(&ctx).unwrap();
    let statements = [
        "SET datafusion.optimizer.hash_join_single_partition_threshold = '0'",
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, c0 INT, c1 TIMESTAMP(9), c2 VARCHAR, c3 BOOLEAN, c4 BYTEA) STORED AS SUPERTABLE LOCATION '__L__/t/' WITH ORDER (c2 ASC NULLS FIRST) OPTIONS ('supertable.write.page_index' 'true', 'supertable.write.target_file_rows' '4')",
        "INSERT INTO t (id, c0, c1, c2, c3, c4) VALUES (CAST(1 AS BIGINT), CAST(-1 AS INT), CAST('2024-10-27T01:30:00.000000001' AS TIMESTAMP(9)), 'a_c', TRUE, X'00'), (CAST(2 AS BIGINT), CAST(NULL AS INT), CAST('2024-01-01T00:00:00.001234567' AS TIMESTAMP(9)), 'A', TRUE, X'ff')",
        "CREATE EXTERNAL TABLE u (id BIGINT NOT NULL, c0 VARCHAR, c1 BYTEA, c2 TIMESTAMP(9), c3 BOOLEAN) STORED AS SUPERTABLE LOCATION '__L__/u/' WITH ORDER (c2 ASC NULLS FIRST) OPTIONS ('supertable.write.page_bytes' '64')",
        "INSERT INTO u (id, c0, c1, c2, c3) VALUES (CAST(1 AS BIGINT), '2024-02-29', X'6162', CAST('1970-01-01T00:00:00' AS TIMESTAMP(9)), TRUE)",
        "INSERT INTO u (id, c0, c1, c2, c3) VALUES (CAST(2 AS BIGINT), '1.5', X'61', CAST('2024-03-31T02:30:00' AS TIMESTAMP(9)), CAST(NULL AS BOOLEAN))",
        "INSERT INTO t (id, c0, c1, c2, c3, c4) VALUES (CAST(1000 AS BIGINT), CAST(2147483647 AS INT), CAST('1970-01-01T00:00:00.001234567' AS TIMESTAMP(9)), '2', TRUE, X'6162'), (CAST(1001 AS BIGINT), CAST(3 AS INT), CAST('2024-10-27T01:30:00.001234567' AS TIMESTAMP(9)), CAST(NULL AS VARCHAR), TRUE, X'00ff'), (CAST(1002 AS BIGINT), CAST(1 AS INT), CAST(NULL AS TIMESTAMP(9)), '1.5', FALSE, X'00ff'), (CAST(1003 AS BIGINT), CAST(75 AS INT), CAST('1969-12-31T23:59:59' AS TIMESTAMP(9)), '1', CAST(NULL AS BOOLEAN), X'00'), (CAST(1004 AS BIGINT), CAST(4 AS INT), CAST('2024-02-29T23:59:59.001234567' AS TIMESTAMP(9)), '01', TRUE, X'6162'), (CAST(1005 AS BIGINT), CAST(-2147483648 AS INT), CAST('1970-01-01T00:00:00.001' AS TIMESTAMP(9)), ' ', FALSE, CAST(NULL AS BYTEA))",
        "UPDATE t SET c0 = t.c0, c2 = coalesce(t.c2, TRY_CAST(CAST('4' AS INT UNSIGNED) AS VARCHAR)) WHERE ((NOT (((3) IN (SELECT s2.id AS v FROM t AS s1 JOIN u AS s2 ON s1.c1 = s2.c2 EXCEPT SELECT s3.id AS v FROM u AS s3)) IS NOT DISTINCT FROM (t.c4 < t.c4))) AND (((((2) NOT IN (SELECT CAST(t.id AS BIGINT) AS v FROM (SELECT * FROM u AS s4 WHERE (CASE WHEN (CAST('-2.25' AS REAL)) > (CAST(1 AS INT)) THEN (s4.c0) <= (s4.c0) ELSE s4.c2 <> s4.c2 END)) AS s5 WHERE s5.c3 = t.c3 UNION SELECT s7.id AS v FROM (SELECT s6.*, max(s6.id) OVER (ORDER BY s6.id) AS w FROM t AS s6) AS s7 WHERE (CASE WHEN (s7.id) = (3) THEN s7.id = s7.id ELSE s7.c3 IS NOT NULL END))) IS DISTINCT FROM (((t.c4) IS DISTINCT FROM (X'6162'))))) IS DISTINCT FROM ((coalesce(t.c2, t.c2)) IN (SELECT s8.c0 AS v FROM u AS s8 WHERE s8.id = t.id AND ((CAST('1970-01-01T00:00:00.001234567' AS TIMESTAMP(9))) IS DISTINCT FROM (s8.c2))))))",
    ];
    for sql in statements {
        let sql = sql.replace("__L__", &directory.path().display().to_string());
        let rows = async { ctx.sql(&sql).await.unwrap().collect().await };
        let ended = tokio::time::timeout(Duration::from_secs(60), rows).await;
        ended
            .unwrap_or_else(|_| panic!("never ends: {sql}"))
            .unwrap();
    }
}
