//! Sessions that were made from another one, in every way that DataFusion has.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider,
};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use datafusion_supertable::{
    Error, ErrorKind, SupertableSessionExt, open_catalog, register_for_queries,
};
use tempfile::TempDir;

use crate::support::sql::{context, number, run, try_show};

/// How a session is made from another one.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// `SessionContext::new_with_state(base.state())`.
    State,
    /// `SessionStateBuilder::new_from_existing(base.state())`.
    Builder,
    /// The same, with another catalog as the default one.
    OtherDefault,
    /// `SessionContext::new_with_config(base.copied_config())`, with the catalogs of the first.
    Config,
    /// A fresh one on the same `RuntimeEnv`, with the catalogs of the first.
    Runtime,
}

const WAYS: [Way; 5] = [
    Way::State,
    Way::Builder,
    Way::OtherDefault,
    Way::Config,
    Way::Runtime,
];

impl Way {
    fn derive(self, base: &SessionContext) -> SessionContext {
        let ctx = match self {
            Self::State => SessionContext::new_with_state(base.state()),
            Self::Builder => {
                let state = SessionStateBuilder::new_from_existing(base.state()).build();
                SessionContext::new_with_state(state)
            }
            Self::OtherDefault => {
                let config = base
                    .copied_config()
                    .with_default_catalog_and_schema("lake", "public");
                let state = SessionStateBuilder::new_from_existing(base.state())
                    .with_config(config)
                    .build();
                SessionContext::new_with_state(state)
            }
            Self::Config => {
                let ctx =
                    SessionContext::new_with_config_rt(base.copied_config(), base.runtime_env());
                share_catalogs(base, &ctx);
                ctx
            }
            Self::Runtime => {
                let config = SessionConfig::new().with_target_partitions(2);
                let ctx = SessionContext::new_with_config_rt(config, base.runtime_env());
                share_catalogs(base, &ctx);
                ctx
            }
        };
        // Where it is registered already this does nothing.
        datafusion_supertable::register(&ctx).unwrap();
        ctx
    }
}

fn share_catalogs(base: &SessionContext, ctx: &SessionContext) {
    ctx.register_catalog_list(Arc::clone(base.state().catalog_list()));
}

/// Runs a statement by this crate's front end.
async fn own(ctx: &SessionContext, sql: &str) -> datafusion::error::Result<()> {
    datafusion_supertable::sql(ctx, sql)
        .await?
        .collect()
        .await?;
    Ok(())
}

/// A session with the table `t` in the catalog `lake`, and the table `e` outside of it.
async fn base(dir: &TempDir) -> SessionContext {
    let ctx = context();
    let root = dir.path().display();
    open_catalog(&ctx, "lake", &format!("{root}/lake/")).unwrap();
    own(
        &ctx,
        "CREATE TABLE lake.public.t (id BIGINT NOT NULL, n BIGINT)",
    )
    .await
    .unwrap();
    let create = format!(
        "CREATE EXTERNAL TABLE datafusion.public.e (id BIGINT NOT NULL, n BIGINT) STORED AS SUPERTABLE \
         LOCATION '{root}/e/'"
    );
    run(&ctx, &create).await.unwrap();
    for table in ["lake.public.t", "datafusion.public.e"] {
        let insert = format!("INSERT INTO {table} VALUES (1, 1), (2, 2), (3, 3)");
        run(&ctx, &insert).await.unwrap();
        let delete = format!("DELETE FROM {table} WHERE id = 3");
        run(&ctx, &delete).await.unwrap();
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
    ctx
}

/// The contents of all files below `dir`, but for the local store's own.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with(".supertable-local") {
            continue;
        }
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => {
                let bytes = std::fs::read(&path).unwrap();
                found.insert(path.display().to_string(), bytes);
            }
        }
    }
    found
}

