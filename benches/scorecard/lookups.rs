//! What it costs to find one row by its key, as a table grows: by superfiles that statistics leave out, and by keys in
//! no order, of which only Bloom filters know.

use std::time::Duration;

use datafusion::prelude::SessionContext;
use datafusion_supertable::unstable::dml::SupertableProvider;
use datafusion_supertable::unstable::table::{Effect, Table};
use datafusion_supertable::wait_for_background_work;

use crate::commits::{COLUMNS, committed, entry};
use crate::data::{run, session};
use crate::measure::{Report, time};

const SUPERFILES: u64 = 100;
const ROUNDS: usize = 20;

/// The section.
pub(crate) async fn measure(report: &mut Report, rows: u64) {
    let mut base = None;
    for superfiles in [100_u64, 10_000, 100_000] {
        let [select, delete] = among(superfiles).await;
        let [first_select, first_delete] = *base.get_or_insert([select, delete]);
        let what = format!("point SELECT among {superfiles} superfiles / {SUPERFILES}");
        report.ratio(&what, select, first_select, Some(1.5));
        let what = format!("point DELETE of no row among {superfiles} / {SUPERFILES}");
        report.ratio(&what, delete, first_delete, Some(1.5));
    }
    by_random_key(report, rows).await;
}

/// The best time to find one row among so many superfiles, of which all but one do not exist: statistics leave them out;
/// and to find that there is none to delete.
async fn among(superfiles: u64) -> [Duration; 2] {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    let columns: Vec<String> = (0..COLUMNS).map(|i| format!("c{i} BIGINT")).collect();
    let columns = columns.join(", ");
    let place = dir.path().display();
    let create =
        format!("CREATE EXTERNAL TABLE t ({columns}) STORED AS SUPERTABLE LOCATION '{place}/'");
    run(&ctx, &create).await;
    let values = vec!["-5"; COLUMNS as usize].join(", ");
    run(&ctx, &format!("INSERT INTO t VALUES ({values})")).await;
    let table = table(&ctx, "t").await;
    for from in (1..superfiles).step_by(10_000) {
        let base = table.snapshot().await.unwrap();
        let mutation = table.begin(
            datafusion_supertable::unstable::format::OpKind::Insert,
            base,
            "INSERT".to_owned(),
        );
        let to = superfiles.min(from + 10_000);
        let add = (from..to).map(|n| entry(mutation.ids().superfile().unwrap(), n));
        let effect = Effect {
            rows_inserted: (to - from) * 1_000_000,
            add: add.collect(),
            ..Effect::default()
        };
        committed(mutation.commit(effect).await.unwrap());
    }
    table.settle().await;
    let select = best(&ctx, "SELECT * FROM t WHERE c0 = -5").await;
    let delete = best(&ctx, "DELETE FROM t WHERE c0 = -6").await;
    wait_for_background_work(&ctx).await;
    [select, delete]
}

/// Lookups of rows whose keys say nothing of where they are.
async fn by_random_key(report: &mut Report, rows: u64) {
    let dir = tempfile::tempdir().unwrap();
    let ctx = session();
    let place = dir.path().display();
    for (name, key) in [("keyed", ", PRIMARY KEY (id)"), ("free", "")] {
        run(
            &ctx,
            &format!(
                "CREATE EXTERNAL TABLE {name} (id VARCHAR, v BIGINT, note VARCHAR{key}) \
                 STORED AS SUPERTABLE LOCATION '{place}/{name}/' \
                 OPTIONS ('supertable.write.target_file_rows' '{}')",
                rows / SUPERFILES
            ),
        )
        .await;
        run(
            &ctx,
            &format!(
                "INSERT INTO {name} SELECT md5(CAST(value AS VARCHAR)) AS id, value AS v, \
                 'note ' || CAST(value % 5003 AS VARCHAR) AS note FROM range({rows})"
            ),
        )
        .await;
    }
    let lookup = |table: &str| format!("SELECT * FROM {table} WHERE id = md5('{}')", rows / 3);
    let (cold, ()) = time(run(&ctx, &lookup("keyed"))).await;
    let opened = SUPERFILES - pruned(&ctx, &lookup("keyed")).await;
    report.note("superfiles opened for one of the random keys", opened, "2");
    let with = best(&ctx, &lookup("keyed")).await;
    let without = best(&ctx, &lookup("free")).await;
    report.ratio(
        "lookup of a random key / without a declared key",
        with,
        without,
        None,
    );
    let cold = format!("{:.1} ms", cold.as_secs_f64() * 1000.0);
    report.note("the first such lookup, which reads the filters", cold, "");
    wait_for_background_work(&ctx).await;
}

/// How many superfiles the plan of a query leaves out.
async fn pruned(ctx: &SessionContext, query: &str) -> u64 {
    let plan = ctx
        .sql(query)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    let plan = datafusion::physical_plan::displayable(plan.as_ref())
        .indent(false)
        .to_string();
    let pruned = plan.split("superfiles_pruned=").nth(1).unwrap();
    pruned.split(',').next().unwrap().parse().unwrap()
}

async fn best(ctx: &SessionContext, statement: &str) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(time(run(ctx, statement)).await.0);
    }
    best
}

async fn table(ctx: &SessionContext, name: &str) -> Table {
    let provider = ctx.table_provider(name).await.unwrap();
    let provider = provider.downcast_ref::<SupertableProvider>().unwrap();
    provider.table().clone()
}
