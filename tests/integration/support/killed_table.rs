//! A table whose writers get killed: what is in it, and what must hold afterwards.
//!
//! After each kill, in fresh sessions: the table is as before the statement or as after it; what was
//! acknowledged is there; recovery, run twice, does not change that and leaves neither a WAL document nor
//! a staged object nor a temporary file; the next statement works.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::disk::{copy, files};
use super::kill::{Kill, run_all};
use super::session::{Session, Time, on_one_thread};
use super::sql::context;

pub(crate) const RECOVER: &str = "SELECT wal_id, action, detail FROM supertable_recover('t')";
/// Changes a row that hardly any other statement deletes, in a superfile that most of them change.
const NEXT: &str = "MERGE INTO t USING (VALUES (0, 'next')) AS s(id, note) ON t.id = s.id \
                    WHEN MATCHED THEN UPDATE SET note = s.note \
                    WHEN NOT MATCHED THEN INSERT (id, note) VALUES (s.id, s.note)";
/// What a statement says that was planned before another process changed the columns, and ran after it.
const COLUMNS_CHANGED: &str =
    "the table's columns have changed since the statement was planned; run it again";
const OTHERS: &str = "SELECT * FROM t WHERE id <> 0 ORDER BY id";

/// A table of three superfiles, one of which has a sidecar already.
pub(crate) async fn create_base(dir: &Path) {
    let session = Session::bare(context());
    let location = dir.display();
    session
        .run(&format!(
            "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v BIGINT, note VARCHAR) \
             STORED AS SUPERTABLE LOCATION '{location}/'"
        ))
        .await;
    for first in [0, 10, 20] {
        let rows: Vec<_> = (first..first + 10)
            .map(|id| format!("({id}, {}, 'row {id}')", id * 7))
            .collect();
        session
            .run(&format!("INSERT INTO t VALUES {}", rows.join(", ")))
            .await;
    }
    session.run("DELETE FROM t WHERE id = 5").await;
    session.settle().await;
}

/// The table's version, its columns and its rows. A statement that happened twice shows in the first.
async fn content(session: &Session) -> String {
    const ALL: &str = "SELECT * FROM t ORDER BY id";
    let mut version = session.snapshot().await.version();
    loop {
        let rows = session.try_run(ALL).await;
        let now = session.snapshot().await.version();
        match rows {
            Ok(rows) if now == version => return format!("version {version}\n{rows}"),
            // Opening recovers in the background, also a change of the columns.
            Ok(_) => {}
            Err(error) if error.to_string().contains(COLUMNS_CHANGED) => {}
            Err(error) => panic!("{ALL}: {error}"),
        }
        version = now;
    }
}

/// What may be there when a statement was killed.
pub(crate) struct Expected {
    before: String,
    after: String,
    /// Files of the base that no later version needs may stay: vacuum removes them.
    files: BTreeSet<PathBuf>,
}

/// What `sql` does to `base` when nobody kills it.
pub(crate) async fn expect(base: &Path, sql: &str) -> Expected {
    let dir = TempDir::new().unwrap();
    copy(base, dir.path());
    let session = Session::fresh(dir.path(), Time::Now).await;
    let before = content(&session).await;
    session.run(sql).await;
    // Its columns may have changed.
    let session = Session::fresh(dir.path(), Time::Now).await;
    let after = content(&session).await;
    session.settle().await;
    assert_ne!(before, after);
    Expected {
        before,
        after,
        files: files(&base.join("superfiles")),
    }
}