/// Statements that change something, on the table `{t}`, or in the place `{dir}`.
const CHANGES: [&str; 19] = [
    "INSERT INTO {t} VALUES (9, 9)",
    "INSERT OVERWRITE {t} SELECT * FROM {t}",
    "DELETE FROM {t} WHERE id = 1",
    "DELETE FROM {t} WHERE id = 1 RETURNING *",
    "WITH x AS (SELECT 1 AS id) DELETE FROM {t} WHERE id IN (SELECT id FROM x)",
    "UPDATE {t} SET n = 0 WHERE id = 1",
    "UPDATE {t} SET n = s.b FROM (VALUES (1, 7)) AS s(a, b) WHERE id = s.a",
    "MERGE INTO {t} AS x USING (VALUES (1, 2)) AS s(a, b) ON x.id = s.a WHEN MATCHED THEN DELETE",
    "TRUNCATE TABLE {t}",
    "ALTER TABLE {t} ADD COLUMN x INT",
    "SELECT * FROM supertable_alter('{t}', 'ADD COLUMN x INT')",
    "SELECT * FROM supertable_restore('{t}', 1)",
    "SELECT * FROM supertable_optimize('{t}', full => true)",
    "SELECT * FROM supertable_vacuum('{t}', retain => INTERVAL '0 days')",
    "SELECT * FROM supertable_recover('{t}')",
    "SELECT * FROM supertable_add_files('{t}', '{dir}/none.parquet')",
    "CREATE EXTERNAL TABLE datafusion.public.f (id BIGINT) STORED AS SUPERTABLE LOCATION '{dir}/f/'",
    "PREPARE gone{n}(BIGINT) AS DELETE FROM {t} WHERE id = $1; EXECUTE gone{n}(1)",
    "EXPLAIN ANALYZE DELETE FROM {t} WHERE id = 1",
];

/// The same, of catalogs only.
const CATALOG_CHANGES: [&str; 6] = [
    "ALTER TABLE lake.public.t RENAME TO u",
    "SELECT * FROM supertable_alter('lake.public.t', 'RENAME TO u')",
    "CREATE TABLE lake.public.u (id BIGINT)",
    "CREATE TABLE lake.public.u AS SELECT 1 AS id",
    "CREATE OR REPLACE TABLE lake.public.t AS SELECT * FROM lake.public.t",
    "DROP TABLE lake.public.t",
];

