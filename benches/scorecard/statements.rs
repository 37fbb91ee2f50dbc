//! Statements that change rows, against the plain query that reads the same rows.

use datafusion_supertable::wait_for_background_work;

use crate::data::{bounded, count, fill, plain, run, session};
use crate::measure::{Report, best_of, time};

const ROUNDS: usize = 5;

/// The section.
pub(crate) async fn measure(report: &mut Report, rows: u64) {
    inserts(report, rows).await;
    deletes(report, rows).await;
    updates(report, rows).await;
    merges(report, rows).await;
    points(report, rows).await;
}

async fn inserts(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    fill(&ctx, "source", &dir.path().join("source"), rows).await;
    plain(&ctx, "src", &dir.path().join("source/superfiles")).await;
    let (ours, copy) = best_of(
        3,
        |round| {
            let (ctx, dir) = (ctx.clone(), dir.path().join(format!("ours{round}")));
            async move {
                let name = format!("ours{round}");
                run(
                    &ctx,
                    &format!(
                        "CREATE EXTERNAL TABLE {name} ({}) STORED AS SUPERTABLE LOCATION '{}/'",
                        crate::data::COLUMNS,
                        dir.display()
                    ),
                )
                .await;
                run(&ctx, &format!("INSERT INTO {name} SELECT * FROM src")).await;
            }
        },
        |round| {
            let (ctx, dir) = (ctx.clone(), dir.path().join(format!("copy{round}.parquet")));
            async move {
                run(
                    &ctx,
                    &format!("COPY (SELECT * FROM src) TO '{}'", dir.display()),
                )
                .await
            }
        },
    )
    .await;
    report.ratio("INSERT … SELECT of all rows / COPY", ours, copy, Some(1.15));
    wait_for_background_work(&ctx).await;
}

async fn deletes(report: &mut Report, rows: u64) {
    for (name, width, rounds) in [("1 %", 10_000_u64, ROUNDS), ("30 %", 300_000, 3)] {
        let dir = tempfile::tempdir().unwrap();
        let ctx = session();
        fill(&ctx, "t", &dir.path().join("t"), rows).await;
        plain(&ctx, "p", &dir.path().join("t/superfiles")).await;
        let predicate = |round: usize| {
            let from = round as u64 * width;
            format!("r >= {from} AND r < {}", from + width)
        };
        let (ours, select) = best_of(
            rounds,
            |round| {
                let (ctx, sql) = (
                    ctx.clone(),
                    format!("DELETE FROM t WHERE {}", predicate(round)),
                );
                async move { count(&ctx, &sql).await }
            },
            |round| {
                let sql = format!("SELECT count(*) FROM p WHERE {}", predicate(round));
                let ctx = ctx.clone();
                async move { count(&ctx, &sql).await }
            },
        )
        .await;
        report.ratio(
            &format!("DELETE of {name} / SELECT count(*)"),
            ours,
            select,
            Some(1.3),
        );
        wait_for_background_work(&ctx).await;
    }
}

async fn updates(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    fill(&ctx, "t", &dir.path().join("t"), rows).await;
    plain(&ctx, "p", &dir.path().join("t/superfiles")).await;
    // The plain table must not see what the updates write: name its one file.
    let root = dir.path().to_path_buf();
    let (ours, copy) = best_of(
        ROUNDS,
        |round| {
            let (ctx, from) = (ctx.clone(), round as u64 * 10_000);
            async move {
                count(
                    &ctx,
                    &format!(
                        "UPDATE t SET amount = amount + 1 WHERE r >= {from} AND r < {}",
                        from + 10_000
                    ),
                )
                .await
            }
        },
        |round| {
            let (ctx, from) = (ctx.clone(), round as u64 * 10_000);
            let to = root.join(format!("c{round}.parquet"));
            async move {
                run(
                    &ctx,
                    &format!(
                        "COPY (SELECT id, r, grp, amount + 1 AS amount, note, at FROM p \
                         WHERE r >= {from} AND r < {}) TO '{}'",
                        from + 10_000,
                        to.display()
                    ),
                )
                .await
            }
        },
    )
    .await;
    report.ratio("UPDATE of 1 % / COPY (SELECT …)", ours, copy, Some(1.5));
    wait_for_background_work(&ctx).await;
}

