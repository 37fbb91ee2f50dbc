//! Real processes that are killed by SIGKILL at each of their storage operations, on the local disk, while
//! they change a table as a whole: its columns, its versions, its being there at all.
//!
//! How a child dies is `support::kill`'s; what must hold of one table then is `support::killed_table`'s.
//! What must hold of a catalog's tables is here: `CREATE TABLE`, `CREATE TABLE … AS`, `DROP TABLE` and a rename happen
//! or not, and the names can be used again; the same where the process lives and an answer of the store is lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::common::DataFusionError;
use datafusion_supertable::open_catalog;
use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use object_store::memory::InMemory;
use tempfile::TempDir;

use crate::support::disk::{copy, files};
use crate::support::fault_store::Plan;
use crate::support::kill::{Kill, changes_something, one_way, run_all};
use crate::support::killed_table::{RECOVER, kill_everywhere};
use crate::support::session::{Session, Time, on_one_thread};
use crate::support::sql::{context, on_store};

#[test]
fn a_process_killed_while_it_changes_a_table_as_a_whole_leaves_all_or_nothing() {
    let others = TempDir::new().unwrap();
    let file = |name: &str| others.path().join(name).display().to_string();
    on_one_thread(|| async {
        let session = Session::bare(context());
        for (name, first) in [("a.parquet", 100), ("b.parquet", 200)] {
            session
                .run(&format!(
                    "COPY (SELECT value AS id, value * 2 AS v, 'added' AS note \
                     FROM generate_series({first}, {first} + 4) AS g(value)) TO '{}' STORED AS PARQUET",
                    file(name)
                ))
                .await;
        }
    })
    .unwrap();
    let alter = |change: &str| format!("SELECT * FROM supertable_alter('t', '{change}')");
    let statements = [
        (
            "restore",
            "SELECT * FROM supertable_restore('t', 3)".to_owned(),
        ),
        ("ADD COLUMN", alter("ADD COLUMN w BIGINT DEFAULT 7")),
        ("DROP COLUMN", alter("DROP COLUMN v")),
        ("RENAME COLUMN", alter("RENAME COLUMN v TO w")),
        (
            "add_files",
            format!(
                "SELECT rows FROM supertable_add_files('t', '{}/')",
                others.path().display()
            ),
        ),
        ("TRUNCATE", "TRUNCATE TABLE t".to_owned()),
    ];
    // They are read where they are, by tables of which some get killed.
    let originals = || ["a.parquet", "b.parquet"].map(|name| std::fs::read(file(name)).unwrap());
    let before = originals();
    // Both sides of the swing of the pointer are there whichever way the first operation is killed.
    kill_everywhere(&statements, |number, i, changes| {
        one_way(number + i, changes)
    });
    assert!(originals() == before);
    assert_eq!(files(others.path()).len(), 2);
}

const COLUMNS: &str = "(n BIGINT NOT NULL, note VARCHAR)";
const FILL: &str =
    "SELECT value AS n, 'row ' || value AS note FROM generate_series(1, 50) AS g(value)";
const CONTENT: &str = "SELECT * FROM lake.public.t ORDER BY n";
/// A catalog's directory of the first table `t`.
const FIRST: &str = "public/t";
/// That of the table that is created after the first one was dropped.
const SECOND: &str = "public/t.2";

/// What a session of its own finds in the table `t` of the catalog in `dir`; none if there is no table.
async fn found(dir: &Path) -> Option<String> {
    let session = catalog(dir);
    // By listing, and by name.
    let catalog = open_catalog(&session.ctx, "again", &location(dir)).unwrap();
    let tables = catalog.tables("public").await.unwrap();
    let content = session.try_run(CONTENT).await;
    session.settle().await;
    assert_eq!(tables.contains("t"), content.is_ok(), "{content:?}");
    content.ok()
}

fn catalog(dir: &Path) -> Session {
    Session::catalog(context(), &location(dir))
}

fn location(dir: &Path) -> String {
    format!("{}/", dir.display())
}

