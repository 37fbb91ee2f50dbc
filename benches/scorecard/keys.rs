//! What a declared key costs, against the same statement on a table without one.

use datafusion::prelude::SessionContext;
use datafusion_supertable::wait_for_background_work;

use crate::data::{COLUMNS, count, run, session};
use crate::measure::{Report, best_of};

const ROUNDS: usize = 3;

/// The section: a tenth of the rows comes to those that are there.
pub(crate) async fn measure(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    let place = |name: &str| format!("{}/{name}/", dir.path().display());
    for (name, key) in [("keyed", ", PRIMARY KEY (id)"), ("free", "")] {
        let create = format!(
            "CREATE EXTERNAL TABLE {name} ({COLUMNS}{key}) STORED AS SUPERTABLE LOCATION '{}'",
            place(name)
        );
        run(&ctx, &create).await;
    }
    // Even ids, so that there is room between them.
    let (first, _) = both(&ctx, |_| rows_of("2 * value", 0, rows), 1).await;
    println!("{first:?} for the first rows");
    let part = rows / 10;
    let ascending = |round: usize| {
        let from = 2 * rows + round as u64 * part;
        rows_of("value", from, from + part)
    };
    let (ours, free) = both(&ctx, ascending, ROUNDS).await;
    let what = "INSERT of 10 % with a key, ascending / without";
    report.ratio(what, ours, free, Some(1.1));
    let random = |round: usize| {
        let from = round as u64 * part;
        let id = format!("((value * 7919) % {rows}) * 2 + 1");
        rows_of(&id, from, from + part)
    };
    let (ours, free) = both(&ctx, random, ROUNDS).await;
    let what = "INSERT of 10 % with a key, random / without";
    report.ratio(what, ours, free, Some(2.0));
    let one = |round: usize| {
        let from = part * ROUNDS as u64 + round as u64;
        let id = format!("((value * 7919) % {rows}) * 2 + 1");
        rows_of(&id, from, from + 1)
    };
    let (ours, free) = both(&ctx, one, 15).await;
    report.ratio("INSERT of one row with a key / without", ours, free, None);
    let (ours, distinct) = best_of(
        ROUNDS,
        |_| {
            let ctx = ctx.clone();
            async move {
                let alter = "SELECT * FROM supertable_alter('free', 'ADD PRIMARY KEY (id)')";
                run(&ctx, alter).await;
                let alter = "SELECT * FROM supertable_alter('free', 'DROP PRIMARY KEY')";
                run(&ctx, alter).await;
            }
        },
        |_| {
            let ctx = ctx.clone();
            async move {
                count(&ctx, "SELECT count(DISTINCT id) FROM free").await;
            }
        },
    )
    .await;
    let what = "ADD and DROP PRIMARY KEY / count(DISTINCT id)";
    report.ratio(what, ours, distinct, None);
    wait_for_background_work(&ctx).await;
}

fn rows_of(id: &str, from: u64, to: u64) -> String {
    format!(
        "SELECT {id} AS id, (value * 7919) % 1000000 AS r, CAST(value % 97 AS INT) AS grp, \
         CAST(value % 1009 AS DOUBLE) / 8 AS amount, 'note ' || CAST(value % 5003 AS VARCHAR) AS note, \
         to_timestamp_nanos(value * 1000000000) AS at FROM range({from}, {to})"
    )
}

/// Best times of an INSERT into the table with a key, and into the other one.
async fn both(
    ctx: &SessionContext,
    rows: impl Fn(usize) -> String,
    rounds: usize,
) -> (std::time::Duration, std::time::Duration) {
    let insert = |table: &str, round| {
        let sql = format!("INSERT INTO {table} {}", rows(round));
        let ctx = ctx.clone();
        async move { count(&ctx, &sql).await }
    };
    best_of(
        rounds,
        |round| insert("keyed", round),
        |round| insert("free", round),
    )
    .await
}
