//! A table after many single-row updates with automatic compaction, against one written in one go.

use datafusion_supertable::unstable::dml::SupertableProvider;
use datafusion_supertable::wait_for_background_work;

use crate::data::{count, fill, run, session};
use crate::measure::{Report, best_of, time};

const ROUNDS: usize = 7;
const QUERY: &str = "SELECT grp, count(*), sum(r), avg(amount), max(note) FROM TABLE GROUP BY grp";

/// Statements, each of which updates one row; `SUPERTABLE_BENCH_UPDATES` sets another number.
const UPDATES: u64 = 10_000;

/// The section.
pub(crate) async fn measure(report: &mut Report, rows: u64) {
    let rows = rows.min(1_000_000);
    let updates: u64 = std::env::var("SUPERTABLE_BENCH_UPDATES")
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(UPDATES);
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    fill(&ctx, "t", &dir.path().join("t"), rows).await;
    run(&ctx, "SET supertable.auto_compact = true").await;
    let (took, ()) = time(async {
        for n in 0..updates {
            // Spread over the whole table.
            let id = n.wrapping_mul(7_919) % rows;
            let sql = format!("UPDATE t SET amount = amount + 1 WHERE id = {id}");
            assert_eq!(count(&ctx, &sql).await, 1);
        }
        wait_for_background_work(&ctx).await;
    })
    .await;
    run(&ctx, "SET supertable.auto_compact = false").await;
    let superfiles = superfiles(&ctx, "t").await;
    report.note(
        &format!(
            "superfiles after {updates} single-row updates ({:.0} s)",
            took.as_secs_f64()
        ),
        superfiles,
        "some dozens",
    );
    fill(&ctx, "fresh", &dir.path().join("fresh"), rows).await;
    let ours = QUERY.replace("TABLE", "t");
    let theirs = QUERY.replace("TABLE", "fresh");
    let (a, b) = best_of(ROUNDS, |_| run(&ctx, &ours), |_| run(&ctx, &theirs)).await;
    report.ratio(
        "scan after single-row updates with automatic compaction",
        a,
        b,
        Some(1.20),
    );
    let (took, ()) = time(run(
        &ctx,
        "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0 days')",
    ))
    .await;
    report.note(
        "vacuum of what they left",
        format!("{:.1} s", took.as_secs_f64()),
        "",
    );
    wait_for_background_work(&ctx).await;
}

async fn superfiles(ctx: &datafusion::prelude::SessionContext, table: &str) -> u64 {
    let provider = ctx.table_provider(table).await.unwrap();
    let provider = provider.downcast_ref::<SupertableProvider>().unwrap();
    let snapshot = provider.table().snapshot().await.unwrap();
    snapshot.manifest().totals().superfiles
}