/// Kills a child that runs `sql` in a catalog, at each of its operations that change something. What is
/// found then must be among `allowed`, which begins with what was there before and ends with what
/// an acknowledged statement leaves; and a new table of the name must work.
fn kill_in_catalog(base: &Path, sql: &str, allowed: &[Option<String>]) {
    let never = Kill::never_in_catalog(sql);
    let changes = |(at, _): &&(String, usize)| changes_something(at);
    let few = never.operations(base).iter().filter(changes).count() < 5;
    let jobs = never.everywhere(base, |i, changes| match (changes, few) {
        (true, true) => vec![0, 1, 2],
        _ => one_way(i, changes),
    });
    let states = run_all(&jobs, Kill::to_string, async |kill, dir| {
        copy(base, dir);
        let acknowledged = kill.carry_out_surely(dir).acknowledged;
        let mut state = 0;
        for _ in 0..2 {
            let found = found(dir).await;
            let now = allowed.iter().position(|state| *state == found);
            let now = now.unwrap_or_else(|| panic!("neither before nor after: {found:?}"));
            assert!(now >= state, "it was there, and went away: {found:?}");
            state = now;
        }
        assert!(!acknowledged || state == allowed.len() - 1, "acknowledged");
        if found(dir).await.is_some() {
            // Whatever the child has left of a statement ends; by the clock of those for whom it is dead.
            let second = dir.join(SECOND);
            let table = match second.is_dir() {
                true => second,
                false => dir.join(FIRST),
            };
            let session = Session::fresh(&table, Time::Later(60)).await;
            session.run(RECOVER).await;
            session.settle().await;
            assert_eq!(session.run(RECOVER).await, "", "left for a second recovery");
            assert_eq!(files(&table.join("wal")), BTreeSet::new());
        }
        if found(dir).await.is_none() {
            // A table that is created over what the child has left ends that, too.
            let session = catalog(dir);
            session.run(&create()).await;
            session.settle().await;
            let directories = [FIRST, SECOND, "public/t.3"].map(|table| dir.join(table));
            let table = directories.iter().rfind(|table| table.is_dir()).unwrap();
            let session = Session::fresh(table, Time::Later(60)).await;
            session.run(RECOVER).await;
            session.settle().await;
            assert_eq!(files(&table.join("wal")), BTreeSet::new());
            assert_eq!(files(&table.join("superfiles")), BTreeSet::new());
        }
        assert_the_name_can_be_used_again(dir).await;
        state
    });
    for (state, what) in allowed.iter().enumerate() {
        let times = states.iter().filter(|found| **found == state).count();
        let rows = what.as_ref().map(|rows| rows.lines().count());
        println!("{sql}: killed {} times, {times} times {rows:?}", jobs.len());
    }
    assert!(states.contains(&0) && states.contains(&(allowed.len() - 1)));
}

async fn assert_the_name_can_be_used_again(dir: &Path) {
    let session = catalog(dir);
    session.run("DROP TABLE IF EXISTS lake.public.t").await;
    session
        .run(&format!("CREATE TABLE lake.public.t {COLUMNS}"))
        .await;
    assert_eq!(session.run(CONTENT).await, "");
    session
        .run("INSERT INTO lake.public.t VALUES (1, 'one')")
        .await;
    session.run("UPDATE lake.public.t SET note = 'two'").await;
    let rows = session.run(CONTENT).await;
    assert_eq!(rows.matches("two").count(), 1, "{rows}");
    session.settle().await;
    // Of a table that was dropped the drop marker is left, and nothing else but the local store's locks.
    let left: Vec<PathBuf> = files(&dir.join(FIRST))
        .into_iter()
        .filter(|file| !file.starts_with(".supertable-local/locks"))
        .collect();
    if dir.join(SECOND).is_dir() {
        assert_eq!(left, [PathBuf::from("_supertable/current")]);
    }
    // The child's store had the catalog's directory as its root; the next one that has cleans up.
    let storage = Storage::local(dir, RetryPolicy::default()).unwrap();
    storage
        .put_immutable(&"later".into(), "later".into())
        .await
        .unwrap();
    assert_eq!(files(&dir.join(".supertable-local/tmp")), BTreeSet::new());
}

/// A catalog in which `statements` were run.
fn base(statements: &[String]) -> TempDir {
    let dir = TempDir::new().unwrap();
    on_one_thread(|| async {
        let session = catalog(dir.path());
        for sql in statements {
            session.run(sql).await;
        }
        session.settle().await;
    })
    .unwrap();
    dir
}

