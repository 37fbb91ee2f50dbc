//! A process dies at each of its storage operations, before or after it took effect; so does the process that
//! recovers. All or nothing, acknowledged means present, nothing is left.

use std::sync::Arc;

use datafusion_supertable::unstable::table::{CommitOutcome, Moment, RowCounts, Table};
use datafusion_supertable::{ErrorKind, Result};

use super::world::{Rows, World, delete, insert, rows, truncate, update};
use crate::support::fault_store::{Crash, Plan};

#[derive(Clone, Copy, Debug)]
enum Statement {
    Insert,
    Delete,
    DeleteWholeSuperfile,
    Update,
    Truncate,
    /// The rows that the world has deleted come back.
    Restore,
}

const STATEMENTS: [Statement; 6] = [
    Statement::Insert,
    Statement::Delete,
    Statement::DeleteWholeSuperfile,
    Statement::Update,
    Statement::Truncate,
    Statement::Restore,
];

impl Statement {
    async fn run(self, table: &Table) -> Result<CommitOutcome> {
        match self {
            Self::Insert => insert(table, "new", 5).await,
            Self::Delete => delete(table, &[("a", &[2, 3]), ("b", &[0, 1])]).await,
            Self::DeleteWholeSuperfile => {
                delete(table, &[("a", &[0, 3, 4, 5, 6, 7, 8, 9]), ("c", &[5])]).await
            }
            Self::Update => update(table, &[("a", &[5]), ("b", &[6, 7])], "new").await,
            Self::Truncate => truncate(table).await,
            Self::Restore => {
                let restored = table.restore(Moment::Version(4)).await?;
                Ok(CommitOutcome::Committed {
                    version: restored.version,
                    rows_affected: 2,
                    rows: RowCounts::default(),
                })
            }
        }
    }
}

/// What a table holds before a statement, and after it.
struct Expected {
    before: Rows,
    after: Rows,
}

async fn expected(world: &World, statement: Statement) -> Expected {
    let world = world.fork();
    let table = world.open(&Plan::healthy()).await.unwrap();
    let before = rows(&table).await;
    let outcome = statement.run(&table).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Committed { .. }));
    let after = rows(&table).await;
    table.settle().await;
    world.assert_clean(&table).await;
    assert_ne!(before, after);
    Expected { before, after }
}

/// A process opens the table, runs the statement, and stays until its background work is done.
async fn process(world: &World, plan: &Arc<Plan>, statement: Statement) -> Result<CommitOutcome> {
    let table = world.open(plan).await?;
    table.settle().await;
    let outcome = statement.run(&table).await;
    table.settle().await;
    outcome
}

async fn check(world: &World, expected: &Expected, outcome: &Result<CommitOutcome>, what: &str) {
    world.let_leases_expire();
    let mut states = Vec::new();
    for _ in 0..2 {
        let table = world.recovered().await;
        let now = rows(&table).await;
        world.assert_clean(&table).await;
        assert!(
            now == expected.before || now == expected.after,
            "{what}: neither before nor after: {now:?}"
        );
        match outcome {
            Ok(CommitOutcome::Committed { .. }) => assert!(now == expected.after, "{what}: lost"),
            Ok(other) => panic!("{what}: {other:?}"),
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {}
            // Any other error says that nothing of the statement is or becomes visible.
            Err(error) => assert!(now == expected.before, "{what}: visible after {error}"),
        }
        states.push(now);
    }
    assert_eq!(states[0], states[1], "{what}");
}

async fn crash_everywhere(crash: impl Fn(u64) -> Crash) {
    let base = World::new().await;
    for statement in STATEMENTS {
        let expected = expected(&base, statement).await;
        for k in 1.. {
            let world = base.fork();
            let plan = Plan::crash(crash(k));
            let outcome = process(&world, &plan, statement).await;
            let what = format!("{statement:?}, {:?}", crash(k));
            if !plan.crashed() {
                assert!(k > 10, "{what}: a statement has more operations than that");
                assert!(
                    matches!(outcome, Ok(CommitOutcome::Committed { .. })),
                    "{what}: {outcome:?}"
                );
                break;
            }
            check(&world, &expected, &outcome, &what).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_any_operation_leaves_all_or_nothing() {
    crash_everywhere(Crash::Before).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_after_any_operation_leaves_all_or_nothing() {
    crash_everywhere(Crash::After).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_of_the_recovering_process_too_leaves_all_or_nothing() {
    let base = World::new().await;
    for statement in [Statement::Update, Statement::Delete] {
        let expected = expected(&base, statement).await;
        for k in 1.. {
            let crashed = base.fork();
            let plan = Plan::crash(Crash::After(k));
            let outcome = process(&crashed, &plan, statement).await;
            if !plan.crashed() {
                break;
            }
            crashed.let_leases_expire();
            for j in 1.. {
                let world = crashed.fork();
                let plan = Plan::crash(Crash::After(j));
                if let Ok(table) = world.open(&plan).await {
                    let _ = table.recover().await;
                    table.settle().await;
                }
                if !plan.crashed() {
                    break;
                }
                let what = format!("{statement:?}, crash after {k}, recovery after {j}");
                check(&world, &expected, &outcome, &what).await;
            }
        }
    }
}

/// One answer lost, or one request refused: the statement goes through, exactly once.
async fn one_fault_everywhere(plan: impl Fn(u64) -> Arc<Plan>) {
    let base = World::new().await;
    for statement in STATEMENTS {
        let expected = expected(&base, statement).await;
        for k in 1.. {
            let world = base.fork();
            let plan = plan(k);
            let table = match world.open(&plan).await {
                Ok(table) => table,
                Err(error) => panic!("{statement:?} {k}: {error}"),
            };
            table.settle().await;
            let outcome = statement.run(&table).await;
            table.settle().await;
            if plan.operations() < k {
                break;
            }
            match outcome {
                Ok(CommitOutcome::Committed { .. }) => {
                    assert_eq!(rows(&table).await, expected.after, "{statement:?} {k}");
                }
                // A listing is not repeated, and the clean-up that it was for is recovery's then.
                other => panic!("{statement:?} {k}: {other:?}"),
            }
            check(&world, &expected, &outcome, &format!("{statement:?} {k}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_one_lost_answer_changes_nothing() {
    one_fault_everywhere(|k| Plan::lost_answers([k])).await;
}

#[tokio::test(start_paused = true)]
async fn any_one_refused_request_changes_nothing() {
    one_fault_everywhere(|k| Plan::refused([k])).await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_lost_over_and_over_leave_all_or_nothing() {
    let base = World::new().await;
    for statement in STATEMENTS {
        let expected = expected(&base, statement).await;
        for first in 1..30 {
            let world = base.fork();
            // More than any retry of the storage layer.
            let plan = Plan::lost_answers(first..first + 25);
            let outcome = process(&world, &plan, statement).await;
            check(
                &world,
                &expected,
                &outcome,
                &format!("{statement:?} from {first}"),
            )
            .await;
        }
    }
}
