//! Whoever calls can tell errors apart by their kind.

use datafusion::prelude::SessionContext;
use datafusion_supertable::{Error, ErrorKind};
use tempfile::TempDir;

use crate::support::sql::{context, run_own as run};

async fn kind(ctx: &SessionContext, sql: &str) -> ErrorKind {
    let error = run(ctx, sql).await.expect_err(sql);
    Error::find_in(&error)
        .unwrap_or_else(|| panic!("{sql}: {error:?}"))
        .kind()
}

async fn table(dir: &TempDir) -> SessionContext {
    let ctx = context();
    datafusion_supertable::register(&ctx).unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR) STORED AS SUPERTABLE LOCATION '{}/t/'",
        dir.path().display()
    );
    run(&ctx, &create).await.unwrap();
    run(
        &ctx,
        "INSERT INTO t SELECT value, 'v' || value FROM range(0, 1000)",
    )
    .await
    .unwrap();
    ctx
}

#[tokio::test]
async fn the_arguments_of_a_function_are_invalid_and_its_table_is_not_found() {
    let dir = TempDir::new().unwrap();
    let ctx = table(&dir).await;
    for call in [
        "supertable_history()",
        "supertable_history(t)",
        "supertable_history(7)",
        "supertable_history('t', 1)",
        "supertable_files('t', nonsense => 1)",
        "supertable_at('t')",
        "supertable_at('t', 1, version => 1)",
        "supertable_at('t', NULL)",
        "supertable_at('t', 'no time')",
        "supertable_restore('t')",
        "supertable_changes('t', from => random())",
        "supertable_vacuum('t', dry_run => 3)",
        "supertable_vacuum('t', retain => INTERVAL '1 month')",
        "supertable_optimize('t', target_rows => 0)",
        "supertable_optimize('t', order => 'id', full => false)",
        "supertable_optimize('t', order => 'id', deleted_percent => 3)",
        "supertable_optimize('t', order => 'spiral(id, v)')",
        "supertable_optimize('t', order => 'zorder(id, nothing)')",
        "supertable_add_files('t')",
        "supertable_alter('t', 'ADD COLUMN')",
    ] {
        let sql = format!("SELECT * FROM {call}");
        assert_eq!(kind(&ctx, &sql).await, ErrorKind::InvalidArgument, "{sql}");
    }
    for function in [
        "history",
        "files",
        "properties",
        "wal",
        "recover",
        "vacuum",
        "optimize",
    ] {
        let sql = format!("SELECT * FROM supertable_{function}('nowhere')");
        assert_eq!(kind(&ctx, &sql).await, ErrorKind::NotFound, "{sql}");
    }
    for sql in [
        "SELECT * FROM supertable_at('nowhere', 1)",
        "SELECT * FROM supertable_at('t', 99)",
        "SELECT * FROM supertable_changes('nowhere', 1)",
        "SELECT * FROM supertable_restore('nowhere', 1)",
        "SELECT * FROM supertable_restore('t', 99)",
        "SELECT * FROM supertable_alter('nowhere', 'ADD COLUMN x INT')",
        "ALTER TABLE nowhere ADD COLUMN x INT",
        "DELETE FROM nowhere AS x",
        "DELETE FROM nowhere RETURNING *",
    ] {
        assert_eq!(kind(&ctx, sql).await, ErrorKind::NotFound, "{sql}");
    }
}

#[tokio::test]
async fn a_superfile_that_is_missing_is_not_found_whoever_reads_it() {
    let dir = TempDir::new().unwrap();
    let ctx = table(&dir).await;
    let superfiles = dir.path().join("t/superfiles");
    for known in [true, false] {
        // Also where its footer is in memory already.
        if known {
            run(&ctx, "SELECT * FROM t WHERE v = 'v7'").await.unwrap();
        }
        let fresh = context();
        datafusion_supertable::register(&fresh).unwrap();
        let open = format!(
            "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{}/t/'",
            dir.path().display()
        );
        run(&fresh, &open).await.unwrap();
        let ctx = if known { &ctx } else { &fresh };
        let away = dir.path().join("away");
        std::fs::rename(&superfiles, &away).unwrap();
        for sql in [
            "SELECT * FROM t",
            "SELECT count(*) FROM t WHERE v LIKE '%7'",
            "SELECT * FROM t ORDER BY id LIMIT 1",
            "DELETE FROM t WHERE v LIKE '%7'",
            "UPDATE t SET v = 'x' WHERE id > 10",
            "SELECT * FROM supertable_at('t', 2)",
            "SELECT * FROM supertable_changes('t', 1)",
        ] {
            assert_eq!(kind(ctx, sql).await, ErrorKind::NotFound, "{known}: {sql}");
        }
        std::fs::rename(&away, &superfiles).unwrap();
        run(ctx, "SELECT * FROM t").await.unwrap();
    }
}