fn rows_of(dir: &TempDir) -> Option<String> {
    on_one_thread(|| found(dir.path())).unwrap()
}

fn create() -> String {
    format!("CREATE TABLE lake.public.t {COLUMNS}")
}

fn create_filled() -> String {
    format!("CREATE TABLE lake.public.t AS {FILL}")
}

#[test]
fn a_create_table_killed_at_any_storage_operation_leaves_the_table_or_none() {
    kill_in_catalog(base(&[]).path(), &create(), &[None, Some(String::new())]);
}

#[test]
fn a_create_table_after_a_drop_killed_at_any_storage_operation_leaves_the_table_or_none() {
    let base = base(&[create_filled(), "DROP TABLE lake.public.t".into()]);
    kill_in_catalog(base.path(), &create(), &[None, Some(String::new())]);
}

#[test]
fn a_create_table_as_killed_at_any_storage_operation_leaves_all_rows_or_none() {
    let full = rows_of(&base(&[create_filled()]));
    assert!(full.is_some());
    kill_in_catalog(base(&[]).path(), &create_filled(), &[None, full]);
}

#[tokio::test(start_paused = true)]
async fn statements_of_a_catalog_that_lose_any_answer_happen_once() {
    let fill = |rows: u32| format!("AS SELECT value AS n FROM range(0, {rows})");
    let statements = [
        (format!("CREATE TABLE lake.public.t {}", fill(50)), Some(50)),
        (
            format!("CREATE OR REPLACE TABLE lake.public.t {}", fill(20)),
            Some(20),
        ),
        ("DROP TABLE lake.public.t".to_owned(), None),
    ];
    let mut failed = 0;
    for lost in 0.. {
        let store = Arc::new(InMemory::new());
        let plan = Plan::lost_answers([lost]);
        let mut before = None;
        for (sql, after) in &statements {
            let about = |why: &dyn std::fmt::Display| format!("{sql}, answer {lost}: {why}");
            let answer = finished(in_memory(&store, &plan), sql).await;
            let mut found = rows_in(&store).await;
            if let Err(error) = answer {
                // Only what changes nothing is not tried again.
                failed += 1;
                assert_eq!(found, before, "{}", about(&error));
                let again = finished(in_memory(&store, &Plan::healthy()), sql).await;
                again.unwrap_or_else(|error| panic!("{}", about(&error)));
                found = rows_in(&store).await;
            }
            assert_eq!(found, *after, "{}", about(&"acknowledged"));
            before = *after;
        }
        if plan.operations() <= lost {
            assert!(lost > 20, "only {lost} operations");
            assert!(failed * 4 < lost, "{failed} of {lost} fail");
            return;
        }
    }
}

/// A session with the catalog `lake` on `store`, whose operations fare as `plan` says.
fn in_memory(store: &Arc<InMemory>, plan: &Arc<Plan>) -> Session {
    Session::catalog(on_store(store, plan), "mem://bucket/lake/")
}

/// Runs a statement to its end, with what it leaves to the background.
async fn finished(session: Session, sql: &str) -> Result<(), DataFusionError> {
    let answer = session.try_run(sql).await;
    session.settle().await;
    answer.map(drop)
}

/// How many rows a session of its own finds in the table `t`; none if there is no table.
async fn rows_in(store: &Arc<InMemory>) -> Option<usize> {
    let session = in_memory(store, &Plan::healthy());
    let table = session.ctx.table("lake.public.t").await.ok()?;
    Some(table.count().await.unwrap())
}

#[test]
fn a_replacement_killed_at_any_storage_operation_leaves_the_old_rows_or_the_new() {
    let base = base(&[create_filled()]);
    let sql =
        "CREATE OR REPLACE TABLE lake.public.t AS SELECT n, note FROM lake.public.t WHERE n > 40";
    let allowed = [rows_of(&base), {
        let done = TempDir::new().unwrap();
        copy(base.path(), done.path());
        on_one_thread(|| async {
            let session = catalog(done.path());
            session.run(sql).await;
            session.settle().await;
        })
        .unwrap();
        rows_of(&done)
    }];
    kill_in_catalog(base.path(), sql, &allowed);
}

