//! One history, from the creation of a table to the moment at which everybody has gone and all is tidied up.
//!
//! Owns: the order of a history's parts, the births and deaths of processes, and what must be left in the store at
//! the end. Does not own what happens in between.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion_supertable::unstable::format::paths;
use datafusion_supertable::unstable::table::{CreateTable, Table, VacuumOptions};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::time::{sleep, timeout};

use super::model::OWNERS;
use super::process::{Birth, Process};
use super::store::{Counts, Sabotage, World};
use super::weather::{Weather, log_uniform, mix};

/// No history takes so long, in its own time.
const STUCK: Duration = Duration::from_secs(100_000);

/// How often a process is started again.
const LIVES: u64 = 3;

/// The clock of whoever tidies up is ahead of all others by this: what anyone left is old.
const AHEAD_MS: i64 = 100 * 24 * 60 * 60 * 1000;

/// What a history came to.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub seed: u64,
    pub trace: u64,
    pub counts: Counts,
    pub violations: Vec<String>,
    pub log: Vec<String>,
}

/// Lives through the history of a seed.
pub(super) fn live(seed: u64, sabotage: Option<Sabotage>, verbose: bool) -> Report {
    live_in(Weather::of(seed), sabotage, verbose)
}

/// The same, in other weather.
pub(super) fn live_in(weather: Weather, sabotage: Option<Sabotage>, verbose: bool) -> Report {
    let seed = weather.seed;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        let world = World::new(weather, sabotage, verbose);
        if timeout(STUCK, history(&world)).await.is_err() {
            world.violation("it never ends".to_owned());
        }
        world
    });
    // What is still pending belongs to dead processes.
    drop(runtime);
    let state = world.state();
    Report {
        seed,
        trace: state.trace,
        counts: state.counts.clone(),
        violations: state.violations.clone(),
        log: state.log.clone(),
    }
}

async fn history(world: &Arc<World>) {
    let clear = Arc::new(world.weather.cleared());
    create(world, &clear).await;
    if !world.state().violations.is_empty() {
        return;
    }
    let weather = Arc::new(world.weather.clone());
    let lives = (1..=weather.processes).map(|n| {
        let (world, weather) = (Arc::clone(world), Arc::clone(&weather));
        tokio::spawn(async move { incarnations(&world, &weather, n).await })
    });
    for life in lives.collect::<Vec<_>>() {
        if let Err(panicked) = life.await {
            world.violation(format!("a process panicked: {panicked}"));
        }
    }
    if !world.state().violations.is_empty() {
        return;
    }
    // Everything that is under way lands.
    while world.state().in_flight > 0 {
        sleep(Duration::from_secs(1)).await;
    }
    tidy_up(world, &clear).await;
}

async fn create(world: &Arc<World>, clear: &Arc<Weather>) {
    let birth = Birth::new(world, 1_000, clear, 0);
    let spec = CreateTable {
        schema: Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)])),
        properties: Default::default(),
        defaults: Default::default(),
        sort_order: Vec::new(),
        keys: Vec::new(),
    };
    let table = match Table::create(birth.storage, birth.env, spec).await {
        Ok(table) => table,
        Err(error) => return world.violation(format!("creating the table: {error}")),
    };
    let life = birth.life;
    let first = Process {
        world: Arc::clone(world),
        life,
        table,
    };
    for seed in 0..3 {
        first
            .statement(mix(&[world.weather.seed, seed]), None)
            .await;
    }
    first.table.settle().await;
}

/// A process, and those that are started in its place when it dies.
async fn incarnations(world: &Arc<World>, weather: &Arc<Weather>, n: u64) {
    let mut dice = SmallRng::seed_from_u64(mix(&[weather.seed, n, 4]));
    for life in 0..LIVES {
        let process = n + 10 * life;
        let (minute, half_day) = (60_000, 12 * 3_600_000);
        let skew = match dice.random_ratio(1, 3) {
            // Wrong for as long as the process lives.
            true => {
                let by = dice.random_range(minute..half_day);
                if dice.random() { by } else { -by }
            }
            false => dice.random_range(-200..200),
        };
        let birth = Birth::new(world, process, weather, skew);
        let mortal = Arc::clone(&birth.life);
        if life + 1 == LIVES {
            mortal.spare();
        }
        let work = {
            let (world, steps) = (Arc::clone(world), weather.steps);
            tokio::spawn(async move { birth.open(&world).await.work(steps).await })
        };
        let stop = work.abort_handle();
        tokio::select! {
            biased;
            () = mortal.death.cancelled() => stop.abort(),
            done = work => {
                if let Err(panicked) = done {
                    world.violation(format!("process {process} panicked: {panicked}"));
                }
                return;
            }
        }
        sleep(log_uniform(
            &mut dice,
            Duration::from_millis(10),
            weather.lease * 3,
        ))
        .await;
    }
}

/// Recovers and vacuums, and sees what is left.
async fn tidy_up(world: &Arc<World>, clear: &Arc<Weather>) {
    let birth = Birth::new(world, 2_000, clear, AHEAD_MS);
    let last = birth.open(world).await;
    last.table.settle().await;
    for round in 0..2 {
        match last.table.recover().await {
            Ok(report) if report.failed.is_empty() => {}
            other => world.violation(format!("the last recovery {round}: {other:?}")),
        }
        last.table.settle().await;
    }
    let left = world.state().wal();
    if !left.is_empty() {
        world.violation(format!("left after recovery: {left:?}"));
    }
    // Half of the versions that are there, and then only the current one.
    let retain = {
        let state = world.state();
        let middle = (state.chain.floor + state.chain.current()).div_ceil(2);
        let created = state.chain.get(middle).unwrap().header().created_at_ms;
        let now = last.table.env().now_ms();
        Duration::from_millis(u64::try_from(now - created).unwrap_or(0))
    };
    for retain in [retain, Duration::ZERO] {
        last.vacuum_with(VacuumOptions {
            retain,
            dry_run: false,
        })
        .await;
        nothing_is_left(world);
    }
    let current = world.state().chain.current();
    if let Some(snapshot) = last.pin(current).await {
        let rows = last.rows(&snapshot).await;
        world.state().check_read(current, rows);
    }
    world.state().check_endings();
}

/// The store holds the pointer, and what the versions need that it leads to: no more and no less.
fn nothing_is_left(world: &World) {
    let mut state = world.state();
    let mut needed = BTreeSet::from([paths::pointer()]);
    let (floor, current) = (state.chain.floor, state.chain.current());
    for number in floor..=current {
        needed.extend(state.chain.get(number).unwrap().needed.iter().cloned());
    }
    let there: BTreeSet<_> = state.objects.keys().cloned().collect();
    // What is not the table's own stays, whether a version needs it or not.
    let left: Vec<_> = there
        .difference(&needed)
        .map(ToString::to_string)
        .filter(|path| !path.starts_with(OWNERS))
        .collect();
    let missing: Vec<_> = needed.difference(&there).map(ToString::to_string).collect();
    if !left.is_empty() || !missing.is_empty() {
        state.violation(format!(
            "of versions {floor} to {current}, left: {left:?}, missing: {missing:?}"
        ));
    }
}
