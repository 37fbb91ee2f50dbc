//! Scans over deleted rows, against plain DataFusion on files that never held them.

use datafusion_supertable::wait_for_background_work;

use crate::data::{count, fill, plain, run, session};
use crate::measure::{Report, best_of};
use crate::writers::{SLOW, slow_session};

const ROUNDS: usize = 7;
const QUERY: &str = "SELECT grp, count(*), sum(r), avg(amount), max(note) FROM TABLE GROUP BY grp";

/// Tombstoned share, the predicate that deletes it, and the promised bound.
const CASES: &[(&str, Option<&str>, f64)] = &[
    ("0 %", None, 1.03),
    ("0.01 % random", Some("r < 100"), 1.10),
    ("1 % random", Some("r < 10000"), 1.10),
    ("10 % random", Some("r < 100000"), 1.40),
    // Live rows and deleted ones in runs of 63.
    ("50 % in short runs", Some("r < 500000"), 1.40),
    (
        "50 % random",
        Some("(id * 2654435761) % 1000003 % 2 = 0"),
        1.40,
    ),
    ("1 % clustered", Some("id < ROWS / 100"), 1.10),
    ("10 % clustered", Some("id < ROWS / 10"), 1.40),
    ("50 % clustered", Some("id < ROWS / 2"), 1.40),
];

async fn run_case(report: &mut Report, rows: u64, name: &str, delete: Option<&str>, bound: f64) {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    let table = dir.path().join("t");
    let live = dir.path().join("live");
    fill(&ctx, "t", &table, rows).await;
    let baseline = match delete {
        None => table.join("superfiles"),
        Some(predicate) => {
            let predicate = predicate.replace("ROWS", &rows.to_string());
            count(&ctx, &format!("DELETE FROM t WHERE {predicate}")).await;
            std::fs::create_dir(&live).unwrap();
            run(
                &ctx,
                &format!(
                    "COPY (SELECT * FROM t) TO '{}/live.parquet'",
                    live.display()
                ),
            )
            .await;
            live
        }
    };
    plain(&ctx, "plain", &baseline).await;
    let ours = QUERY.replace("TABLE", "t");
    let theirs = QUERY.replace("TABLE", "plain");
    let (a, b) = best_of(ROUNDS, |_| run(&ctx, &ours), |_| run(&ctx, &theirs)).await;
    report.ratio(
        &format!("scan, {name} of rows tombstoned"),
        a,
        b,
        Some(bound),
    );
    wait_for_background_work(&ctx).await;
}

/// A table and the same files, on a store that takes its time for each request.
async fn far_away(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("t");
    let near = session();
    fill(&near, "t", &place, rows).await;
    wait_for_background_work(&near).await;
    let ctx = slow_session(&place).await;
    let location = format!("{SLOW}superfiles/");
    run(
        &ctx,
        &format!("CREATE EXTERNAL TABLE plain STORED AS PARQUET LOCATION '{location}'"),
    )
    .await;
    let ours = QUERY.replace("TABLE", "t");
    let theirs = QUERY.replace("TABLE", "plain");
    let (a, b) = best_of(ROUNDS, |_| run(&ctx, &ours), |_| run(&ctx, &theirs)).await;
    report.ratio("scan, store of 50 ms, nothing tombstoned", a, b, None);
    wait_for_background_work(&ctx).await;
}

/// The section.
pub(crate) async fn measure(report: &mut Report, rows: u64) {
    for (name, delete, bound) in CASES {
        run_case(report, rows, name, *delete, *bound).await;
    }
    far_away(report, rows).await;
}