#[test]
fn a_drop_table_killed_at_any_storage_operation_leaves_the_table_or_none() {
    let base = base(&[
        create_filled(),
        "DELETE FROM lake.public.t WHERE n > 40".into(),
    ]);
    let full = rows_of(&base);
    kill_in_catalog(base.path(), "DROP TABLE lake.public.t", &[full, None]);
}

/// Kills a child that renames the table `from` to `to`, at each of its operations. Then it is there under one of the
/// names with all its rows, and both can be used again.
fn kill_a_rename(base: &Path, from: &str, to: &str) {
    let content = |name: &str| format!("SELECT * FROM lake.public.{name} ORDER BY n");
    let full = on_one_thread(|| async {
        let session = catalog(base);
        let rows = session.run(&content(from)).await;
        session.settle().await;
        rows
    });
    let full = full.unwrap();
    assert!(full.contains("row 40"));
    // The name that it has, if all is as it must be.
    let name_of = async |dir: &Path| {
        let session = catalog(dir);
        let again = open_catalog(&session.ctx, "again", &location(dir)).unwrap();
        let listed = again.tables("public").await.unwrap();
        let mut named = Vec::new();
        for name in [from, to] {
            let rows = session.try_run(&content(name)).await;
            assert_eq!(listed.contains(name), rows.is_ok(), "{rows:?}");
            if let Ok(rows) = rows {
                assert_eq!(rows, full);
                named.push(name.to_owned());
            }
        }
        session.settle().await;
        let [name] = named.as_slice() else {
            panic!("under the names {named:?}")
        };
        name.clone()
    };
    let sql = format!("ALTER TABLE lake.public.{from} RENAME TO {to}");
    let jobs = Kill::never_in_catalog(&sql).everywhere(base, |i, changes| match changes {
        true => vec![0, 1, 2],
        false => vec![i % 3],
    });
    let renamed = run_all(&jobs, Kill::to_string, async |kill, dir| {
        copy(base, dir);
        let acknowledged = kill.carry_out_surely(dir).acknowledged;
        let name = name_of(dir).await;
        assert!(!acknowledged || name == to, "acknowledged");
        assert_eq!(name_of(dir).await, name);
        // Another name for it, both of these for others, and back. Whoever wants the new name first must pass what
        // the dead process has reserved.
        let session = catalog(dir);
        let aside = format!("ALTER TABLE lake.public.{name} RENAME TO kept");
        let create = format!("CREATE TABLE lake.public.{to} AS SELECT 2 AS two");
        let (first, second) = match name == from {
            true => (create, aside),
            false => (aside, create),
        };
        for sql in [
            first,
            second,
            format!("CREATE TABLE lake.public.{from} AS SELECT 1 AS one"),
            format!("DROP TABLE lake.public.{to}"),
            format!("ALTER TABLE lake.public.kept RENAME TO {to}"),
        ] {
            session.run(&sql).await;
        }
        assert_eq!(session.run(&content(to)).await, full);
        let one = format!("SELECT one FROM lake.public.{from}");
        assert_eq!(session.run(&one).await.lines().count(), 5);
        session.settle().await;
        name == to
    });
    let times = renamed.iter().filter(|renamed| **renamed).count();
    println!("{sql}: killed {} times, {times} times renamed", jobs.len());
    assert!(times > 0 && times < jobs.len());
}

#[test]
fn a_rename_killed_at_any_storage_operation_leaves_the_table_under_one_name() {
    let base = base(&[
        create_filled(),
        "DELETE FROM lake.public.t WHERE n > 40".into(),
    ]);
    kill_a_rename(base.path(), "t", "u");
}

#[test]
fn a_second_rename_and_one_to_a_used_name_killed_leave_the_table_under_one_name() {
    let base = base(&[
        create_filled(),
        "DELETE FROM lake.public.t WHERE n > 40".into(),
        "CREATE TABLE lake.public.v AS SELECT 1 AS one".into(),
        "DROP TABLE lake.public.v".into(),
        "ALTER TABLE lake.public.t RENAME TO u".into(),
    ]);
    kill_a_rename(base.path(), "u", "v");
}
