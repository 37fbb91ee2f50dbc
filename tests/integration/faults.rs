//! Statements through a session whose store lies, against a model of the table.
//!
//! The store is a client of a real server on a connection that drops answers, refuses, delays, cuts off and garbles,
//! at random by a seed, with the client's own retries on top. A statement that is acknowledged happened, once,
//! and counts what it should; one that fails, with an error that has a type, happened wholly or not at all, and what
//! has become of it does not change any more. A query answers what is there, or fails. A session without lies is
//! the judge.
//!
//! `SUPERTABLE_TEST_SEEDS=20` runs so many seeds; `SUPERTABLE_TEST_SEED=7` only this one.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::prelude::SessionContext;
use datafusion_supertable::Error;
use object_store::ObjectStore;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use url::Url;

use crate::support::cloud::{Cloud, quick_retries};
use crate::support::lying_http::LyingConnector;
use crate::support::session::{Session, Time, on_one_thread};
use crate::support::sql::context;

const STATEMENTS: usize = 24;
/// One request in so many meets a lie, with every other seed.
const EVERY: [u32; 2] = [4, 9];
const SEEDS: &str = "SUPERTABLE_TEST_SEEDS";
const SEED: &str = "SUPERTABLE_TEST_SEED";
const RECOVER: &str = "SELECT wal_id, action, detail FROM supertable_recover('t')";

type Rows = BTreeMap<i64, i64>;

/// A statement, what it makes of the rows, and how many it says it affected; none if it does not say.
struct Statement {
    sql: String,
    after: Rows,
    count: Option<u64>,
}

impl Statement {
    fn random(rng: &mut StdRng, before: &Rows, fresh: &mut i64) -> Self {
        let mut after = before.clone();
        let modulus = rng.random_range(2..6);
        let rest = rng.random_range(0..modulus);
        let hit = |id: &i64| id % modulus == rest;
        let (sql, count) = match rng.random_range(0..12) {
            0..3 => {
                let first = *fresh;
                *fresh += rng.random_range(1..9);
                after.extend((first..*fresh).map(|id| (id, id * 3)));
                let sql = format!(
                    "INSERT INTO t SELECT value, value * 3 FROM generate_series({first}, {}) AS g(value)",
                    *fresh - 1
                );
                (sql, Some((*fresh - first) as u64))
            }
            3..6 => {
                let mut count = 0;
                for (_, n) in after.iter_mut().filter(|(id, _)| hit(id)) {
                    *n += 1;
                    count += 1;
                }
                let sql = format!("UPDATE t SET n = n + 1 WHERE id % {modulus} = {rest}");
                (sql, Some(count))
            }
            6 | 7 => {
                let most = *fresh - 8;
                after.retain(|id, _| !(hit(id) && *id < most));
                let sql = format!("DELETE FROM t WHERE id % {modulus} = {rest} AND id < {most}");
                (sql, Some((before.len() - after.len()) as u64))
            }
            8 | 9 => {
                let (first, last) = (*fresh - 5, *fresh + 2);
                *fresh = last + 1;
                for id in first..=last {
                    *after.entry(id).or_insert(-1) += 1;
                }
                let sql = format!(
                    "MERGE INTO t USING (SELECT value AS id FROM generate_series({first}, {last}) AS g(value)) AS s \
                     ON t.id = s.id WHEN MATCHED THEN UPDATE SET n = t.n + 1 \
                     WHEN NOT MATCHED THEN INSERT (id, n) VALUES (s.id, 0)"
                );
                (sql, Some((last - first + 1) as u64))
            }
            10 => ("SELECT * FROM supertable_optimize('t')".to_owned(), None),
            _ => {
                let sql = "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0 days')";
                (sql.to_owned(), None)
            }
        };
        Self { sql, after, count }
    }
}

/// Runs a statement; the count that it answers, if it answers one.
async fn run(ctx: &SessionContext, sql: &str) -> Result<Option<u64>> {
    let batches = ctx.sql(sql).await?.collect().await?;
    Ok(batches
        .first()
        .filter(|batch| batch.num_columns() == 1 && batch.num_rows() == 1)
        .and_then(|batch| batch.column(0).as_primitive_opt::<UInt64Type>())
        .map(|count| count.value(0)))
}

async fn rows(ctx: &SessionContext) -> Result<Rows> {
    let batches = ctx.sql("SELECT id, n FROM t").await?.collect().await?;
    let mut rows = Rows::new();
    for batch in batches {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let ns = batch.column(1).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let before = rows.insert(ids.value(row), ns.value(row));
            assert_eq!(before, None, "row {} is there twice", ids.value(row));
        }
    }
    Ok(rows)
}

/// An error of ours, of the store or of the Parquet reader: not a broken assumption of the engine.
fn assert_typed(sql: &str, error: &DataFusionError) {
    let ours = Error::find_in(error).is_some();
    let root = error.find_root();
    let theirs = matches!(
        root,
        DataFusionError::ObjectStore(_)
            | DataFusionError::ParquetError(_)
            | DataFusionError::External(_)
    );
    assert!(ours || theirs, "{sql}: {root:?}");
}

