//! Files of others that a table reads where they are: they cost footers, stay as they were whatever the table does, and
//! are never a wrong answer whatever their owner does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use datafusion::error::DataFusionError;
use datafusion::prelude::SessionContext;
use datafusion_supertable::unstable::format::ContentHash;
use datafusion_supertable::unstable::storage::{RetryPolicy, Storage};
use datafusion_supertable::unstable::table::{Limits, Table, VacuumOptions};
use datafusion_supertable::unstable::wal::Env;
use datafusion_supertable::unstable::wal::ManualClock;
use datafusion_supertable::{Error, ErrorKind};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use crate::support::disk::files;
use crate::support::fault_store::{Crash, Plan};
use crate::support::session::{Session, Time};
use crate::support::sql::{context, number, on_store, show as run, try_show as try_run};

const CREATE: &str = "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, v VARCHAR) \
                      STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'";
const OPEN: &str = "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION 'mem://bucket/t/'";
const ADD: &str = "SELECT * FROM supertable_add_files('t', 'mem://bucket/in/')";
const ALL: &str = "SELECT * FROM t ORDER BY id";

/// A store with `count` files of `rows` rows each in `in/`, ids ascending over all.
async fn with_files(count: u64, rows: u64) -> Arc<InMemory> {
    let store = Arc::new(InMemory::new());
    let ctx = on_store(&store, &Plan::healthy());
    for k in 0..count {
        run(
            &ctx,
            &format!(
                "COPY (SELECT value AS id, 'v' || value AS v FROM range({}, {})) \
                 TO 'mem://bucket/in/{k}.parquet' STORED AS PARQUET",
                k * rows,
                (k + 1) * rows
            ),
        )
        .await;
    }
    store
}

/// The objects in `in/` and what is in each.
async fn originals(store: &InMemory) -> BTreeMap<String, ContentHash> {
    let mut found = BTreeMap::new();
    let paths: Vec<Path> = store
        .list(Some(&Path::from("in")))
        .map_ok(|meta| meta.location)
        .try_collect()
        .await
        .unwrap();
    for path in paths {
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        found.insert(path.to_string(), ContentHash::of(&bytes));
    }
    found
}

/// An empty table `t` in `dir`.
async fn create_on_disk(session: &Session, dir: &FsPath) {
    let dir = dir.display();
    let create = format!(
        "CREATE EXTERNAL TABLE t (id BIGINT, v VARCHAR) STORED AS SUPERTABLE LOCATION '{dir}/'"
    );
    session.run(&create).await;
}

fn ours(error: &DataFusionError) -> &Error {
    Error::find_in(error).unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test]
async fn adding_files_reads_a_footer_of_each_and_writes_no_data() {
    let store = with_files(10, 150_000).await;
    let mut total = 0;
    for name in originals(&store).await.keys() {
        let path = Path::from(name.as_str());
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        total += bytes.len();
        // The first half is pages. Nobody may look at them.
        let mut hidden = bytes.to_vec();
        hidden[4..bytes.len() / 2].fill(0);
        store.put(&path, hidden.into()).await.unwrap();
    }
    assert!(total > 6_000_000, "{total}");
    let plan = Plan::healthy();
    let ctx = on_store(&store, &plan);
    run(&ctx, CREATE).await;
    let before = plan.log().len();
    run(&ctx, ADD).await;
    datafusion_supertable::wait_for_background_work(&ctx).await;
    let log = plan.log().split_off(before);
    let of_files = |kind: &str| {
        log.iter()
            .filter(|o| o.kind == kind && o.path.starts_with("in"))
            .count()
    };
    assert_eq!(
        (of_files("list"), of_files("head"), of_files("get")),
        (1, 10, 10),
        "{log:#?}"
    );
    let written: usize = log.iter().map(|o| o.bytes).sum();
    assert!(written < 20_000, "{written} bytes written");
    assert!(!log.iter().any(|o| o.kind == "copy"));
    assert!(log.len() < 60, "{} requests", log.len());
    // Their rows are counted without looking, too.
    assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 1_500_000);
}