/// Every promise about a table whose writers were killed. Returns whether the statement happened.
pub(crate) async fn check(dir: &Path, expected: &Expected, acknowledged: bool) -> bool {
    let one_of_both = |content: &str| {
        assert!(
            content == expected.before || content == expected.after,
            "neither before nor after:\n{content}"
        );
        content == expected.after
    };
    // At once, while the dead process's lease is live. Opening recovers in the background.
    let session = Session::fresh(dir, Time::Now).await;
    let at_once = one_of_both(&content(&session).await);
    assert!(at_once || !acknowledged, "acknowledged and not there");
    session.settle().await;
    // The columns may have changed.
    let session = Session::fresh(dir, Time::Now).await;
    let settled = one_of_both(&content(&session).await);
    assert!(settled || !at_once, "it was there, and went away");

    let session = Session::fresh(dir, Time::Later(60)).await;
    session.run(RECOVER).await;
    session.settle().await;
    let session = Session::fresh(dir, Time::Later(60)).await;
    let happened = one_of_both(&content(&session).await);
    assert!(happened || !settled, "it was there, and went away");
    assert_eq!(session.run(RECOVER).await, "", "left for a second recovery");
    assert_eq!(one_of_both(&content(&session).await), happened);
    assert_eq!(files(&dir.join("wal")), BTreeSet::new());
    assert_nothing_staged(dir, expected, &session).await;

    let session = Session::fresh(dir, Time::Now).await;
    assert_eq!(one_of_both(&content(&session).await), happened);
    assert_counts_are_true(&session).await;
    let others = session.run(OTHERS).await;
    session.run(NEXT).await;
    assert_eq!(session.run(OTHERS).await, others);
    let next = session.run("SELECT note FROM t WHERE id = 0").await;
    assert_eq!(next.matches("next").count(), 1, "{next}");
    assert_counts_are_true(&session).await;
    session.settle().await;
    assert_eq!(files(&dir.join("wal")), BTreeSet::new());
    assert_eq!(files(&dir.join(".supertable-local/tmp")), BTreeSet::new());
    happened
}

/// The manifest's count is that of the rows that are read.
async fn assert_counts_are_true(session: &Session) {
    let counted = session.run("SELECT count(*) AS n FROM t").await;
    let read = session
        .run("SELECT count(id) AS n FROM t WHERE id >= 0")
        .await;
    assert_eq!(counted, read);
}

/// All superfiles and sidecars are the base's or in use, and all in use are there.
async fn assert_nothing_staged(dir: &Path, expected: &Expected, session: &Session) {
    let used: BTreeSet<PathBuf> = session
        .needed()
        .await
        .iter()
        .filter_map(|path| Some(path.strip_prefix("superfiles").ok()?.to_owned()))
        .collect();
    let found = files(&dir.join("superfiles"));
    assert!(used.is_subset(&found), "missing: {used:?}, {found:?}");
    let left: Vec<_> = found
        .iter()
        .filter(|file| !used.contains(*file) && !expected.files.contains(*file))
        .collect();
    assert!(left.is_empty(), "staged and left: {left:?}");
}

/// Kills each statement, known by a name, at its operations that change something, in the ways that
/// `ways` chooses by the statement's and the operation's number; and checks every promise.
pub(crate) fn kill_everywhere(
    statements: &[(&str, String)],
    ways: impl Fn(usize, usize, bool) -> Vec<usize>,
) {
    let base = TempDir::new().unwrap();
    on_one_thread(|| create_base(base.path())).unwrap();
    let mut jobs = Vec::new();
    let mut expected = Vec::new();
    for (number, (_, sql)) in statements.iter().enumerate() {
        expected.push(on_one_thread(|| expect(base.path(), sql)).unwrap());
        let kills = Kill::never(sql, Time::Now)
            .everywhere(base.path(), |i, changes| ways(number, i, changes));
        jobs.extend(kills.into_iter().map(|kill| (number, kill)));
    }
    let deaths = run_all(
        &jobs,
        |(number, kill)| format!("{}, {kill}:", statements[*number].0),
        async |(number, kill), dir| {
            copy(base.path(), dir);
            let death = kill.carry_out_surely(dir);
            let happened = check(dir, &expected[*number], death.acknowledged).await;
            (*number, death, happened)
        },
    );
    for (number, (name, _)) in statements.iter().enumerate() {
        let of = || {
            deaths
                .iter()
                .filter(|(n, death, _)| *n == number && death.killed)
        };
        let happened = of().filter(|(.., happened)| *happened).count();
        let acknowledged = of().filter(|(_, death, _)| death.acknowledged).count();
        println!(
            "{name}: killed {} times; it happened {happened} times, {acknowledged} acknowledged",
            of().count()
        );
        assert!(happened > 0 && happened < of().count(), "{name}");
    }
}
