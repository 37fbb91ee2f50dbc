//! Many writers finish sooner together than in turn, in the time of a clock that only round trips move.

use std::time::Duration;

use chrono::TimeDelta;
use datafusion_supertable::unstable::format::{OpKind, SuperfileId};
use datafusion_supertable::unstable::table::{CommitOutcome, Effect, Table};

use super::world::{World, committed, insert, labels, rows};
use crate::support::fault_store::Plan;

const LATENCY: Duration = Duration::from_millis(50);
const ROWS: u64 = 1_000;

/// How long one operation takes.
#[derive(Clone, Copy, Debug)]
enum Latency {
    Constant,
    /// Half as long up to one and a half times as long.
    Varying {
        seed: u64,
    },
}

impl Latency {
    fn plan(self, process: u64) -> std::sync::Arc<Plan> {
        match self {
            Self::Constant => Plan::with_latency(LATENCY),
            Self::Varying { seed } => Plan::with_latency_between(
                LATENCY / 2,
                LATENCY * 3 / 2,
                seed.wrapping_mul(1_000).wrapping_add(process),
            ),
        }
    }
}

/// A point DELETE as a session runs it: the pointer, a read of tombstones and data, the commit.
async fn point_delete(table: &Table, superfile: SuperfileId, position: u32) {
    loop {
        let base = table.snapshot().await.unwrap();
        let mutation = table.begin(OpKind::Delete, base.clone(), "DELETE".into());
        if let Some(tombstones) = base.manifest().get(&superfile).unwrap().tombstones {
            base.sidecars().positions(&tombstones).await.unwrap();
        }
        tokio::time::sleep(LATENCY).await;
        let effect = Effect {
            delete: [(superfile, [position].into_iter().collect())].into(),
            rows_deleted: 1,
            ..Effect::default()
        };
        match mutation.commit(effect).await.unwrap() {
            CommitOutcome::Committed { rows_affected, .. } => {
                assert_eq!(rows_affected, 1);
                return;
            }
            CommitOutcome::Conflict(_) => {}
            CommitOutcome::NothingToCommit => panic!("nothing to commit"),
        }
    }
}

/// Who goes when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Together,
    /// A process runs all of its statements, then the next process its own.
    OneAfterTheOther,
    /// A statement of the first process, one of the second, and so on, round and round.
    TakingTurns,
}

struct Crowd {
    processes: usize,
    /// Concurrent statements of each process.
    tasks: usize,
    /// Statements of each task.
    each: usize,
    latency: Latency,
}

impl Crowd {
    /// How long it takes.
    async fn run(&self, order: Order) -> Duration {
        let world = World::new().await;
        // Ids sort by time, and time passes.
        let clock = world.clock.clone();
        let ticking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                clock.advance(TimeDelta::milliseconds(1));
            }
        });
        let setup = world.recovered().await;
        committed(insert(&setup, "big", ROWS).await);
        setup.settle().await;
        let snapshot = setup.snapshot().await.unwrap();
        let superfile = labels(&setup, &snapshot).await.unwrap()["big"];
        let mut tables = Vec::new();
        for process in 0..self.processes as u64 {
            let table = world.open(&self.latency.plan(process)).await.unwrap();
            table.settle().await;
            tables.push(table);
        }
        let start = tokio::time::Instant::now();
        match order {
            Order::Together => {
                let mut running = Vec::new();
                for (p, table) in tables.iter().enumerate() {
                    for t in 0..self.tasks {
                        let table = table.clone();
                        let positions = self.positions(p, t);
                        running.push(tokio::spawn(async move {
                            for position in positions {
                                point_delete(&table, superfile, position).await;
                            }
                        }));
                    }
                }
                for task in running {
                    task.await.unwrap();
                }
            }
            Order::OneAfterTheOther => {
                for (p, table) in tables.iter().enumerate() {
                    for position in (0..self.tasks).flat_map(|t| self.positions(p, t)) {
                        point_delete(table, superfile, position).await;
                    }
                }
            }
            Order::TakingTurns => {
                for nth in 0..self.each {
                    for (p, table) in tables.iter().enumerate() {
                        for t in 0..self.tasks {
                            let position = self.positions(p, t).start + nth as u32;
                            point_delete(table, superfile, position).await;
                        }
                    }
                }
            }
        }
        let elapsed = start.elapsed();
        for table in &tables {
            table.settle().await;
        }
        ticking.abort();
        let versions = setup.snapshot().await.unwrap().version() - snapshot.version();
        println!("{order:?}: {versions} versions in {elapsed:?}");
        let left = rows(&setup)
            .await
            .iter()
            .filter(|(l, _)| l == "big")
            .count();
        let deleted = self.processes * self.tasks * self.each;
        assert_eq!(left, ROWS as usize - deleted);
        world.assert_clean(&setup).await;
        elapsed
    }

    fn positions(&self, process: usize, task: usize) -> std::ops::Range<u32> {
        let first = ((process * self.tasks + task) * self.each) as u32;
        first..first + self.each as u32
    }
}

#[tokio::test(start_paused = true)]
async fn eight_processes_finish_four_times_sooner_together_than_in_turn() {
    let crowd = Crowd {
        processes: 8,
        tasks: 1,
        each: 8,
        latency: Latency::Constant,
    };
    let together = crowd.run(Order::Together).await;
    let in_turn = crowd.run(Order::TakingTurns).await;
    // Here nobody has to load another's version: no order without concurrency takes less time.
    let in_sequence = crowd.run(Order::OneAfterTheOther).await;
    println!(
        "8 processes, 8 point deletes each: together {together:?}, in turn {in_turn:?}, one after the other {in_sequence:?}"
    );
    assert!(together * 4 <= in_turn, "{together:?}, {in_turn:?}");
    assert!(together * 4 <= in_sequence, "{together:?}, {in_sequence:?}");
}

#[tokio::test(start_paused = true)]
async fn so_they_do_when_no_two_round_trips_take_equally_long() {
    for seed in 1..=4 {
        let crowd = Crowd {
            processes: 8,
            tasks: 1,
            each: 8,
            latency: Latency::Varying { seed },
        };
        let together = crowd.run(Order::Together).await;
        let in_turn = crowd.run(Order::TakingTurns).await;
        println!("seed {seed}: together {together:?}, in turn {in_turn:?}");
        assert!(together * 4 <= in_turn, "{together:?}, {in_turn:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn sixty_four_tasks_of_one_process_finish_ten_times_sooner_together_than_in_turn() {
    let crowd = Crowd {
        processes: 1,
        tasks: 64,
        each: 4,
        latency: Latency::Constant,
    };
    let together = crowd.run(Order::Together).await;
    let in_turn = crowd.run(Order::TakingTurns).await;
    println!("64 tasks, 4 point deletes each: together {together:?}, in turn {in_turn:?}");
    assert!(together * 10 <= in_turn, "{together:?}, {in_turn:?}");
}
