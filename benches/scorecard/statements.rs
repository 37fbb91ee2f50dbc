//! Statements that change rows, against the plain query that reads the same rows.

use datafusion_supertable::wait_for_background_work;

use crate::data::{count, fill, plain, run, session};
use crate::measure::{Report, best_of, time};

const ROUNDS: usize = 5;

/// The section.
pub(crate) async fn measure(report: &mut Report, rows: u64) {
    inserts(report, rows).await;
    deletes(report, rows).await;
    updates(report, rows).await;
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