const TABLES: [&str; 2] = ["lake.public.t", "datafusion.public.e"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_derived_session_that_only_reads_changes_nothing_and_its_base_still_does() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let base = base(&dir).await;
        let child = way.derive(&base);
        run(&child, "SET supertable.read_only = true")
            .await
            .unwrap();
        let before = files(dir.path());
        let on_tables = TABLES
            .into_iter()
            .flat_map(|table| CHANGES.map(|sql| sql.replace("{t}", table)));
        let all = on_tables.chain(CATALOG_CHANGES.map(str::to_owned));
        for (number, sql) in all.enumerate() {
            let sql = sql
                .replace("{dir}", &dir.path().display().to_string())
                .replace("{n}", &number.to_string());
            let last = match sql.split_once("; ") {
                Some((first, last)) => {
                    own(&child, first).await.unwrap();
                    last
                }
                None => &sql,
            };
            let error = own(&child, last)
                .await
                .expect_err(&format!("{way:?}: {sql}"));
            let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{way:?}: {sql}: {error}"));
            assert_eq!(ours.kind(), ErrorKind::ReadOnly, "{way:?}: {sql}: {error}");
            // DataFusion's own front end refuses it too, or does nothing.
            let _ = try_show(&child, last).await;
        }
        datafusion_supertable::wait_for_background_work(&child).await;
        assert!(
            files(dir.path()) == before,
            "{way:?}: something was written"
        );
        for table in TABLES {
            let delete = format!("DELETE FROM {table} WHERE id = 1");
            assert_eq!(run(&base, &delete).await.unwrap(), 1, "{way:?}");
            let left = format!("SELECT count(*) FROM {table}");
            assert_eq!(number(&child, &left).await, 1, "{way:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_by_a_catalogs_traits_creates_and_drops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = base(&dir).await;
    let before = files(dir.path());
    for sql in [
        "CREATE TABLE lake.public.u (id BIGINT)",
        "CREATE TABLE lake.public.u AS SELECT 1 AS id",
        "CREATE OR REPLACE TABLE lake.public.t AS SELECT 1 AS id",
    ] {
        let error = run(&ctx, sql).await.unwrap_err();
        let ours = Error::find_in(&error).unwrap_or_else(|| panic!("{sql}: {error}"));
        assert_eq!(ours.kind(), ErrorKind::Unsupported, "{sql}");
        assert!(ours.to_string().contains("datafusion_supertable::sql"));
    }
    run(&ctx, "DROP TABLE lake.public.t").await.unwrap_err();
    assert!(files(dir.path()) == before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_of_making_a_session_from_another_gives_one_that_works() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let base = base(&dir).await;
        let child = way.derive(&base);
        for table in TABLES {
            run(&child, &format!("INSERT INTO {table} VALUES (4, 4)"))
                .await
                .unwrap();
            for (sql, rows) in [
                (
                    "UPDATE {t} SET n = n + 1 WHERE id IN (SELECT max(id) FROM {t})",
                    1,
                ),
                (
                    "DELETE FROM {t} WHERE id NOT IN (SELECT min(id) FROM {t})",
                    2,
                ),
                ("DELETE FROM {t} WHERE 1 = 0", 0),
            ] {
                let sql = sql.replace("{t}", table);
                assert_eq!(run(&child, &sql).await.unwrap(), rows, "{way:?}: {sql}");
            }
            let functions = format!("SELECT count(*) FROM supertable_history('{table}')");
            assert!(number(&child, &functions).await >= 5, "{way:?}");
            // What one has written the other reads.
            let sum = format!("SELECT sum(id) FROM {table}");
            assert_eq!(number(&base, &sum).await, 1, "{way:?}");
        }
        for sql in [
            "SET supertable.expose_row_id = true",
            "SELECT _id(id) FROM lake.public.t",
            "SELECT * FROM supertable_optimize('lake.public.t', dry_run => true)",
            "CREATE TABLE lake.public.u AS SELECT * FROM lake.public.t",
            "ALTER TABLE lake.public.u RENAME TO v",
            "CREATE OR REPLACE TABLE lake.public.v AS SELECT * FROM lake.public.v",
        ] {
            own(&child, sql)
                .await
                .unwrap_or_else(|e| panic!("{way:?}: {sql}: {e}"));
        }
        assert_eq!(number(&base, "SELECT count(*) FROM lake.public.v").await, 1);
        own(&child, "DROP TABLE lake.public.v").await.unwrap();
        assert!(run(&base, "SELECT * FROM lake.public.v").await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_a_copied_configuration_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(&dir).await;
    let child = SessionContext::new_with_config_rt(base.copied_config(), base.runtime_env());
    // Neither a rule nor a catalog.
    for sql in [
        "SELECT * FROM lake.public.t",
        "CREATE TABLE lake.public.u (id BIGINT)",
        "DROP TABLE lake.public.t",
        "SELECT * FROM supertable_history('lake.public.t')",
    ] {
        assert!(own(&child, sql).await.is_err(), "{sql}");
    }
    share_catalogs(&base, &child);
    assert_eq!(
        number(&child, "SELECT count(*) FROM lake.public.t").await,
        2
    );
    let error = run(&child, "DELETE FROM lake.public.t WHERE id = 1").await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("datafusion_supertable::register"), "{error}");
    datafusion_supertable::register(&child).unwrap();
    let gone = run(&child, "DELETE FROM lake.public.t WHERE id = 1").await;
    assert_eq!(gone.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_outlives_the_session_that_opened_it() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        let base = base(&dir).await;
        let child = way.derive(&base);
        drop(base);
        own(
            &child,
            "CREATE TABLE lake.public.u (id BIGINT DEFAULT 7, n BIGINT)",
        )
        .await
        .unwrap();
        let insert = "INSERT INTO lake.public.u (n) VALUES (1)";
        assert_eq!(run(&child, insert).await.unwrap(), 1, "{way:?}");
        let sql = "SELECT sum(id) FROM lake.public.u";
        assert_eq!(number(&child, sql).await, 7, "{way:?}");
        own(&child, "DROP TABLE lake.public.u").await.unwrap();
        assert_eq!(
            number(&child, "SELECT count(*) FROM lake.public.t").await,
            2
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_holds_a_catalog_when_its_sessions_have_ended() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = base(&dir).await;
    let list = Arc::downgrade(ctx.state().catalog_list());
    let child = Way::Config.derive(&ctx);
    drop(ctx);
    assert!(list.upgrade().is_some());
    drop(child);
    assert!(list.upgrade().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalog_that_is_another_sessions_default_stays_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(&dir).await;
    for _ in 0..2 {
        let child = Way::OtherDefault.derive(&base);
        assert_eq!(number(&child, "SELECT count(*) FROM t").await, 2);
        own(&child, "CREATE TABLE u AS SELECT * FROM t")
            .await
            .unwrap();
        assert_eq!(number(&base, "SELECT count(*) FROM lake.public.u").await, 2);
        own(&child, "DROP TABLE u").await.unwrap();
    }
    // What is no accident happens.
    let other = Arc::new(MemoryCatalogProvider::new());
    let schema = Arc::new(MemorySchemaProvider::new());
    let table = base.table_provider("lake.public.t").await.unwrap();
    schema.register_table("mine".into(), table).unwrap();
    other.register_schema("public", schema).unwrap();
    base.register_catalog("lake", other);
    assert_eq!(
        number(&base, "SELECT count(*) FROM lake.public.mine").await,
        2
    );
    assert!(run(&base, "SELECT * FROM lake.public.t").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_of_one_request_each_work_side_by_side() {
    const REQUESTS: usize = 24;
    let dir = tempfile::tempdir().unwrap();
    let base = base(&dir).await;
    let mut requests = tokio::task::JoinSet::new();
    for request in 0..REQUESTS {
        let base = base.clone();
        requests.spawn(async move {
            let child = WAYS[request % WAYS.len()].derive(&base);
            let id = 100 + request;
            let insert = format!("INSERT INTO lake.public.t VALUES ({id}, 0)");
            assert_eq!(run(&child, &insert).await.unwrap(), 1);
            let update = format!("UPDATE lake.public.t SET n = {id} WHERE id = {id}");
            assert_eq!(run(&child, &update).await.unwrap(), 1);
            let found = format!("SELECT n FROM lake.public.t WHERE id = {id}");
            assert_eq!(number(&child, &found).await, id as i64);
        });
    }
    while let Some(done) = requests.join_next().await {
        done.unwrap();
    }
    let count = "SELECT count(*) FROM lake.public.t";
    assert_eq!(number(&base, count).await, 2 + REQUESTS as i64);
}

/// Calls of functions that change something, and a statement that is one.
const CALLS: [&str; 7] = [
    "SELECT * FROM supertable_restore('lake.public.t', 1)",
    "SELECT * FROM supertable_alter('lake.public.t', 'ADD COLUMN x INT')",
    "SELECT * FROM supertable_vacuum('lake.public.t', retain => INTERVAL '0 days')",
    "SELECT * FROM supertable_optimize('lake.public.t', full => true)",
    "SELECT * FROM supertable_recover('lake.public.t')",
    "SELECT * FROM supertable_add_files('lake.public.t', '/none/')",
    "WITH x AS (SELECT * FROM supertable_restore('lake.public.t', 1)) SELECT (SELECT max(version) FROM x)",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_registered_for_queries_has_no_function_that_changes_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(&dir).await;
    let before = files(dir.path());
    let builder = SessionStateBuilder::new().with_default_features();
    let built = SessionContext::new_with_state(builder.with_supertable_for_queries().build());
    share_catalogs(&base, &built);
    let mut sessions = vec![built];
    for way in WAYS {
        let child = way.derive(&base);
        register_for_queries(&child).unwrap();
        // And what is made of it; registering it does not bring them back.
        sessions.push(Way::Builder.derive(&child));
        sessions.push(child);
    }
    let queries = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    for ctx in &sessions {
        for sql in CALLS {
            let refused = match ctx.sql_with_options(sql, queries).await {
                Ok(frame) => frame.collect().await.map(drop),
                Err(error) => Err(error),
            };
            assert_read_only(&refused.unwrap_err(), sql);
            assert_read_only(&own(ctx, sql).await.unwrap_err(), sql);
        }
        let alter = "ALTER TABLE lake.public.t ADD COLUMN x INT";
        assert_read_only(&own(ctx, alter).await.unwrap_err(), alter);
        let query = "SELECT count(*) FROM supertable_history('lake.public.t') AS h, lake.public.t";
        assert_eq!(number(ctx, query).await, 6);
    }
    datafusion_supertable::wait_for_background_work(&base).await;
    assert!(files(dir.path()) == before);
    // The session that they were made from still has them.
    own(&base, CALLS[0]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_that_forbid_changes_forbid_the_functions_too() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = base(&dir).await;
    let before = files(dir.path());
    let all = SQLOptions::new();
    let run = async |sql: &str, options| {
        let frame = datafusion_supertable::sql_with_options(&ctx, sql, options).await?;
        frame.collect().await
    };
    for options in [all.with_allow_ddl(false), all.with_allow_dml(false)] {
        for sql in CALLS {
            assert_read_only(&run(sql, options).await.unwrap_err(), sql);
        }
        let alter = "ALTER TABLE lake.public.t ADD COLUMN x INT";
        assert_read_only(&run(alter, options).await.unwrap_err(), alter);
        run("SELECT * FROM lake.public.t", options).await.unwrap();
    }
    for sql in [
        "DELETE FROM lake.public.t",
        "DELETE FROM lake.public.t RETURNING *",
        "EXPLAIN ANALYZE DELETE FROM lake.public.t RETURNING *",
        "UPDATE lake.public.t SET n = s.id FROM lake.public.t AS s",
    ] {
        let error = run(sql, all.with_allow_dml(false)).await.unwrap_err();
        assert!(
            error.to_string().contains("DML not supported"),
            "{sql}: {error}"
        );
    }
    for sql in [
        "CREATE TABLE lake.public.u (id INT)",
        "DROP TABLE lake.public.t",
        "CREATE OR REPLACE TABLE lake.public.t AS SELECT 1",
    ] {
        let error = run(sql, all.with_allow_ddl(false)).await.unwrap_err();
        assert!(
            error.to_string().contains("DDL not supported"),
            "{sql}: {error}"
        );
    }
    let prepare = "PREPARE p AS DELETE FROM lake.public.t";
    assert!(
        run(prepare, all.with_allow_statements(false))
            .await
            .is_err()
    );
    assert!(files(dir.path()) == before);
    run("DELETE FROM lake.public.t", all).await.unwrap();
    run(CALLS[1], all).await.unwrap();
}

fn assert_read_only(error: &datafusion::error::DataFusionError, sql: &str) {
    let ours = Error::find_in(error).unwrap_or_else(|| panic!("{sql}: {error}"));
    assert_eq!(ours.kind(), ErrorKind::ReadOnly, "{sql}: {error}");
}
