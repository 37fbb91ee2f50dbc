//! Real processes that are killed by SIGKILL at each of their storage operations, on the local disk, while
//! they change rows; and recoveries that are killed too.
//!
//! How a child dies is `support::kill`'s; what must hold then is `support::killed_table`'s.

use tempfile::TempDir;

use crate::support::disk::copy;
use crate::support::kill::{Kill, MOMENTS, run_all, thorough};
use crate::support::killed_table::{RECOVER, check, create_base, expect, kill_everywhere};
use crate::support::session::{Session, Time, on_one_thread};

/// None gives the same result when it happens twice.
const STATEMENTS: [(&str, &str); 5] = [
    (
        "UPDATE",
        "UPDATE t SET v = v + 100, note = 'updated ' || note WHERE id % 3 = 1",
    ),
    ("DELETE", "DELETE FROM t WHERE id % 3 = 1 OR id >= 20"),
    (
        "INSERT",
        "INSERT INTO t SELECT id + 100, v, note FROM t WHERE id < 20",
    ),
    (
        "MERGE",
        "MERGE INTO t USING (SELECT id + 15 AS id, v FROM t WHERE id > 0) AS s ON t.id = s.id \
         WHEN MATCHED AND s.id % 2 = 0 THEN DELETE \
         WHEN MATCHED THEN UPDATE SET v = t.v + s.v + 100 \
         WHEN NOT MATCHED THEN INSERT (id, v, note) VALUES (s.id, s.v, 'merged')",
    ),
    (
        "INSERT OVERWRITE",
        "INSERT OVERWRITE t SELECT id, v + 100, note FROM t",
    ),
];

#[test]
fn a_process_killed_at_any_storage_operation_leaves_all_or_nothing() {
    let statements = STATEMENTS.map(|(name, sql)| (name, sql.to_owned()));
    kill_everywhere(&statements, |number, i, changes| match number {
        // Of an UPDATE, each operation.
        0 if changes => vec![0, 1, 2],
        0 => vec![i % 3],
        _ if changes => vec![i % 3],
        _ => vec![],
    });
}

#[test]
fn a_recovery_killed_again_and_again_leaves_all_or_nothing() {
    let at_most = if thorough() { usize::MAX } else { 6 };
    let base = TempDir::new().unwrap();
    on_one_thread(|| create_base(base.path())).unwrap();
    let (_, sql) = STATEMENTS[0];
    let expected = on_one_thread(|| expect(base.path(), sql)).unwrap();
    // Where the first process dies: what it staged has no end; to be committed; committed; COMPLETE.
    let first_deaths = [
        ("before", "put change set"),
        ("before", "put pointer"),
        ("after", "put pointer"),
        ("before", "delete change set"),
    ];
    let mut left = Vec::new();
    let mut jobs = Vec::new();
    for (number, (moment, at)) in first_deaths.into_iter().enumerate() {
        let dir = TempDir::new().unwrap();
        copy(base.path(), dir.path());
        let kill = Kill::never(sql, Time::Now).at(moment, &(at.to_owned(), 1));
        let death = kill.carry_out(dir.path());
        assert!(death.killed);
        let recover = Kill::never(RECOVER, Time::Later(10));
        let once_more = Kill::never(RECOVER, Time::Later(20));
        let operations = recover.operations(dir.path());
        println!(
            "killed {kill}: its recovery takes {} operations",
            operations.len()
        );
        left.push((dir, death.acknowledged));
        let step = operations.len().div_ceil(at_most);
        for (i, point) in operations.iter().enumerate().step_by(step) {
            let other = &operations[(i * 7 + 3) % operations.len()];
            jobs.push((
                number,
                recover.at(MOMENTS[i % 3], point),
                once_more.at(MOMENTS[(i + 1) % 3], other),
            ));
        }
    }
    let killed = run_all(
        &jobs,
        |(number, first, second)| format!("{:?}, {first}, {second}:", first_deaths[*number]),
        async |(number, first, second), dir| {
            let (from, acknowledged) = &left[*number];
            copy(from.path(), dir);
            let mut killed = usize::from(first.carry_out(dir).killed);
            // Two at once: one is killed, the other comes to its end.
            std::thread::scope(|scope| {
                scope.spawn(|| second.unharmed().carry_out(dir));
                killed += usize::from(second.carry_out(dir).killed);
            });
            let happened = check(dir, &expected, *acknowledged).await;
            // Before it is APPENDED it cannot happen, and from then on it must.
            assert_eq!(happened, *number > 0, "a recovery decided otherwise");
            killed
        },
    );
    println!(
        "{} recoveries killed in {} tables",
        killed.iter().sum::<usize>(),
        killed.len()
    );
}

#[test]
fn an_upsert_killed_at_any_storage_operation_and_run_by_another_process_leaves_its_key_once() {
    leaves_its_key_once(
        &[],
        "MERGE INTO t USING (VALUES (500, 1)) AS s(id, v) ON t.id = s.id \
         WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.id, s.v)",
    );
}

#[test]
fn an_insert_of_a_declared_key_killed_at_any_storage_operation_leaves_it_once() {
    leaves_its_key_once(
        &["ALTER TABLE t ADD PRIMARY KEY (id)"],
        "INSERT INTO t (id, v) VALUES (500, 1) ON CONFLICT (id) DO NOTHING",
    );
}

/// Kills `statement`, which adds the row 500 unless it is there, and runs it again.
fn leaves_its_key_once(first: &'static [&str], statement: &'static str) {
    const FOUND: &str = "SELECT count(*) AS n FROM t WHERE id = 500 HAVING count(*) <> 1";
    let base = TempDir::new().unwrap();
    on_one_thread(|| create_base(base.path())).unwrap();
    on_one_thread(async || {
        let session = Session::fresh(base.path(), Time::Now).await;
        for sql in first {
            session.run(sql).await;
        }
        session.settle().await;
    })
    .unwrap();
    let kills =
        Kill::never(statement, Time::Now).everywhere(base.path(), |i, changes| match changes {
            true => vec![i % 3],
            false => vec![],
        });
    let killed = run_all(
        &kills,
        |kill| format!("{kill}:"),
        async |kill, dir| {
            copy(base.path(), dir);
            let death = kill.carry_out_surely(dir);
            // What the dead process has ready is committed meanwhile, or was before.
            let session = Session::fresh(dir, Time::Now).await;
            session.run(statement).await;
            session.settle().await;
            let session = Session::fresh(dir, Time::Later(60)).await;
            session.run(RECOVER).await;
            session.settle().await;
            assert_eq!(session.run(FOUND).await, "");
            assert_eq!(session.run(RECOVER).await, "");
            death.killed
        },
    );
    println!("{} upserts killed", killed.iter().filter(|it| **it).count());
}
