//! One process: a table of its own, which it reads, changes and looks after.
//!
//! Owns: what a process does from its start to its end or death, except for statements (`statements`). Does not
//! own what happens to its requests (`wire`), nor the verdict about what it hears (`checker`).

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use datafusion_supertable::unstable::table::{
    Cache, Limits, Moment, Snapshot, Table, VacuumOptions,
};
use datafusion_supertable::unstable::wal::Env;
use datafusion_supertable::{Error, ErrorKind, Result};
use object_store::path::Path;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::{Instant, sleep};

use super::clock::SkewedClock;
use super::model::{Rows, decode, path_of};
use super::store::World;
use super::weather::{Weather, log_uniform, mix};
use super::wire::{Life, Wire};

/// A process that has opened the table.
#[derive(Clone)]
pub(super) struct Process {
    pub world: Arc<World>,
    pub life: Arc<Life>,
    pub table: Table,
}

/// What a process is made of before it opens the table.
pub(super) struct Birth {
    pub storage: Storage,
    pub env: Env,
    pub limits: Limits,
    pub life: Arc<Life>,
}

impl Birth {
    pub(super) fn new(
        world: &Arc<World>,
        process: u64,
        weather: &Arc<Weather>,
        skew_ms: i64,
    ) -> Self {
        let clock = SkewedClock::new(world.start, skew_ms);
        let life = Life::new(process, clock.clone());
        let policy = RetryPolicy {
            max_attempts: weather.attempts,
            jitter_seed: Some(process),
            ..RetryPolicy::default()
        };
        let wire = Arc::new(Wire::new(world, &life, weather));
        Self {
            storage: Storage::new(wire, &Path::default(), policy),
            env: Env::seeded(mix(&[weather.seed, process, 2]), clock),
            limits: Limits {
                lease: TimeDelta::from_std(weather.lease).unwrap(),
                cache: Cache::of_bytes(weather.cache_bytes),
                pending_at_most: weather.pending_at_most,
                history_at_most: weather.history_at_most,
                ..Limits::default()
            },
            life,
        }
    }