/// What a table in place answers is what one answers into which the same rows were inserted.
#[tokio::test]
async fn a_table_of_files_in_place_answers_as_one_of_copies_and_one_of_inserted_rows() {
    let store = with_files(3, 5_000).await;
    let ctx = on_store(&store, &Plan::healthy());
    run(
        &ctx,
        "CREATE EXTERNAL TABLE plain STORED AS PARQUET LOCATION 'mem://bucket/in/'",
    )
    .await;
    for name in ["placed", "copied", "inserted"] {
        run(
            &ctx,
            &CREATE
                .replace("TABLE t", &format!("TABLE {name}"))
                .replace("bucket/t/", &format!("bucket/{name}/")),
        )
        .await;
    }
    run(&ctx, &ADD.replace("'t'", "'placed'")).await;
    run(
        &ctx,
        "SELECT * FROM supertable_add_files('copied', 'mem://bucket/in/', copy => true)",
    )
    .await;
    run(&ctx, "INSERT INTO inserted SELECT * FROM plain").await;
    let changes = [
        "DELETE FROM t WHERE id % 3 = 1",
        "UPDATE t SET v = v || '!' WHERE id BETWEEN 4990 AND 5010",
        "DELETE FROM t WHERE id >= 14000",
        "SELECT count(*) FROM supertable_optimize('t', deleted_percent => 35)",
        "MERGE INTO t USING (VALUES (7, 'seven'), (-1, 'new')) AS s(k, w) ON t.id = s.k \
         WHEN MATCHED THEN UPDATE SET v = s.w WHEN NOT MATCHED THEN INSERT (id, v) VALUES (s.k, s.w)",
        "SELECT count(*) FROM supertable_optimize('t', full => true)",
    ];
    let queries = [
        ALL,
        "SELECT count(*) AS n, count(v) AS vs, min(id) AS a, max(id) AS b, min(v) AS c, max(v) AS d FROM t",
        "SELECT v FROM t WHERE id = 4999",
        "SELECT id FROM t WHERE v >= 'v13' AND v < 'v132' ORDER BY id DESC LIMIT 7",
        "SELECT sum(id) AS s FROM t WHERE id % 2 = 0 OR v LIKE '%!'",
        "SELECT _change_type, id, v, _version FROM supertable_changes('t', 0) ORDER BY 4, 2, 1",
        "SELECT id, v FROM supertable_at('t', 2) ORDER BY id LIMIT 50",
    ];
    let compared = |_: usize| {
        let ctx = &ctx;
        async move {
            for sql in queries {
                let answer = async |name: &str| {
                    let sql = sql
                        .replace("FROM t ", &format!("FROM {name} "))
                        .replace("'t'", &format!("'{name}'"));
                    let sql = match sql.strip_suffix("FROM t") {
                        Some(start) => format!("{start}FROM {name}"),
                        None => sql,
                    };
                    run(ctx, &sql).await
                };
                let expected = answer("inserted").await;
                assert_eq!(answer("copied").await, expected, "{sql}");
                assert_eq!(answer("placed").await, expected, "{sql}");
            }
        }
    };
    compared(0).await;
    for (k, change) in changes.into_iter().enumerate() {
        for name in ["placed", "copied", "inserted"] {
            let sql = change
                .replace("FROM t ", &format!("FROM {name} "))
                .replace("UPDATE t ", &format!("UPDATE {name} "))
                .replace("INTO t ", &format!("INTO {name} "))
                .replace("ON t.", &format!("ON {name}."))
                .replace("'t'", &format!("'{name}'"));
            run(&ctx, &sql).await;
        }
        // A compaction that chooses what it takes may choose otherwise, and then versions differ.
        if !change.contains("deleted_percent") {
            compared(k + 1).await;
        }
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_at_any_operation_of_an_adoption_leaves_all_or_nothing_and_the_files() {
    let store = with_files(3, 40).await;
    {
        let ctx = on_store(&store, &Plan::healthy());
        run(&ctx, CREATE).await;
        run(&ctx, "INSERT INTO t VALUES (-1, 'first')").await;
        datafusion_supertable::wait_for_background_work(&ctx).await;
    }
    let files = originals(&store).await;
    let plan = Plan::healthy();
    {
        let copy = Arc::new(store.fork());
        let ctx = on_store(&copy, &plan);
        run(&ctx, OPEN).await;
        run(&ctx, ADD).await;
        datafusion_supertable::wait_for_background_work(&ctx).await;
    }
    let (mut all, mut nothing) = (0, 0);
    for k in 1..=plan.operations() {
        for crash in [Crash::Before(k), Crash::After(k)] {
            let store = Arc::new(store.fork());
            let dying = on_store(&store, &Plan::crash(crash));
            let added = match try_run(&dying, OPEN).await {
                Ok(_) => try_run(&dying, ADD).await.is_ok(),
                Err(_) => false,
            };
            datafusion_supertable::wait_for_background_work(&dying).await;
            // By the clock of those for whom it is dead: recover, and delete all that can be.
            let system = Env::system();
            let clock = ManualClock::at_ms(system.now_ms());
            clock.advance(TimeDelta::days(30));
            let storage = Storage::new(
                Arc::clone(&store) as Arc<dyn ObjectStore>,
                &Path::from("t"),
                RetryPolicy::default(),
            );
            let env = Env {
                clock: Arc::new(clock),
                ids: system.ids,
            };
            let limits = Limits {
                lease: TimeDelta::milliseconds(50),
                ..Limits::default()
            };
            let table = Table::open_with(storage, env, limits).await.unwrap();
            table.recover().await.unwrap();
            let options = VacuumOptions {
                retain: Duration::ZERO,
                dry_run: false,
            };
            table.vacuum(options).await.unwrap();
            table.settle().await;
            let ctx = on_store(&store, &Plan::healthy());
            run(&ctx, OPEN).await;
            let rows = number(&ctx, "SELECT count(id) FROM t WHERE id > -5").await;
            assert!(rows == 121 || (rows == 1 && !added), "{crash:?}: {rows}");
            match rows {
                1 => nothing += 1,
                _ => all += 1,
            }
            assert_eq!(originals(&store).await, files, "{crash:?}");
            // What did not happen can be done, and what did is not done twice.
            match try_run(&ctx, ADD).await {
                Ok(_) => assert_eq!(rows, 1),
                Err(e) => assert_eq!((ours(&e).kind(), rows), (ErrorKind::InvalidArgument, 121)),
            }
            assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 121);
            datafusion_supertable::wait_for_background_work(&ctx).await;
        }
    }
    eprintln!("{all} times added, {nothing} times not");
    assert!(all > 5 && nothing > 5, "{all} {nothing}");
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_that_add_a_file_at_once_one_does_and_the_other_is_told() {
    let mut lost = BTreeSet::new();
    for seed in 0..40 {
        let store = with_files(2, 10).await;
        let first = on_store(&store, &Plan::jittered(seed));
        run(&first, CREATE).await;
        let second = on_store(&store, &Plan::jittered(1_000 + seed));
        run(&second, OPEN).await;
        let (one, other) = tokio::join!(try_run(&first, ADD), try_run(&second, ADD));
        assert!(one.is_ok() != other.is_ok(), "{seed}: {one:?} {other:?}");
        lost.insert(one.is_err());
        let error = one.err().or(other.err()).unwrap();
        assert_eq!(ours(&error).kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(ours(&error).subject().contains("in/0.parquet"), "{error}");
        assert_eq!(number(&second, "SELECT count(*) FROM t").await, 20);
        datafusion_supertable::wait_for_background_work(&first).await;
        datafusion_supertable::wait_for_background_work(&second).await;
    }
    assert_eq!(lost.len(), 2, "one always wins");
}

#[tokio::test(start_paused = true)]
async fn an_adoption_beside_a_restore_of_the_same_files_never_has_their_rows_twice() {
    let (mut restored_first, mut added_first) = (0, 0);
    for seed in 0..60 {
        let store = with_files(2, 10).await;
        let first = on_store(&store, &Plan::jittered(seed));
        run(&first, CREATE).await;
        run(&first, ADD).await;
        run(&first, "DELETE FROM t").await;
        let second = on_store(&store, &Plan::jittered(1_000 + seed));
        run(&second, OPEN).await;
        let restore = "SELECT * FROM supertable_restore('t', 2)";
        let (added, restored) = tokio::join!(try_run(&first, ADD), try_run(&second, restore));
        // A restore that comes second replaces what was added, by the same.
        restored.unwrap();
        match added {
            Ok(_) => added_first += 1,
            Err(error) => {
                assert_eq!(ours(&error).kind(), ErrorKind::InvalidArgument, "{error}");
                restored_first += 1;
            }
        }
        for ctx in [&first, &second] {
            assert_eq!(number(ctx, "SELECT count(*) FROM t").await, 20, "{seed}");
            datafusion_supertable::wait_for_background_work(ctx).await;
        }
    }
    eprintln!("{restored_first} {added_first}");
    assert!(
        restored_first > 5 && added_first > 5,
        "{restored_first} {added_first}"
    );
}

/// What a session says of the table when the file is `bytes`: it knows its footer, or nothing.
async fn says(ctx: &SessionContext, known: bool, sql: &str) -> Result<String, DataFusionError> {
    if !known {
        ctx.runtime_env()
            .cache_manager
            .get_file_metadata_cache()
            .clear();
    }
    try_run(ctx, sql).await
}

#[tokio::test]
async fn a_file_that_was_replaced_cut_or_removed_is_an_error_that_names_it_and_never_rows() {
    let store = with_files(2, 50).await;
    let ctx = on_store(&store, &Plan::healthy());
    run(&ctx, CREATE).await;
    run(&ctx, ADD).await;
    for deleted in [false, true] {
        if deleted {
            run(&ctx, "DELETE FROM t WHERE id % 7 = 0").await;
        }
        run(&ctx, ALL).await;
        let path = Path::from("in/1.parquet");
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
        let reads = [
            ALL,
            "SELECT v FROM t WHERE id BETWEEN 60 AND 70",
            "SELECT count(v) FROM t WHERE v LIKE '%1'",
        ];
        let check = async |kind: ErrorKind, what: &str| {
            for (k, sql) in reads.into_iter().enumerate() {
                let error = says(&ctx, k == 0, sql).await.unwrap_err();
                let error = ours(&error);
                assert_eq!(error.kind(), kind, "{what}: {sql}: {error}");
                assert_eq!(error.subject(), path.as_ref(), "{what}: {sql}: {error}");
                assert!(error.detail().contains("restore"), "{what}: {error}");
            }
            for sql in [
                "UPDATE t SET v = 'x'",
                "SELECT * FROM supertable_optimize('t', full => true)",
            ] {
                let error = try_run(&ctx, sql).await.unwrap_err();
                assert_eq!(ours(&error).subject(), path.as_ref(), "{sql}");
            }
        };
        for at in (0..bytes.len()).step_by(101) {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            store.put(&path, other.into()).await.unwrap();
            check(ErrorKind::Corrupt, &format!("byte {at}")).await;
        }
        for end in (0..bytes.len()).step_by(211) {
            store.put(&path, bytes.slice(..end).into()).await.unwrap();
            check(ErrorKind::Corrupt, &format!("{end} bytes")).await;
        }
        let longer = [bytes.as_ref(), b"more"].concat();
        store.put(&path, longer.into()).await.unwrap();
        check(ErrorKind::Corrupt, "longer").await;
        store.delete(&path).await.unwrap();
        check(ErrorKind::NotFound, "gone").await;
        // What needs nothing of it goes on, and there is a way out.
        assert_eq!(
            number(&ctx, "SELECT count(*) FROM t WHERE id < 10").await,
            if deleted { 8 } else { 10 }
        );
        let way_out = match deleted {
            false => "DELETE FROM t WHERE id >= 50",
            true => "SELECT * FROM supertable_restore('t', 1)",
        };
        run(&ctx, way_out).await;
        assert_eq!(
            run(&ctx, ALL).await.matches("v6").count(),
            usize::from(!deleted)
        );
        store.put(&path, bytes.into()).await.unwrap();
        let add = match deleted {
            false => ADD.replace("in/", "in/1.parquet"),
            true => ADD.to_owned(),
        };
        run(&ctx, &add).await;
        assert_eq!(
            number(&ctx, "SELECT count(v) FROM t WHERE id > 0").await,
            99
        );
    }
    datafusion_supertable::wait_for_background_work(&ctx).await;
}

/// The files below a directory and what is in each.
fn contents(dir: &FsPath) -> BTreeMap<PathBuf, ContentHash> {
    let hash = |file: PathBuf| {
        let bytes = std::fs::read(dir.join(&file)).unwrap();
        (file, ContentHash::of(&bytes))
    };
    files(dir).into_iter().map(hash).collect()
}

async fn copy_rows(session: &Session, first: i64, to: &FsPath) {
    let sql = format!(
        "COPY (SELECT value AS id, 'v' || value AS v FROM range({first}, {})) TO '{}' STORED AS PARQUET",
        first + 10,
        to.display()
    );
    session.run(&sql).await;
}

#[tokio::test]
async fn whatever_a_table_on_the_disk_does_the_files_stay_as_they_are() {
    let dir = TempDir::new().unwrap();
    let session = Session::catalog(context(), &format!("{}/lake/", dir.path().display()));
    let (outside, inside) = (dir.path().join("in"), dir.path().join("lake/public/t/data"));
    copy_rows(&session, 0, &outside.join("a.parquet")).await;
    copy_rows(&session, 10, &outside.join("b.parquet")).await;
    session
        .run("CREATE TABLE lake.public.t (id BIGINT, v VARCHAR)")
        .await;
    copy_rows(&session, 20, &inside.join("c.parquet")).await;
    let before = (contents(&outside), contents(&inside));
    for place in [&outside, &inside] {
        let sql = format!(
            "SELECT placed FROM supertable_add_files('lake.public.t', '{}/')",
            place.display()
        );
        let placed = session.run(&sql).await;
        assert!(placed.contains("in place") && !placed.contains("copied"));
    }
    let vacuum = "SELECT * FROM supertable_vacuum('lake.public.t', retain => INTERVAL '0' SECOND";
    for sql in [
        "DELETE FROM lake.public.t WHERE id % 10 = 3",
        "UPDATE lake.public.t SET v = 'x' WHERE id % 10 = 4",
        "SELECT * FROM supertable_optimize('lake.public.t', full => true)",
        &format!("{vacuum}, dry_run => true)"),
        &format!("{vacuum})"),
        "INSERT OVERWRITE lake.public.t SELECT * FROM lake.public.t WHERE id < 5",
        "TRUNCATE TABLE lake.public.t",
        &format!("{vacuum})"),
        "SELECT * FROM supertable_recover('lake.public.t')",
    ] {
        session.run(sql).await;
        session.settle().await;
        assert_eq!((contents(&outside), contents(&inside)), before, "{sql}");
    }
    let add = format!(
        "SELECT * FROM supertable_add_files('lake.public.t', '{}/')",
        outside.display()
    );
    session.run(&add).await;
    session
        .run("CREATE OR REPLACE TABLE lake.public.t AS SELECT * FROM lake.public.t WHERE id = 1")
        .await;
    session.run(&format!("{vacuum})")).await;
    assert_eq!((contents(&outside), contents(&inside)), before, "replaced");
    session.run(&add).await;
    session.run("DROP TABLE lake.public.t").await;
    session.settle().await;
    assert_eq!((contents(&outside), contents(&inside)), before, "dropped");
    // The name is free again, though a directory is still there.
    session
        .run("CREATE TABLE lake.public.t (id BIGINT, v VARCHAR)")
        .await;
    session.run(&add).await;
    let count = session.run("SELECT count(*) FROM lake.public.t").await;
    assert!(count.contains("20"), "{count}");
    session.settle().await;
}

#[tokio::test]
async fn a_file_on_the_disk_has_one_path_whatever_links_lead_to_it() {
    let dir = TempDir::new().unwrap();
    let session = Session::bare(context());
    let at = |name: &str| dir.path().join(name);
    copy_rows(&session, 0, &at("real/a.parquet")).await;
    std::os::unix::fs::symlink(at("real"), at("link")).unwrap();
    create_on_disk(&session, &at("t")).await;
    let add = |place: &str| {
        format!(
            "SELECT placed FROM supertable_add_files('t', '{}')",
            at(place).display()
        )
    };
    let placed = session.run(&add("link/a.parquet")).await;
    assert!(placed.contains("in place"), "{placed}");
    let error = session.try_run(&add("real/a.parquet")).await.unwrap_err();
    assert_eq!(ours(&error).kind(), ErrorKind::InvalidArgument, "{error}");
    // The link leads elsewhere, and the table still reads what it took in.
    copy_rows(&session, 50, &at("other/a.parquet")).await;
    std::fs::remove_file(at("link")).unwrap();
    std::os::unix::fs::symlink(at("other"), at("link")).unwrap();
    let all = session.run("SELECT min(id), max(id) FROM t").await;
    let rows = session.run("SELECT id FROM t WHERE v = 'v7'").await;
    assert!(rows.contains("| 7"), "{all} {rows}");
    // Two names of one file in one call.
    std::os::unix::fs::symlink(at("other/a.parquet"), at("other/b.parquet")).unwrap();
    let error = session.try_run(&add("other/")).await.unwrap_err();
    assert_eq!(ours(&error).kind(), ErrorKind::InvalidArgument, "{error}");
    // Nor does a link hide a superfile.
    session.run("INSERT INTO t VALUES (99, 'x')").await;
    let superfile = files(&at("t/superfiles")).pop_first().unwrap();
    std::os::unix::fs::symlink(at("t/superfiles").join(superfile), at("hidden.parquet")).unwrap();
    let error = session.try_run(&add("hidden.parquet")).await.unwrap_err();
    assert!(
        ours(&error).detail().contains("file of a supertable"),
        "{error}"
    );
    session.settle().await;
}

#[tokio::test]
async fn a_table_that_is_moved_takes_the_files_below_it_along() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    {
        let session = Session::bare(context());
        create_on_disk(&session, &at("t")).await;
        copy_rows(&session, 0, &at("t/data/a.parquet")).await;
        copy_rows(&session, 10, &at("in/b.parquet")).await;
        for place in ["t/data/", "in/"] {
            let sql = format!(
                "SELECT * FROM supertable_add_files('t', '{}/')",
                at(place).display()
            );
            session.run(&sql).await;
        }
        session.settle().await;
    }
    std::fs::rename(at("t"), at("moved")).unwrap();
    let session = Session::fresh(&at("moved"), Time::Now).await;
    let rows = session
        .run("SELECT count(id) AS n, max(v) AS v FROM t WHERE id > 0")
        .await;
    assert!(rows.contains("| 19 | v9 |"), "{rows}");
    session.settle().await;
}

#[tokio::test]
async fn a_file_on_the_disk_that_is_written_over_in_place_is_an_error() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    let session = Session::bare(context());
    create_on_disk(&session, &at("t")).await;
    // Two files that differ in a value alone: neither their footers nor their lengths tell.
    for (name, value) in [("in/a.parquet", 5), ("other.parquet", 6)] {
        let sql = format!(
            "COPY (SELECT column1 AS id FROM (VALUES (1), ({value}), (9))) TO '{}' STORED AS PARQUET \
             OPTIONS ('compression' 'uncompressed', 'dictionary_enabled' 'false')",
            at(name).display()
        );
        session.run(&sql).await;
    }
    // Added as soon as it is written, and written over as soon as it was added.
    let add = format!(
        "SELECT * FROM supertable_add_files('t', '{}/')",
        at("in").display()
    );
    session.run(&add).await;
    let file = at("in/a.parquet");
    let (before, other) = (
        std::fs::read(&file).unwrap(),
        std::fs::read(at("other.parquet")).unwrap(),
    );
    let differ = (0..before.len()).filter(|k| before[*k] != other[*k]);
    assert_eq!((before.len(), differ.count()), (other.len(), 1));
    std::fs::write(&file, &other).unwrap();
    for _ in 0..2 {
        let error = session.try_run("SELECT * FROM t").await.unwrap_err();
        assert_eq!(ours(&error).kind(), ErrorKind::Corrupt, "{error}");
        assert!(ours(&error).subject().ends_with("in/a.parquet"), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
    let error = session.try_run("SELECT * FROM t").await.unwrap_err();
    assert_eq!(ours(&error).kind(), ErrorKind::NotFound, "{error}");
    session.settle().await;
}

#[tokio::test]
async fn a_file_of_no_bytes_is_named_and_nothing_is_added() {
    let store = with_files(1, 10).await;
    store
        .put(
            &Path::from("in/nothing.parquet"),
            bytes::Bytes::new().into(),
        )
        .await
        .unwrap();
    let ctx = on_store(&store, &Plan::healthy());
    run(&ctx, CREATE).await;
    let error = try_run(&ctx, ADD).await.unwrap_err();
    let text = ours(&error).to_string();
    assert!(text.contains("in/nothing.parquet: has 0 bytes"), "{text}");
    assert_eq!(number(&ctx, "SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn files_of_a_table_whose_own_records_say_what_counts_are_refused() {
    let store = with_files(1, 10).await;
    let session = Session::bare(on_store(&store, &Plan::healthy()));
    session.run(CREATE).await;
    let file = Path::from("in/0.parquet");
    for (root, mark, text, expected) in [
        (
            "delta",
            "_delta_log/00000000000000000000.json",
            "{}",
            "a Delta table",
        ),
        (
            "iceberg",
            "metadata/v1.metadata.json",
            "{}",
            "an Iceberg table",
        ),
        ("hudi", ".hoodie/hoodie.properties", "", "a Hudi table"),
        ("super", "_supertable/current", "{}", "a supertable"),
        (
            "infino",
            "_supertable/current",
            "manifest_id=5",
            "a table of infino",
        ),
        ("lake", "_catalog/current", "{}", "a catalog of infino"),
    ] {
        let mark = Path::from(format!("{root}/{mark}"));
        store.put(&mark, text.into()).await.unwrap();
        let copy = Path::from(format!("{root}/data/year=2024/0.parquet"));
        store.copy(&file, &copy).await.unwrap();
        // From above the root, at it, below it, by a pattern, and by the file's own name.
        for (place, option) in [
            (String::new(), ""),
            (format!("{root}/"), ""),
            (format!("{root}/data/"), ", copy => true"),
            (format!("{root}/*/*/*.parquet"), ""),
            (copy.to_string(), ""),
        ] {
            let add =
                format!("SELECT * FROM supertable_add_files('t', 'mem://bucket/{place}'{option})");
            let error = session.try_run(&add).await.unwrap_err();
            assert_eq!(ours(&error).kind(), ErrorKind::InvalidArgument, "{error}");
            assert!(error.to_string().contains(expected), "{place}: {error}");
            assert!(error.to_string().contains("INSERT INTO"), "{error}");
        }
        store.delete(&copy).await.unwrap();
        store.delete(&mark).await.unwrap();
    }
    // Files beside such tables are plain files, and so are those below the root of the table that takes them.
    store
        .put(&Path::from("delta/_delta_log/0.json"), "{}".into())
        .await
        .unwrap();
    session.run(ADD).await;
    store
        .copy(&file, &Path::from("t/data/1.parquet"))
        .await
        .unwrap();
    session
        .run("SELECT * FROM supertable_add_files('t', 'mem://bucket/t/data/')")
        .await;
    assert_eq!(number(&session.ctx, "SELECT count(*) FROM t").await, 20);
}

#[tokio::test]
async fn a_link_does_not_hide_that_a_file_is_one_of_a_table() {
    let dir = TempDir::new().unwrap();
    let session = Session::bare(context());
    let at = |name: &str| dir.path().join(name);
    copy_rows(&session, 0, &at("delta/a.parquet")).await;
    std::fs::create_dir(at("delta/_delta_log")).unwrap();
    std::fs::write(at("delta/_delta_log/0.json"), "{}").unwrap();
    std::fs::create_dir(at("plain")).unwrap();
    std::os::unix::fs::symlink(at("delta/a.parquet"), at("plain/a.parquet")).unwrap();
    create_on_disk(&session, &at("t")).await;
    let add = format!(
        "SELECT * FROM supertable_add_files('t', '{}/')",
        at("plain").display()
    );
    let error = session.try_run(&add).await.unwrap_err();
    assert!(error.to_string().contains("a Delta table"), "{error}");
}
