//! Sessions on a table in a local directory, each as a process of its own would have it.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::TimeDelta;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::common::Result;
use datafusion::prelude::SessionContext;
use datafusion_supertable::open_catalog;
use datafusion_supertable::unstable::dml::Opaque;
use datafusion_supertable::unstable::dml::{Conditions, DeclaredKeys};
use datafusion_supertable::unstable::dml::{SupertableProvider, TableAccess};
use datafusion_supertable::unstable::format::paths;
use datafusion_supertable::unstable::scan::session_schema;
use datafusion_supertable::unstable::sql::resolve;
use datafusion_supertable::unstable::table::{Limits, Snapshot, Table};
use datafusion_supertable::unstable::wal::Env;
use datafusion_supertable::unstable::wal::ManualClock;

use super::sql::context;

/// What a session makes of statements that others began.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Time {
    /// It waits for a lease of the usual length before it undoes one.
    Now,
    /// It hardly waits, because all others are dead; and its clock is so many minutes ahead, so that all that they
    /// left is old.
    Later(u32),
}

/// A session, mostly with a table `t`.
pub(crate) struct Session {
    pub ctx: SessionContext,
    /// The table, unless SQL opened it.
    table: Option<Table>,
}

impl Session {
    /// `ctx`, with no table yet.
    pub(crate) fn bare(ctx: SessionContext) -> Self {
        datafusion_supertable::register(&ctx).unwrap();
        Self { ctx, table: None }
    }

    /// `ctx`, with the table at `location` as `t`.
    pub(crate) async fn open(ctx: SessionContext, location: &str, time: Time) -> Self {
        let mut session = Self::bare(ctx);
        match time {
            Time::Now => {
                let sql =
                    format!("CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{location}'");
                session.run(&sql).await;
            }
            Time::Later(minutes) => {
                let (storage, scan) = resolve(&session.ctx.state(), location).unwrap();
                let system = Env::system();
                let clock = ManualClock::at_ms(system.now_ms());
                clock.advance(TimeDelta::minutes(minutes.into()));
                let env = Env {
                    clock: Arc::new(clock),
                    ids: system.ids,
                };
                let limits = Limits {
                    lease: TimeDelta::milliseconds(50),
                    ..Limits::default()
                };
                let table = Table::open_with(storage, env, limits).await.unwrap();
                let provider = SupertableProvider::new(TableAccess {
                    table: table.clone(),
                    location: scan,
                    schema: session_schema(&table.metadata().schema),
                    column_defaults: Opaque::new(HashMap::new()),
                    conditions: Conditions::default(),
                    keys: DeclaredKeys::of(&table.metadata()),
                });
                session.ctx.register_table("t", Arc::new(provider)).unwrap();
                session.table = Some(table);
            }
        }
        session
    }

    /// `ctx`, with the tables below `location` as the catalog `lake`.
    pub(crate) fn catalog(ctx: SessionContext, location: &str) -> Self {
        let session = Self::bare(ctx);
        open_catalog(&session.ctx, "lake", location).unwrap();
        session
    }

    /// A session that has nothing to do with any other, with the table in `dir` as `t`.
    pub(crate) async fn fresh(dir: &Path, time: Time) -> Self {
        Self::open(context(), &format!("{}/", dir.display()), time).await
    }

    /// Runs a statement; its rows as text, none as no text.
    pub(crate) async fn run(&self, sql: &str) -> String {
        self.try_run(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Runs statements between which there are semicolons, and which have none in them.
    pub(crate) async fn run_script(&self, script: &str) {
        for sql in script.split(';') {
            self.run(sql).await;
        }
    }

    pub(crate) async fn try_run(&self, sql: &str) -> Result<String> {
        let frame = datafusion_supertable::sql(&self.ctx, sql).await?;
        let batches = frame.collect().await?;
        let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
        if rows == 0 {
            return Ok(String::new());
        }
        Ok(pretty_format_batches(&batches)?.to_string())
    }

    /// The current version of `t`.
    pub(crate) async fn snapshot(&self) -> Arc<Snapshot> {
        let provider = self.ctx.table_provider("t").await.unwrap();
        let provider = provider.downcast_ref::<SupertableProvider>().unwrap();
        provider.table().snapshot().await.unwrap()
    }

    /// The files that the current version of `t` needs, relative to the table.
    pub(crate) async fn needed(&self) -> BTreeSet<PathBuf> {
        let snapshot = self.snapshot().await;
        let mut needed = vec![paths::pointer(), paths::manifest_node(&snapshot.root())];
        for group in snapshot.manifest().groups() {
            needed.push(paths::manifest_node(&group.hash().unwrap()));
            for leaf in group.leaves() {
                needed.push(paths::manifest_node(&leaf.hash().unwrap()));
            }
        }
        for entry in snapshot.manifest().entries() {
            if entry.in_place.is_none() {
                needed.push(paths::superfile(&entry.id));
            }
            needed.extend(entry.tombstones.map(|t| paths::sidecar(&t.sidecar)));
        }
        needed
            .iter()
            .map(|path| PathBuf::from(path.as_ref()))
            .collect()
    }

    /// Waits until nothing goes on in the background.
    pub(crate) async fn settle(&self) {
        datafusion_supertable::wait_for_background_work(&self.ctx).await;
        if let Some(table) = &self.table {
            table.settle().await;
        }
    }
}

/// Runs `work` on one thread, whose stack has room for planning in a debug build.
pub(crate) fn on_one_thread<F, Fut>(work: F) -> std::thread::Result<Fut::Output>
where
    F: FnOnce() -> Fut + Send,
    Fut: Future<Output: Send>,
{
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(16 << 20)
            .spawn_scoped(scope, || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(work())
            })
            .unwrap()
            .join()
    })
}