    /// Opens the table, as often as the store fails.
    pub(super) async fn open(self, world: &Arc<World>) -> Process {
        loop {
            let (storage, env) = (self.storage.clone(), self.env.clone());
            match Table::open_with(storage, env, self.limits.clone()).await {
                Ok(table) => {
                    let (world, life) = (Arc::clone(world), self.life);
                    return Process { world, life, table };
                }
                Err(error) => {
                    let mut state = world.state();
                    // The version that the pointer named is gone by the time that it is loaded.
                    if error.kind() != ErrorKind::NotFound
                        && let Err(why) = state.judge_error(error.kind(), 0)
                    {
                        state.violation(format!("opening: {why}: {error}"));
                    }
                }
            }
            sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Process {
    /// A working life of so many steps.
    pub(super) async fn work(self, steps: u32) {
        let seed = mix(&[self.world.weather.seed, self.life.process, 3]);
        let mut dice = SmallRng::seed_from_u64(seed);
        let mut pinned: Vec<Arc<Snapshot>> = Vec::new();
        for _ in 0..steps {
            let longest = Duration::from_secs(if dice.random_ratio(1, 6) { 60 } else { 2 });
            sleep(log_uniform(&mut dice, Duration::from_millis(2), longest)).await;
            match dice.random_range(0..100) {
                0..55 => self.statement(dice.random(), None).await,
                55..63 => self.several(&mut dice).await,
                63..67 => {
                    // Of a version that was read long ago.
                    let old = pick(&mut dice, &pinned);
                    self.statement(dice.random(), old).await;
                }
                67..73 => self.restore(&mut dice).await,
                73..81 => self.vacuum(&mut dice).await,
                81..86 => self.recover().await,
                86..92 => pinned.extend(self.read_current().await),
                92..97 => {
                    if let Some(old) = pick(&mut dice, &pinned) {
                        self.world.count("pinned snapshot read again");
                        self.check(&old).await;
                    }
                }
                _ => self.travel(&mut dice).await,
            }
        }
        for old in pinned {
            self.check(&old).await;
        }
        self.table.settle().await;
    }

    /// Statements at once, which this process commits together.
    async fn several(&self, dice: &mut SmallRng) {
        let many = dice.random_range(2..=4);
        let seeds: Vec<u64> = (0..many).map(|_| dice.random()).collect();
        let all = seeds.into_iter().map(|seed| self.statement(seed, None));
        futures::future::join_all(all).await;
    }

    /// Pins the current version, and reads it.
    async fn read_current(&self) -> Option<Arc<Snapshot>> {
        let before = self.world.state().chain.current();
        let snapshot = self.pin(before).await?;
        self.check(&snapshot).await;
        Some(snapshot)
    }

    /// The current version, which must have been current during the call.
    pub(super) async fn pin(&self, before: u64) -> Option<Arc<Snapshot>> {
        match self.table.snapshot().await {
            Ok(snapshot) => {
                let mut state = self.world.state();
                let (version, after) = (snapshot.version(), state.chain.current());
                if version < before || version > after {
                    state.violation(format!(
                        "version {version} was read when {before} to {after} were current"
                    ));
                }
                Some(snapshot)
            }
            Err(error) => {
                self.judge("a snapshot", &error, before);
                None
            }
        }
    }

    /// Reads a version, and compares it with what it was when it was made.
    async fn check(&self, snapshot: &Snapshot) {
        let rows = self.rows(snapshot).await;
        self.world.state().check_read(snapshot.version(), rows);
    }

    pub(super) async fn rows(&self, snapshot: &Snapshot) -> Result<Rows> {
        let mut rows = Rows::new();
        for entry in snapshot.manifest().entries() {
            let path = path_of(entry);
            let Some((bytes, _)) = self.table.storage().get(&path).await? else {
                return Err(Error::new(ErrorKind::NotFound, path.as_ref(), "is gone"));
            };
            let deleted = match &entry.tombstones {
                Some(tombstones) => snapshot.sidecars().positions(tombstones).await?,
                None => Arc::default(),
            };
            let all = decode(&bytes).unwrap();
            let live = (0..).zip(all).filter(|(at, _)| !deleted.contains(*at));
            for (_, (key, value)) in live {
                if rows.insert(key, value).is_some() {
                    self.world.violation(format!("row {key} is read twice"));
                }
            }
        }
        Ok(rows)
    }

    /// Reads an earlier version by its number.
    async fn travel(&self, dice: &mut SmallRng) {
        let version = dice.random_range(1..=self.world.state().chain.current());
        match self.table.snapshot_of(Moment::Version(version)).await {
            Ok(snapshot) => {
                self.world.count("time travel");
                self.check(&snapshot).await;
            }
            Err(error) => self.judge("time travel", &error, version),
        }
    }

    async fn restore(&self, dice: &mut SmallRng) {
        let (invoked, current) = (Instant::now(), self.world.state().chain.current());
        let wanted = dice.random_range(1..=current);
        let outcome = self.table.restore(Moment::Version(wanted)).await;
        let mut state = self.world.state();
        match outcome {
            Ok(restored) => {
                state.count("told: restored", 1);
                let wanted = state.chain.get(wanted).map(|v| Arc::clone(&v.rows));
                let made = state.chain.get(restored.version).cloned();
                let right = made.is_some_and(|made| {
                    Some(&made.rows) == wanted.as_ref()
                        && made.rows.len() as u64 == restored.live_rows
                        // Made during the call, or current then.
                        && (made.at >= invoked || made.number() >= current)
                });
                if !right {
                    state.violation(format!("a restore was told {restored:?}"));
                }
            }
            Err(error) => {
                drop(state);
                self.judge("a restore", &error, wanted);
            }
        }
    }

    async fn vacuum(&self, dice: &mut SmallRng) {
        let retain = match dice.random_range(0..4) {
            0 => log_uniform(dice, Duration::from_secs(1), Duration::from_secs(7_200)),
            _ => Duration::ZERO,
        };
        let options = VacuumOptions {
            retain,
            dry_run: dice.random_ratio(1, 16),
        };
        self.vacuum_with(options).await;
    }

    pub(super) async fn vacuum_with(&self, options: VacuumOptions) {
        let life = &self.life;
        let retain_ms = i64::try_from(options.retain.as_millis()).unwrap();
        self.world
            .note(|| format!("p{} VACUUM {options:?}", life.process));
        if !options.dry_run {
            let chain = &mut self.world.state().chain;
            chain.vacuum_begins(life.process, retain_ms, &life.clock);
        }
        match self.table.vacuum(options).await {
            Ok(report) => {
                let mut state = self.world.state();
                state.count("vacuums", 1);
                state.count("objects vacuumed", report.removed().objects);
            }
            // Another vacuum deletes a version that this one is about to mark.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.world.count("vacuums that met another");
            }
            Err(error) => self.judge("a vacuum", &error, 0),
        }
    }

    async fn recover(&self) {
        match self.table.recover().await {
            Ok(report) => {
                let mut state = self.world.state();
                state.count("recoveries", 1);
                for (what, many) in [
                    ("recovered: committed", report.committed.len()),
                    ("recovered: retired", report.retired.len()),
                    ("recovered: undone", report.undone.len()),
                    ("recovered: conflicting", report.conflicting.len()),
                    ("recovered: left to vacuum", report.left_to_vacuum.len()),
                    ("recovered: orphans", report.orphans.len()),
                ] {
                    state.count(what, many as u64);
                }
                for (id, error) in &report.failed {
                    // Versions may vanish under it as under any other reader.
                    if error.kind() != ErrorKind::NotFound
                        && let Err(why) = state.judge_error(error.kind(), 0)
                    {
                        state.violation(format!("recovering {id}: {why}: {error}"));
                    }
                }
            }
            Err(error) => self.judge("a recovery", &error, 0),
        }
    }

    /// An error that this process was told when it looked at `version`.
    pub(super) fn judge(&self, what: &str, error: &Error, version: u64) {
        let mut state = self.world.state();
        self.count_error(&mut state);
        if let Err(why) = state.judge_error(error.kind(), version) {
            state.violation(format!("{what} at {version}: {why}: {error}"));
        }
    }

    fn count_error(&self, state: &mut super::store::State) {
        state.count("operations that failed", 1);
    }
}

fn pick<T: Clone>(dice: &mut SmallRng, of: &[T]) -> Option<T> {
    (!of.is_empty()).then(|| of[dice.random_range(0..of.len())].clone())
}
