//! Statements over three worker processes: the same answers, the same errors, and what becomes of them when a worker
//! is killed.
//!
//! Each worker is a process of the `supertable` binary on the loopback interface, at a port that it chose.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_distributed::DistributedExt;
use datafusion_distributed::grpc::DefaultChannelResolver;
use datafusion_supertable::distributed::{FixedWorkers, coordinator};
use datafusion_supertable::{Error, ErrorKind};
use sqllogictest::Record;

use crate::sqllogic::{Column, Place, run_all};

/// A worker process, which ends with this value.
pub(crate) struct WorkerProcess {
    child: Child,
    /// Where it listens.
    pub(crate) address: String,
}

impl WorkerProcess {
    /// Starts one, at a free port.
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    fn start_at(address: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_supertable"))
            .args(["worker", "--listen", address])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().to_owned();
        assert!(address.starts_with("http://127.0.0.1:"), "{line}");
        // Nothing more is said there; a closed pipe would end the process.
        std::thread::spawn(move || output.read_to_end(&mut Vec::new()));
        Self { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three workers.
pub(crate) fn three() -> Vec<WorkerProcess> {
    (0..3).map(|_| WorkerProcess::start()).collect()
}

fn addresses(workers: &[WorkerProcess]) -> Vec<String> {
    workers.iter().map(|w| w.address.clone()).collect()
}

/// A session that has `workers` execute whatever they can, however little it is.
pub(crate) fn session(config: SessionConfig, workers: &[String]) -> SessionContext {
    let builder = SessionStateBuilder::new()
        .with_default_features()
        .with_config(config);
    let workers = FixedWorkers::new(workers).unwrap();
    let mut state = coordinator(builder, workers).build();
    let config = state.config_mut();
    // Otherwise sessions share connections, and with them the threads of the test that was first.
    config.set_distributed_channel_resolver(DefaultChannelResolver::default());
    let options = config.options_mut();
    options
        .set("distributed.file_scan_config_bytes_per_partition", "1")
        .unwrap();
    // Tables of one small superfile are cut, too.
    options.optimizer.repartition_file_min_size = 0;
    SessionContext::new_with_state(state)
}

/// Whether a record of `sql/` means the same with workers. What `EXPLAIN` shows as a plan does not: there are stages, and
/// joins that read a statement's source first are the engine's instead. An `EXPLAIN` of which the text is not compared runs.
pub(crate) fn runs_on_workers(record: &Record<Column>) -> bool {
    match record {
        Record::Query { sql, .. } => !sql.trim_start().to_ascii_uppercase().starts_with("EXPLAIN"),
        _ => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sql_file_holds_on_three_workers() {
    let workers = three();
    let directory = tempfile::tempdir().unwrap();
    run_all(&Place::local(directory.path()).with_workers(addresses(&workers))).await;
}

/// Rows of a result as text, in the order in which they came.
async fn rows(session: &SessionContext, sql: &str) -> Result<Vec<String>, DataFusionError> {
    let batches = datafusion_supertable::sql(session, sql)
        .await?
        .collect()
        .await?;
    let mut rows = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cells: Vec<String> = batch
                .columns()
                .iter()
                .map(|column| {
                    let options = FormatOptions::default().with_null("NULL");
                    let text = ArrayFormatter::try_new(column, &options).unwrap();
                    text.value(row).to_string()
                })
                .collect();
            rows.push(cells.join("|"));
        }
    }
    Ok(rows)
}

async fn run(session: &SessionContext, sql: &str) -> Vec<String> {
    rows(session, sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// Whether workers execute a part of `sql`.
async fn is_on_workers(session: &SessionContext, sql: &str) -> bool {
    let shown = run(session, &format!("EXPLAIN {sql}")).await;
    shown.iter().any(|row| row.contains("Stage 1"))
}

fn partitions() -> SessionConfig {
    SessionConfig::new().with_target_partitions(4)
}

/// A table of six superfiles of `rows` rows each in `directory`, some of them deleted.
async fn create(session: &SessionContext, directory: &Path, rows: usize) {
    let at = directory.display();
    run(
        session,
        &format!(
            "CREATE EXTERNAL TABLE t (id BIGINT NOT NULL, k INT, v DOUBLE, s VARCHAR) \
             STORED AS SUPERTABLE LOCATION '{at}/t/'"
        ),
    )
    .await;
    for file in 0..6 {
        let (from, to) = (file * rows, (file + 1) * rows);
        let insert = format!(
            "INSERT INTO t SELECT value, value % 10, value * 0.25, 'row ' || value FROM range({from}, {to})"
        );
        run(session, &insert).await;
    }
    run(session, "DELETE FROM t WHERE id % 11 = 3").await;
}

async fn open(session: &SessionContext, directory: &Path) {
    let at = directory.display();
    run(
        session,
        &format!("CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '{at}/t/'"),
    )
    .await;
}

const CHANGES: [&str; 8] = [
    "DELETE FROM t WHERE id % 7 = 1",
    "UPDATE t SET v = v + 1, s = upper(s) WHERE k IN (2, 3) AND v > 10",
    "DELETE FROM t WHERE id IN (SELECT id + 1 FROM t WHERE k = 4)",
    "MERGE INTO t USING (SELECT id + 30 AS id, k, v FROM t WHERE k < 3) AS s ON t.id = s.id \
     WHEN MATCHED AND s.k = 1 THEN DELETE \
     WHEN MATCHED THEN UPDATE SET v = s.v \
     WHEN NOT MATCHED THEN INSERT (id, k, v, s) VALUES (s.id, s.k, s.v, 'merged')",
    "UPDATE t SET v = x.m FROM (SELECT k, max(v) AS m FROM t GROUP BY k) AS x WHERE t.k = x.k AND t.id < 40",
    "DELETE FROM t WHERE NOT EXISTS (SELECT 1 FROM t AS o WHERE o.id = t.id + 1)",
    "UPDATE t SET v = NULL WHERE v > (SELECT avg(v) FROM t)",
    "DELETE FROM t WHERE v IS NULL AND k = 5",
];

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_change_rows_run_on_workers_and_do_the_same() {
    let workers = three();
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let alone = SessionContext::new_with_config(partitions());
    datafusion_supertable::register(&alone).unwrap();
    let together = session(partitions(), &addresses(&workers));
    create(&alone, here.path(), 200).await;
    create(&together, there.path(), 200).await;
    for change in CHANGES {
        assert!(is_on_workers(&together, change).await, "{change}");
        let counts = [run(&alone, change).await, run(&together, change).await];
        assert_eq!(counts[0], counts[1], "{change}");
        assert_ne!(counts[0], ["0"], "{change}");
        let all = "SELECT * FROM t ORDER BY id";
        assert!(is_on_workers(&together, all).await);
        assert_eq!(
            run(&alone, all).await,
            run(&together, all).await,
            "{change}"
        );
    }
    // Ids are kept, and are the same from here as from there.
    let ids = "SELECT _id(id), id FROM t ORDER BY id";
    run(&together, "SET supertable.expose_row_id = true").await;
    assert!(is_on_workers(&together, ids).await);
    let with_workers = run(&together, ids).await;
    let plain = SessionContext::new_with_config(partitions());
    datafusion_supertable::register(&plain).unwrap();
    run(&plain, "SET supertable.expose_row_id = true").await;
    open(&plain, there.path()).await;
    assert_eq!(with_workers, run(&plain, ids).await);
    // Each committed once, by the session.
    let versions = run(&together, "SELECT count(*) FROM supertable_history('t')").await;
    assert_eq!(
        versions,
        run(&alone, "SELECT count(*) FROM supertable_history('t')").await
    );
    datafusion_supertable::wait_for_background_work(&together).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_session_hold_on_workers() {
    let workers = three();
    let directory = tempfile::tempdir().unwrap();
    let together = session(partitions(), &addresses(&workers));
    create(&together, directory.path(), 50).await;
    let alone = SessionContext::new_with_config(partitions());
    datafusion_supertable::register(&alone).unwrap();
    open(&alone, directory.path()).await;
    let sql = "SELECT id, to_timestamp_seconds(id * 1000) AS at FROM t ORDER BY id";
    assert!(is_on_workers(&together, sql).await);
    let mut seen = Vec::new();
    for zone in ["+00:00", "+05:00"] {
        for session in [&alone, &together] {
            run(
                session,
                &format!("SET datafusion.execution.time_zone = '{zone}'"),
            )
            .await;
        }
        let answer = run(&together, sql).await;
        assert_eq!(answer, run(&alone, sql).await, "{zone}");
        seen.push(answer);
    }
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_read_neither_pointer_nor_manifest_nor_wal() {
    let workers = three();
    let directory = tempfile::tempdir().unwrap();
    let alone = SessionContext::new_with_config(partitions());
    datafusion_supertable::register(&alone).unwrap();
    create(&alone, directory.path(), 100).await;
    datafusion_supertable::wait_for_background_work(&alone).await;
    let expected = run(&alone, "SELECT id, v FROM t WHERE v > 3 ORDER BY id").await;

    let together = session(partitions(), &addresses(&workers));
    open(&together, directory.path()).await;
    let sql = "SELECT id, v FROM t WHERE v > 3 ORDER BY id";
    assert!(is_on_workers(&together, sql).await);
    let plan = datafusion_supertable::sql(&together, sql)
        .await
        .unwrap()
        .create_physical_plan()
        .await
        .unwrap();
    // From here on there are superfiles and sidecars, and nothing else.
    let table = directory.path().join("t");
    for name in ["_supertable", "wal"] {
        if table.join(name).exists() {
            std::fs::rename(table.join(name), directory.path().join(name)).unwrap();
        }
    }
    let batches = datafusion::physical_plan::collect(plan, together.task_ctx())
        .await
        .unwrap();
    let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, expected.len());
    let mut left: Vec<_> = std::fs::read_dir(&table)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        // What this process itself writes by.
        .filter(|name| !name.to_string_lossy().starts_with('.'))
        .collect();
    left.sort();
    assert_eq!(left, ["superfiles"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_superfile_that_a_worker_reads_is_corrupt_by_its_name() {
    let workers = three();
    let directory = tempfile::tempdir().unwrap();
    let together = session(partitions(), &addresses(&workers));
    create(&together, directory.path(), 100).await;
    let superfiles = directory.path().join("t/superfiles");
    let mut files: Vec<_> = std::fs::read_dir(superfiles)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "parquet"))
        .collect();
    files.sort();
    let damaged = &files[2];
    let mut bytes = std::fs::read(damaged).unwrap();
    bytes[40] ^= 1;
    let mut permissions = std::fs::metadata(damaged).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "a file of this test")]
    permissions.set_readonly(false);
    std::fs::set_permissions(damaged, permissions).unwrap();
    std::fs::write(damaged, bytes).unwrap();
    for sql in [
        "SELECT * FROM t",
        "DELETE FROM t WHERE s LIKE '%7%' AND v >= 0",
    ] {
        assert!(is_on_workers(&together, sql).await);
        let error = rows(&together, sql).await.unwrap_err();
        let own = Error::find_in(&error).unwrap_or_else(|| panic!("{error:?}"));
        assert_eq!(own.kind(), ErrorKind::Corrupt, "{own}");
        let name = damaged.file_name().unwrap().to_str().unwrap();
        assert!(own.subject().ends_with(name), "{own}");
        assert!(!error.to_string().contains('\u{1}'), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_a_statement_leaves_everything_as_it_was() {
    let mut workers = three();
    let directory = tempfile::tempdir().unwrap();
    let together = session(partitions(), &addresses(&workers));
    create(&together, directory.path(), 2000).await;
    let all = "SELECT count(*), sum(v), sum(id) FROM t";
    let before = run(&together, all).await;
    // Each takes many seconds: every row is compared with every other.
    let slow =
        "SELECT a.id FROM t a JOIN t b ON a.v < b.v + a.k AND a.s <> b.s || 'x' GROUP BY a.id";
    let statements = [
        format!("DELETE FROM t WHERE id IN ({slow})"),
        format!("UPDATE t SET v = 0 WHERE id IN ({slow})"),
        format!("MERGE INTO t USING ({slow}) AS s ON t.id = s.id WHEN MATCHED THEN DELETE"),
    ];
    for (number, statement) in statements.iter().enumerate() {
        assert!(is_on_workers(&together, statement).await, "{statement}");
        let running = {
            let (together, statement) = (together.clone(), statement.clone());
            tokio::spawn(async move { rows(&together, &statement).await })
        };
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(!running.is_finished(), "{statement} was over too soon");
        workers[number].kill();
        let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
        let error = ended.expect("the statement goes on").unwrap().unwrap_err();
        assert!(!error.to_string().is_empty());
        // The others go on without it.
        let rest: Vec<String> = addresses(&workers)
            .into_iter()
            .enumerate()
            .filter(|(i, _)| *i != number)
            .map(|(_, address)| address)
            .collect();
        let two = session(partitions(), &rest);
        open(&two, directory.path()).await;
        assert_eq!(run(&two, all).await, before, "{statement}");
        // It comes back.
        let address = workers[number].address.replace("http://", "");
        workers[number] = WorkerProcess::start_at(&address);
        assert_eq!(run(&together, all).await, before, "{statement}");
    }
    assert_ne!(run(&together, "DELETE FROM t WHERE k = 1").await, ["0"]);
    datafusion_supertable::wait_for_background_work(&together).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_workers_are_gone_says_so() {
    let mut workers = three();
    let directory = tempfile::tempdir().unwrap();
    let together = session(partitions(), &addresses(&workers));
    create(&together, directory.path(), 50).await;
    workers.iter_mut().for_each(WorkerProcess::kill);
    for sql in ["SELECT sum(v) FROM t", "DELETE FROM t WHERE id % 2 = 0"] {
        let ended = tokio::time::timeout(Duration::from_secs(60), rows(&together, sql)).await;
        assert!(ended.expect("the statement goes on").is_err(), "{sql}");
    }
}

#[test]
fn the_command_line_has_workers_execute_a_script() {
    let workers = three();
    let directory = tempfile::tempdir().unwrap();
    let script = "SET distributed.file_scan_config_bytes_per_partition = 1; \
                  CREATE EXTERNAL TABLE t (id BIGINT) STORED AS SUPERTABLE LOCATION 't/'; \
                  INSERT INTO t SELECT value FROM range(0, 50); \
                  INSERT INTO t SELECT value FROM range(50, 100); \
                  DELETE FROM t WHERE id % 3 = 0; \
                  EXPLAIN FORMAT INDENT SELECT sum(id) FROM t; \
                  SELECT sum(id) AS total FROM t;";
    let output = Command::new(env!("CARGO_BIN_EXE_supertable"))
        .current_dir(directory.path())
        .env("HOME", directory.path())
        .args([
            "--quiet",
            "--format",
            "csv",
            "--workers",
            &addresses(&workers).join(","),
        ])
        .args(["-c", script])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("NetworkCoalesceExec"), "{text}{errors}");
    let expected: i64 = (0..100).filter(|id| id % 3 != 0).sum();
    assert!(text.contains(&format!("total\n{expected}\n")), "{text}");
}