async fn open(url: &str, store: Arc<dyn ObjectStore>, time: Time) -> Session {
    let ctx = context();
    ctx.register_object_store(&Url::parse(url).unwrap(), store);
    Session::open(ctx, url, time).await
}

#[derive(Default)]
struct Tally {
    acknowledged: usize,
    failed_and_happened: usize,
    failed: usize,
    queries_failed: usize,
}

async fn statements_under_faults(cloud: Cloud, seed: u64) -> Tally {
    let endpoint = cloud.endpoint().await;
    let url = cloud.url(&format!("faults/{}", uuid::Uuid::new_v4().simple()));
    let honest = cloud.client(endpoint);
    {
        let ctx = context();
        ctx.register_object_store(&Url::parse(&url).unwrap(), Arc::clone(&honest));
        let session = Session::bare(ctx);
        session
            .run(&format!(
                "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, n BIGINT NOT NULL) STORED AS SUPERTABLE LOCATION '{url}'"
            ))
            .await;
        session.settle().await;
    }
    let judge = open(&url, Arc::clone(&honest), Time::Now).await;
    let connector = LyingConnector::at_random(seed, EVERY[seed as usize % 2]);
    let store = cloud.lying(endpoint, quick_retries(2), &connector);
    let lying = context();
    lying.register_object_store(&Url::parse(&url).unwrap(), store);
    datafusion_supertable::register(&lying).unwrap();
    let create = format!("CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{url}'");
    while let Err(error) = run(&lying, &create).await {
        assert_typed(&create, &error);
    }

    let mut rng = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    let mut model = Rows::new();
    let mut fresh = 1;
    for _ in 0..STATEMENTS {
        let statement = Statement::random(&mut rng, &model, &mut fresh);
        let sql = &statement.sql;
        match run(&lying, sql).await {
            Ok(count) => {
                assert!(
                    statement.count.is_none() || count == statement.count,
                    "{sql}: {count:?}"
                );
                model = statement.after;
                tally.acknowledged += 1;
                assert_eq!(rows(&judge.ctx).await.unwrap(), model, "after {sql}");
            }
            Err(error) => {
                assert_typed(sql, &error);
                // What it has left behind is ended by anyone who comes.
                datafusion_supertable::wait_for_background_work(&lying).await;
                judge.run(RECOVER).await;
                let found = rows(&judge.ctx).await.unwrap();
                let happened = found == statement.after;
                assert!(
                    happened || found == model,
                    "in part: {sql}: {error}: {found:?}, not {model:?}"
                );
                tally.failed_and_happened += usize::from(happened && found != model);
                tally.failed += 1;
                model = found;
            }
        }
        match rows(&lying).await {
            Ok(found) => assert_eq!(found, model, "the lying session, after {sql}"),
            Err(error) => {
                assert_typed("SELECT", &error);
                tally.queries_failed += 1;
            }
        }
    }
    datafusion_supertable::wait_for_background_work(&lying).await;
    judge.settle().await;

    // By the clock of those for whom all that was left is dead, nothing changes, and nothing stays.
    let later = open(&url, Arc::clone(&honest), Time::Later(60)).await;
    later.run(RECOVER).await;
    later.settle().await;
    assert_eq!(later.run(RECOVER).await, "", "left for a second recovery");
    assert_eq!(rows(&later.ctx).await.unwrap(), model, "at the end");
    println!("{cloud:?}, seed {seed}: {:?}", connector.told());
    tally
}

fn seeds() -> Vec<u64> {
    if let Ok(seed) = std::env::var(SEED) {
        return vec![seed.parse().unwrap()];
    }
    let seeds = std::env::var(SEEDS).map_or(2, |seeds| seeds.parse().unwrap());
    (1..=seeds).collect()
}

fn every_seed(cloud: Cloud) {
    let mut all = Tally::default();
    for seed in seeds() {
        println!("{cloud:?}: {SEED}={seed}");
        let tally = on_one_thread(|| statements_under_faults(cloud, seed)).unwrap();
        all.acknowledged += tally.acknowledged;
        all.failed += tally.failed;
        all.failed_and_happened += tally.failed_and_happened;
        all.queries_failed += tally.queries_failed;
    }
    println!(
        "{cloud:?}: {} statements acknowledged, {} failed, {} of which happened; {} queries failed",
        all.acknowledged, all.failed, all.failed_and_happened, all.queries_failed
    );
    assert!(all.acknowledged > all.failed && all.failed > 0);
}

#[test]
fn statements_on_an_s3_server_that_lies_happen_once_or_not_at_all() {
    every_seed(Cloud::S3);
}

#[test]
fn statements_on_an_azure_server_that_lies_happen_once_or_not_at_all() {
    every_seed(Cloud::Azure);
}

#[test]
fn statements_on_a_gcs_server_that_lies_happen_once_or_not_at_all() {
    every_seed(Cloud::Gcs);
}