/// A source of neighbouring keys, and one of keys all over, with and without a bound on memory.
async fn merges(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let free = session();
    fill(&free, "t", &dir.path().join("t"), rows).await;
    let bounded = bounded(512 << 20);
    run(
        &bounded,
        &format!(
            "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{}/'",
            dir.path().join("t").display()
        ),
    )
    .await;
    let merge = |source: String| {
        format!(
            "MERGE INTO t USING ({source}) AS s ON t.id = s.k WHEN MATCHED THEN UPDATE SET amount = s.v \
             WHEN NOT MATCHED THEN INSERT (id, amount) VALUES (s.k, s.v)"
        )
    };
    for (name, ctx) in [("", &free), (", 512 MB", &bounded)] {
        // Reading the same rows, known by literals.
        let (ours, between) = best_of(
            ROUNDS,
            |round| {
                let from = (round as u64 + 1) * rows / 10;
                let to = from + 1000;
                let sql = merge(format!(
                    "SELECT value AS k, 1.5 AS v FROM range({from}, {to})"
                ));
                async move { count(ctx, &sql).await }
            },
            |round| {
                let from = (round as u64 + 1) * rows / 10;
                let sql = format!(
                    "UPDATE t SET amount = 2.5 WHERE id >= {from} AND id < {}",
                    from + 1000
                );
                async move { count(ctx, &sql).await }
            },
        )
        .await;
        report.ratio(
            &format!("MERGE of 1,000 neighbouring keys{name} / UPDATE"),
            ours,
            between,
            Some(1.3),
        );
    }
    let scattered = format!(
        "SELECT (value * 7919) % {rows} AS k, 1.5 AS v FROM range(0, {})",
        rows / 100
    );
    let join = format!("SELECT count(*) FROM t JOIN ({scattered}) AS s ON t.id = s.k");
    for (name, ctx) in [("", &free), (", 512 MB", &bounded)] {
        let (ours, joined) = best_of(
            3,
            |_| {
                let sql = merge(scattered.clone());
                async move { count(ctx, &sql).await }
            },
            |_| {
                let sql = join.clone();
                async move { count(ctx, &sql).await }
            },
        )
        .await;
        report.ratio(
            &format!("MERGE of 1 % random keys{name} / count(*) of the join"),
            ours,
            joined,
            Some(1.3),
        );
    }
    wait_for_background_work(&free).await;
    wait_for_background_work(&bounded).await;
}

async fn points(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    fill(&ctx, "t", &dir.path().join("t"), rows).await;
    count(&ctx, "DELETE FROM t WHERE id = 1").await;
    let mut best = std::time::Duration::MAX;
    for i in 1..30_u64 {
        let id = i * rows / 31;
        let (took, deleted) = time(count(&ctx, &format!("DELETE FROM t WHERE id = {id}"))).await;
        assert_eq!(deleted, 1);
        best = best.min(took);
    }
    report.note(
        "point DELETE by sorted key, best of 29",
        format!("{best:?}"),
        "5 ms + syncs",
    );
    let mut best = std::time::Duration::MAX;
    for i in 1..30_u64 {
        let id = i * rows / 31 + 1;
        let (took, updated) = time(count(
            &ctx,
            &format!("UPDATE t SET amount = 0 WHERE id = {id}"),
        ))
        .await;
        assert_eq!(updated, 1);
        best = best.min(took);
    }
    report.note(
        "point UPDATE by sorted key, best of 29",
        format!("{best:?}"),
        "",
    );
    wait_for_background_work(&ctx).await;
}
