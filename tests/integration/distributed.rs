//! Statements over three worker processes: the same answers, the same errors, and what becomes of them when a worker
//! is killed.
//!
//! Each worker is a process of the `supertable` binary on the loopback interface, at a port that it chose.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::distributed::{FixedWorkers, coordinator};
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
    let options = state.config_mut().options_mut();
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
