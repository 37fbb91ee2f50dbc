//! Servers of a test process: installed when missing, on free loopback ports, gone with the process.

use std::io::Read;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A server program, with the folder that holds its data and its log.
pub(crate) struct Server {
    pub folder: PathBuf,
    watchdog: Child,
    // The watchdog ends the server when this closes, however the test process ends.
    _alive: ChildStdin,
}

/// Waits until its input closes, then kills the server and removes its folder. Signals that a
/// terminal sends to all of the test's processes must not end it before.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP QUIT
folder=$1; shift
"$@" >"$folder/log" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -9 $server 2>/dev/null
wait $server 2>/dev/null
rm -rf "$folder"
"#;

impl Server {
    /// Starts `program` with the arguments that `arguments` makes for the folder.
    pub(crate) fn start(program: &[String], arguments: impl FnOnce(&str) -> Vec<String>) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("supertable-server-")
            .tempdir()
            .unwrap()
            .keep();
        let mut watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(&folder)
            .args(program)
            .args(arguments(folder.to_str().unwrap()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            folder,
            _alive: watchdog.stdin.take().unwrap(),
            watchdog,
        }
    }

    /// The last lines of the server's log.
    pub(crate) fn log(&self) -> String {
        let mut log = String::new();
        if let Ok(mut file) = std::fs::File::open(self.folder.join("log")) {
            let _ = file.read_to_string(&mut log);
        }
        let skip = log.lines().count().saturating_sub(20);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }

    /// Ends the server before the process does.
    pub(crate) fn stop(self) {
        let Self {
            mut watchdog,
            _alive,
            ..
        } = self;
        drop(_alive);
        let _ = watchdog.wait();
    }
}

/// The program of the server `name`, installed if it is missing.
pub(crate) fn installed(name: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers.sh");
    let output = Command::new("sh")
        .args([script, "install", name])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "cannot install the server {name}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Loopback ports that nobody listens on.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.each_ref().map(|l| l.local_addr().unwrap().port())
}
