//! Real processes that are killed by SIGKILL at each storage operation of a compaction or a vacuum.
//!
//! How a child dies is `support::kill`'s. Neither function changes what the table holds, so after each kill the
//! rows are the same: at once, after recovery, and after a vacuum that leaves nothing but what the current
//! version needs. With a compaction that a write starts in the background, they are those before or after the
//! write.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::disk::{copy, files};
use crate::support::kill::{Kill, run_all};
use crate::support::session::{Session, Time, on_one_thread};
use crate::support::sql::context;

const OPTIMIZE: &str = "SELECT * FROM supertable_optimize('t')";
const VACUUM: &str = "SELECT * FROM supertable_vacuum('t', retain => INTERVAL '0 days')";
/// Leaves as many small superfiles as a compaction in the background waits for.
const INSERT: &str = "SET supertable.auto_compact = true; INSERT INTO t VALUES (999, 7), (998, 8)";
/// Commits of a compaction of [`create_clustered`]'s table.
const GROUPS: i64 = 3;
/// As many small superfiles as it takes to have more of them joined in the background.
const ALMOST: i64 = 15;

async fn create(dir: &Path) -> Session {
    let session = Session::bare(context());
    session
        .run(&format!(
            "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v BIGINT) STORED AS SUPERTABLE LOCATION '{}/'",
            dir.display()
        ))
        .await;
    session
}

async fn insert(session: &Session, first: i64) {
    session
        .run(&format!(
            "INSERT INTO t SELECT value, value * 7 FROM generate_series({first}, {first} + 9) AS g(value)"
        ))
        .await;
}

/// A table of five superfiles, two of which have sidecars, with a history behind them.
async fn create_base(dir: &Path) {
    let session = create(dir).await;
    for first in [0, 10, 20] {
        insert(&session, first).await;
    }
    session.run("DELETE FROM t WHERE id IN (5, 6)").await;
    session.run("UPDATE t SET v = -1 WHERE id IN (7, 17)").await;
    session.run("UPDATE t SET v = -2 WHERE id IN (7, 18)").await;
    session.settle().await;
}

/// A table that is clustered in several commits: three groups of two superfiles, one of which has a sidecar.
async fn create_clustered(dir: &Path) {
    let session = create(dir).await;
    for number in 0..GROUPS * 2 {
        insert(&session, number * 10).await;
    }
    session.run("DELETE FROM t WHERE id IN (5, 6)").await;
    let totals = session.snapshot().await.manifest().totals();
    let group = totals.bytes * 7 / 2 / totals.superfiles;
    session
        .run(&format!(
            "ALTER TABLE t SET ('supertable.cluster_by' = 'zorder(id, v)', 'supertable.max_group_bytes' = '{group}')"
        ))
        .await;
    session.settle().await;
}

/// A table that one more write makes worth compacting.
async fn create_small_superfiles(dir: &Path) {
    let session = create(dir).await;
    for number in 0..ALMOST {
        insert(&session, number * 10).await;
    }
    session.run("DELETE FROM t WHERE id IN (5, 6)").await;
    session.settle().await;
}

async fn rows(session: &Session) -> String {
    session.run("SELECT id, v FROM t ORDER BY id, v").await
}

