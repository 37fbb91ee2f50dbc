//! What DataFusion 55.2 is known to evaluate wrongly, and what is done about it.
//!
//! | shape | report | what DataFusion does | treatment |
//! | --- | --- | --- | --- |
//! | `ORDER BY … LIMIT` over more ordered files than partitions | apache/datafusion#24272 | partitions take files from one another and are no longer in order | `scan::keep_order` |
//! | correlated `EXISTS` over an aggregate | #24960 | forgets that there is a row for no rows | `unnest` |
//! | correlated `EXISTS` with `OFFSET` or `LIMIT` | #25283 | drops the offset | `unnest` |
//! | correlated `EXISTS` over `ROLLUP`, `CUBE`, grouping sets | #25519 | forgets the row of the empty set | `unnest` |
//! | a comparison of a cast that loses something | #14303, #23095 | compares what stands before the cast | `barrier` |
//! | `i ^ i` and other simplifications that forget NULL | #24246 | `0`, also where `i` is NULL | `barrier` |
//! | `c NOT IN (1) OR c NOT IN (2)`, two lists on one operand under `NOT` | found here | joins the lists as if `c` were never NULL | `barrier` |
//! | `x NOT IN (SELECT …)` below `OR`, `NOT` or an expression; a constant `x` | found here | overlooks NULLs | `subquery` |
//! | a predicate on a list, struct or map with `pushdown_filters` | kin of #25268 | takes rows for which it is not true | `scan::source` does not take such filters |
//! | `a.x = b.x` above a join on `a.k IS NOT DISTINCT FROM b.k` | found here | draws the equality into a join in which NULLs are equal | `barrier`, `key` |
//! | a scalar subquery `IS [NOT] NULL` | found here | takes it for its column, which is never NULL where there is no row | `exact` |
//! | `CAST(ts_ms AS ns) < value` | found here | cuts the value to the coarser unit | `barrier`, `scan::defaults` |
//! | `GROUP BY` a column that was unique before a join, and others; `DISTINCT` of it | found here | leaves the others out, or making rows distinct | `rewrite`: columns that depend on nothing |
//! | `ORDER BY` a key and others, above a join | found here | leaves the others out | `analyzer`: scans tell the optimiser of no key |
//! | a sort-merge join with a filter, below a projection | found here | evaluates the filter on other columns | `join_fence` |
//! | an outer sort-merge join whose filter reads a `NOT NULL` column | found here | fails on rows without a partner | `join_fence` |
//! | a full sort-merge join with a condition of no columns, which is NULL | found here | leaves the condition out | `join_fence` |
//! | a piecewise merge join (off by default) | found here | loses rows without a partner, or panics | `join_fence`: nested loops |
//! | correlated `EXISTS` or `IN` over a join of tables that have a column name in common | found here | compares either of them | `trust` |
//! | partitioned hash joins that feed one another | found here | wait for each other for ever | `waiting_joins`, in statements that write |
//! | `PREPARE` | read | rewrites the plan before it is analysed | `prepared` |
//! | the hooks `delete_from` and `update` | found here | lose predicates | `dml::analyzer` |
//! | two calls of a table function that differ in an argument, in two subqueries | found here | takes scans of one name for one, and evaluates it once | `parameters`, for the functions of this crate |
//! | conditions of one meaning in two forms: `c = 2 AND 2 = c`, `x >= 0.0 AND x > -0.0` | found here | takes them for FALSE, or keeps the wider one | `barrier`: one form |
//! | a condition without columns above an aggregate: `NULL IN (SELECT max(…))`, `ON … AND 1 = 0` | found here | moves it below, where a row for no rows passes | `rewrite`: a fence |
//! | a list of four or more floats | found here | tells `0.0` from `-0.0`, as `=` does not | `barrier`, `exact` |
//! | a group or a distinct value of floats | found here | is `0.0` for `-0.0`, too | `key`: outer values are kept in their bits |
//!
//! Each row that can be told by an answer has a test here that fails as soon as DataFusion gives the right one:
//! then its treatment can go.

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use datafusion::arrow::util::display::array_value_to_string;
    use datafusion::datasource::physical_plan::FileScanConfig;
    use datafusion::datasource::source::DataSourceExec;
    use datafusion::physical_plan::ExecutionPlan;
    use datafusion::prelude::{SessionConfig, SessionContext};
    use std::sync::Arc;

    /// The first column of the last statement's rows, in a session without this crate.
    async fn plain(statements: &[&str]) -> Vec<String> {
        in_session(&SessionContext::new(), statements).await
    }

    async fn in_session(ctx: &SessionContext, statements: &[&str]) -> Vec<String> {
        let mut rows = Vec::new();
        for sql in statements {
            rows.clear();
            for batch in ctx.sql(sql).await.unwrap().collect().await.unwrap() {
                let column = batch.columns().first().cloned();
                for row in 0..batch.num_rows() {
                    let value = array_value_to_string(column.as_ref().unwrap(), row);
                    rows.push(value.unwrap());
                }
            }
        }
        rows.sort();
        rows
    }

    #[track_caller]
    fn is_still_wrong(answer: &[String], wrong: &[&str], right: &[&str]) {
        assert_ne!(
            answer, right,
            "DataFusion is right now: the treatment can go"
        );
        assert_eq!(answer, wrong, "DataFusion is wrong in another way");
    }

    const TABLES: [&str; 2] = [
        "CREATE TABLE a (k INT) AS VALUES (1), (2), (3)",
        "CREATE TABLE b (v INT) AS VALUES (1), (1), (3)",
    ];

    async fn with_tables(query: &str) -> Vec<String> {
        plain(&[TABLES[0], TABLES[1], query]).await
    }

    #[tokio::test]
    async fn correlated_exists_over_an_aggregate() {
        let sql = "SELECT k FROM a WHERE EXISTS (SELECT count(*) FROM b WHERE b.v = a.k)";
        is_still_wrong(&with_tables(sql).await, &["1", "3"], &["1", "2", "3"]);
    }

    #[tokio::test]
    async fn correlated_exists_with_an_offset() {
        let sql = "SELECT k FROM a WHERE EXISTS (SELECT * FROM b WHERE b.v = a.k OFFSET 1)";
        is_still_wrong(&with_tables(sql).await, &["1", "3"], &["1"]);
    }

    #[tokio::test]
    async fn correlated_exists_over_rollup() {
        let sql = "SELECT k FROM a WHERE EXISTS \
                   (SELECT 1 FROM b WHERE b.v = a.k GROUP BY ROLLUP(b.v))";
        is_still_wrong(&with_tables(sql).await, &["1", "3"], &["1", "2", "3"]);
    }

    #[tokio::test]
    async fn a_narrowing_cast_is_unwrapped() {
        let table = "CREATE TABLE t (a INT) AS VALUES (1000000), (2)";
        let sql = "SELECT a FROM t WHERE TRY_CAST(a AS SMALLINT) > 1";
        is_still_wrong(&plain(&[table, sql]).await, &["1000000", "2"], &["2"]);
    }

    #[tokio::test]
    async fn a_cast_to_fewer_digits_is_unwrapped() {
        let table = "CREATE TABLE t (d DECIMAL(20,4)) AS VALUES (1.2345), (1.24)";
        let sql = "SELECT d FROM t WHERE CAST(d AS DECIMAL(20,2)) = 1.23";
        is_still_wrong(&plain(&[table, sql]).await, &[], &["1.2345"]);
    }

    #[tokio::test]
    async fn xor_with_itself_forgets_null() {
        let table = "CREATE TABLE t (id INT, i INT) AS VALUES (1, NULL), (2, 1)";
        let sql = "SELECT id FROM t WHERE (i ^ i) = 0";
        is_still_wrong(&plain(&[table, sql]).await, &["1", "2"], &["2"]);
    }

    #[tokio::test]
    async fn lists_are_joined_as_if_there_were_no_null() {
        let table = "CREATE TABLE t (id INT, c INT) AS VALUES (1, NULL), (2, 1)";
        let sql = "SELECT id FROM t WHERE c NOT IN (1) OR c NOT IN (2)";
        is_still_wrong(&plain(&[table, sql]).await, &["1", "2"], &["2"]);
    }

    #[tokio::test]
    async fn two_calls_of_a_table_function_are_taken_for_one() {
        let sql =
            "SELECT (SELECT count(*) FROM range(0, 5)) * 10 + (SELECT count(*) FROM range(0, 7))";
        is_still_wrong(&plain(&[sql]).await, &["55"], &["57"]);
    }

    #[tokio::test]
    async fn a_list_tells_zeros_apart() {
        let table = "CREATE TABLE t (x DOUBLE) AS VALUES (0.0), (CAST('-0.0' AS DOUBLE))";
        let sql = "SELECT count(*) FROM t WHERE x IN (1.5, 2.5, 3.5, 0.0)";
        is_still_wrong(&plain(&[table, sql]).await, &["1"], &["2"]);
    }

    #[tokio::test]
    async fn conditions_in_two_forms_are_joined() {
        let table = "CREATE TABLE t (x DOUBLE) AS VALUES (0.0), (CAST('-0.0' AS DOUBLE)), (1.0)";
        let both =
            "SELECT count(*) FROM t WHERE x = CAST('0.0' AS DOUBLE) AND x = CAST('-0.0' AS DOUBLE)";
        is_still_wrong(&plain(&[table, both]).await, &["0"], &["2"]);
        let above = "SELECT count(*) FROM t WHERE x > CAST('-0.0' AS DOUBLE) AND x >= CAST('0.0' AS DOUBLE)";
        is_still_wrong(&plain(&[table, above]).await, &["3"], &["1"]);
    }

    #[tokio::test]
    async fn a_condition_without_columns_is_moved_below_an_aggregate() {
        let sql = "SELECT count(s.n) FROM (SELECT count(*) + 1 AS n FROM b WHERE v > 100) AS s \
                   RIGHT JOIN a ON a.k = s.n AND 1 = 0";
        is_still_wrong(&with_tables(sql).await, &["3"], &["0"]);
    }

    #[tokio::test]
    async fn not_in_below_or_overlooks_null() {
        let tables = "CREATE TABLE n (x INT) AS VALUES (7), (NULL)";
        let sql = "SELECT k FROM a WHERE k NOT IN (SELECT x FROM n) OR k = 1";
        let answer = plain(&[TABLES[0], tables, sql]).await;
        is_still_wrong(&answer, &["1", "2", "3"], &["1"]);
    }

    #[tokio::test]
    async fn a_constant_not_in_overlooks_null() {
        let tables = "CREATE TABLE n (x INT) AS VALUES (7), (NULL)";
        let sql = "SELECT k FROM a WHERE 5 NOT IN (SELECT x FROM n)";
        let answer = plain(&[TABLES[0], tables, sql]).await;
        is_still_wrong(&answer, &["1", "2", "3"], &[]);
    }

    #[tokio::test]
    async fn an_equality_is_drawn_into_a_join_of_nulls() {
        let table = "CREATE TABLE t (k INT, x INT) AS VALUES (1, 1), (NULL, NULL)";
        let sql = "SELECT a.x FROM t AS a JOIN t AS b ON a.k IS NOT DISTINCT FROM b.k \
                   WHERE a.x = b.x";
        is_still_wrong(&plain(&[table, sql]).await, &["", "1"], &["1"]);
    }

    #[tokio::test]
    async fn groups_are_left_out() {
        let sql = "SELECT d.k FROM (SELECT DISTINCT k FROM a WHERE k = 3) AS d JOIN a AS s ON s.k < d.k \
                   GROUP BY d.k, s.k HAVING count(*) = 1";
        let distinct = "SELECT d.k FROM (SELECT DISTINCT k FROM a WHERE k = 3) AS d JOIN a AS s \
                        ON s.k < d.k GROUP BY d.k, s.k HAVING count(DISTINCT s.k) = 1";
        let answers = [with_tables(sql).await, with_tables(distinct).await];
        let right = ["3", "3"];
        assert!(
            answers.iter().any(|answer| *answer != right),
            "DataFusion is right now: the treatment can go"
        );
    }

    #[tokio::test]
    async fn orders_are_left_out() {
        let ctx = SessionContext::new();
        in_session(&ctx, &["CREATE TABLE t (k INT PRIMARY KEY, v INT)"]).await;
        let sql = "SELECT d.k, s.v FROM t AS d JOIN t AS s ON s.k < d.k GROUP BY d.k, s.v ORDER BY d.k, s.v";
        let plan = ctx.sql(sql).await.unwrap().into_optimized_plan().unwrap();
        let sorted = plan.display_indent().to_string();
        assert!(
            !sorted.contains("s.v ASC"),
            "DataFusion is right now: the treatment can go: {sorted}"
        );
    }

    #[tokio::test]
    async fn a_subquery_without_rows_is_not_null() {
        let table = "CREATE TABLE t (id INT NOT NULL) AS VALUES (1)";
        let sql = "SELECT id FROM t WHERE (SELECT 5 FROM t AS u WHERE u.id = 77) IS NOT NULL";
        is_still_wrong(&plain(&[table, sql]).await, &["1"], &[]);
    }

    #[tokio::test]
    async fn a_value_is_cut_to_a_coarser_unit() {
        let table = "CREATE TABLE t (c TIMESTAMP(0)) AS VALUES (TIMESTAMP '2024-01-01T00:00:00')";
        let sql = "SELECT count(*) FROM t WHERE CAST(c AS TIMESTAMP(6)) < \
                   CAST('2024-01-01T00:00:00.001500' AS TIMESTAMP(6))";
        is_still_wrong(&plain(&[table, sql]).await, &["0"], &["1"]);
    }

    #[tokio::test]
    async fn a_sort_merge_join_evaluates_its_filter_on_other_columns() {
        let config = SessionConfig::new().set_bool("datafusion.optimizer.prefer_hash_join", false);
        let ctx = SessionContext::new_with_config(config);
        let tables = "CREATE TABLE l (k INT, x INT, v INT) AS VALUES (1, 1, 5), (2, 9, 5)";
        let sql = "SELECT l.k, l.v, r.k, r.x, r.v FROM l JOIN l AS r ON l.k = r.k AND l.x < r.v";
        let answer = in_session(&ctx, &[tables, sql]).await;
        is_still_wrong(&answer, &[], &["1"]);
    }

    #[tokio::test]
    async fn an_outer_sort_merge_join_fails_on_rows_without_a_partner() {
        let config = SessionConfig::new().set_bool("datafusion.optimizer.prefer_hash_join", false);
        let ctx = SessionContext::new_with_config(config);
        let table = "CREATE TABLE t (k INT, v INT) AS VALUES (1, 1), (2, 9), (3, NULL)";
        in_session(&ctx, &[table]).await;
        let sql = "SELECT * FROM (VALUES (1, 7), (2, 7), (4, 7)) AS s (k, x) \
                   RIGHT JOIN t ON t.k = s.k AND t.v < s.x";
        let failure = ctx.sql(sql).await.unwrap().collect().await.err();
        let message = failure.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            message.contains("declared as non-nullable"),
            "DataFusion is right now: the treatment can go: {message}"
        );
    }

    #[tokio::test]
    async fn of_two_columns_with_one_name_exists_compares_either() {
        let tables = "CREATE TABLE n (id INT) AS VALUES (1), (2), (3)";
        let sql = "SELECT id FROM n WHERE EXISTS (SELECT * FROM n AS l JOIN n AS r \
                   ON l.id < r.id WHERE r.id = n.id)";
        is_still_wrong(&plain(&[tables, sql]).await, &["1", "2"], &["2", "3"]);
    }

    #[tokio::test]
    async fn a_full_sort_merge_join_leaves_out_a_condition_of_no_columns() {
        let config = SessionConfig::new().set_bool("datafusion.optimizer.prefer_hash_join", false);
        let ctx = SessionContext::new_with_config(config);
        let table = "CREATE TABLE t (k INT) AS VALUES (1)";
        let sql = "SELECT r.k FROM t FULL JOIN t AS r ON t.k = r.k AND NULL";
        is_still_wrong(&in_session(&ctx, &[table, sql]).await, &["1"], &["", "1"]);
    }

    #[tokio::test]
    async fn a_piecewise_merge_join_loses_rows_without_a_partner() {
        let setting = "datafusion.optimizer.enable_piecewise_merge_join";
        let ctx = SessionContext::new_with_config(SessionConfig::new().set_bool(setting, true));
        let sql = "SELECT k FROM a LEFT JOIN b ON a.k < b.v";
        let answer = in_session(&ctx, &[TABLES[0], TABLES[1], sql]).await;
        is_still_wrong(&answer, &["1", "2"], &["1", "2", "3"]);
    }

    #[tokio::test]
    async fn a_pushed_predicate_on_a_list_takes_every_row() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("t.parquet");
        let copy = format!(
            "COPY (SELECT column1 AS id, column2 AS u, column3 AS y FROM (VALUES (1, [1], 30), \
             (2, [2], 30), (3, [3], 30))) TO '{}'",
            file.display()
        );
        let read = format!(
            "CREATE EXTERNAL TABLE t (id BIGINT, u BIGINT[], y BIGINT) \
             STORED AS PARQUET LOCATION '{}'",
            file.display()
        );
        let config =
            SessionConfig::new().set_bool("datafusion.execution.parquet.pushdown_filters", true);
        let ctx = SessionContext::new_with_config(config);
        let sql = "SELECT id FROM t WHERE u[1] = 3 OR y IS NULL";
        let answer = in_session(&ctx, &[&copy, &read, sql]).await;
        is_still_wrong(&answer, &["1", "2", "3"], &["3"]);
    }

    #[tokio::test]
    async fn a_limit_takes_back_the_order_of_a_scan() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display();
        let config = SessionConfig::new()
            .with_target_partitions(2)
            .set_bool("datafusion.execution.split_file_groups_by_statistics", true);
        let ctx = SessionContext::new_with_config(config);
        for (name, values) in [("1", "(1), (3)"), ("2", "(4), (6)"), ("3", "(20)")] {
            let copy = format!(
                "COPY (SELECT column1 AS k FROM (VALUES {values})) TO '{place}/{name}.parquet'"
            );
            in_session(&ctx, &[&copy]).await;
        }
        let create = format!(
            "CREATE EXTERNAL TABLE t (k BIGINT) STORED AS PARQUET LOCATION '{place}/' WITH ORDER (k)"
        );
        in_session(&ctx, &[&create]).await;
        let query = ctx.sql("SELECT k FROM t ORDER BY k LIMIT 5").await.unwrap();
        let plan = query.create_physical_plan().await.unwrap();
        assert!(
            takes_files_freely(&plan),
            "DataFusion keeps the order now: the treatment can go"
        );
    }

    /// Whether a scan below promises an order that it does not keep.
    fn takes_files_freely(plan: &Arc<dyn ExecutionPlan>) -> bool {
        let scan = plan
            .downcast_ref::<DataSourceExec>()
            .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>());
        match scan {
            Some(scan) => !scan.output_ordering.is_empty() && !scan.preserve_order,
            None => plan.children().into_iter().any(takes_files_freely),
        }
    }
}