async fn assert_nothing_is_missing(dir: &Path, session: &Session) {
    let needed = session.needed().await;
    let missing: Vec<PathBuf> = needed.difference(&files(dir)).cloned().collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

/// What may be there: the same before and after, unless rows are inserted.
struct Expected {
    before: String,
    after: String,
}

/// Every promise about a table whose upkeep was killed.
async fn check(dir: &Path, expected: &Expected, acknowledged: bool) {
    let happened = check_rows(dir, expected, acknowledged).await;
    let expected = match happened {
        true => &expected.after,
        false => &expected.before,
    };
    let session = Session::fresh(dir, Time::Later(0)).await;
    // It waits until it knows that the process is dead.
    session.run(VACUUM).await;
    session.settle().await;
    assert_eq!(rows(&session).await, *expected);
    session.run(OPTIMIZE).await;
    assert_eq!(rows(&session).await, *expected);
    // One more finishes what was begun; another one has nothing to do.
    assert_eq!(session.run(OPTIMIZE).await, "");
    session.run("UPDATE t SET v = 5 WHERE id = 0").await;
    let count = session.run("SELECT count(*) FROM t WHERE v = 5").await;
    assert!(count.contains("| 1 "), "{count}");
    session.settle().await;
    assert_nothing_is_missing(dir, &session).await;
}

/// That the rows are what they may be, at once and after recovery; whether the statement happened.
async fn check_rows(dir: &Path, expected: &Expected, acknowledged: bool) -> bool {
    let mut happened = acknowledged;
    for _ in 0..2 {
        let session = Session::fresh(dir, Time::Now).await;
        let found = rows(&session).await;
        assert!(found == expected.after || (found == expected.before && !happened));
        session.settle().await;
        let later = rows(&session).await;
        assert!(later == expected.after || (later == found && !happened));
        happened |= found == expected.after || later == expected.after;
        assert_nothing_is_missing(dir, &session).await;
    }
    happened
}

fn kill_everywhere(base: &Path, sql: &str) {
    let expected = on_one_thread(|| async {
        let dir = TempDir::new().unwrap();
        copy(base, dir.path());
        let session = Session::fresh(dir.path(), Time::Now).await;
        let before = rows(&session).await;
        session.run_script(sql).await;
        session.settle().await;
        let after = rows(&session).await;
        Expected { before, after }
    })
    .unwrap();
    let never = Kill::never(sql, Time::Now);
    let jobs = never.everywhere(base, |i, changes| match changes {
        true => vec![i % 3],
        // Reads change nothing: some of them.
        false if i % 5 == 0 => vec![i % 3],
        false => vec![],
    });
    let deaths = run_all(&jobs, Kill::to_string, async |kill, dir| {
        copy(base, dir);
        let death = kill.carry_out(dir);
        check(dir, &expected, death.acknowledged).await;
        death
    });
    let killed = deaths.iter().filter(|death| death.killed).count();
    let acknowledged = deaths.iter().filter(|death| death.acknowledged).count();
    println!(
        "killed {killed} times of {}, {acknowledged} acknowledged",
        jobs.len()
    );
    assert!(killed > 0);
}

fn base(create: impl AsyncFn(&Path) + Sync) -> TempDir {
    let base = TempDir::new().unwrap();
    on_one_thread(|| create(base.path())).unwrap();
    base
}

#[test]
fn a_compaction_killed_at_any_storage_operation_changes_no_row() {
    kill_everywhere(base(create_base).path(), OPTIMIZE);
}

#[test]
fn a_compaction_in_several_commits_killed_at_any_storage_operation_changes_no_row() {
    let base = base(create_clustered);
    let did = Kill::never(OPTIMIZE, Time::Now).operations(base.path());
    let swings = did.iter().filter(|(at, _)| at == "put pointer").count();
    assert_eq!(swings, GROUPS as usize, "{did:?}");
    kill_everywhere(base.path(), OPTIMIZE);
}

#[test]
fn a_vacuum_killed_at_any_storage_operation_changes_no_row() {
    kill_everywhere(base(create_base).path(), VACUUM);
}

#[test]
fn a_compaction_in_the_background_killed_at_any_storage_operation_changes_no_row() {
    let base = base(create_small_superfiles);
    // It does start, or this would test an INSERT.
    let did = Kill::never(INSERT, Time::Now).operations(base.path());
    let superfiles = did.iter().filter(|(at, _)| at == "put superfile").count();
    assert_eq!(superfiles, 2, "{did:?}");
    kill_everywhere(base.path(), INSERT);
}
