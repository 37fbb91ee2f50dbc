//! The `supertable` binary as a user meets it: exit statuses, scripts, pipes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::s3;

/// Where the repository is: the quickstart names its data from there.
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// The one place in the quickstart that says where the table is.
const QUICKSTART_LOCATION: &str = "target/quickstart/flights/";

fn supertable(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supertable"));
    command
        .current_dir(directory)
        // No start-up file and no credentials of whoever runs the tests.
        .env("HOME", directory)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .arg("--quiet")
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn piped(directory: &Path, script: &str) -> Output {
    let mut child = supertable(directory)
        .args(["--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn file(directory: &Path, script: &str) -> Output {
    fs::write(directory.join("script.sql"), script).unwrap();
    supertable(directory)
        .args(["--format", "csv", "-f", "script.sql"])
        .output()
        .unwrap()
}

#[test]
fn a_command_prints_its_result_and_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let output = supertable(directory.path())
        .args(["--format", "csv", "-c", "SELECT 1 AS a, 'x' AS b"])
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), "a,b\n1,x\n");
}

#[test]
fn what_happens_is_logged_to_the_error_output_where_it_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let script = "CREATE EXTERNAL TABLE t (n INT) STORED AS SUPERTABLE LOCATION 't/'; \
                  INSERT INTO t VALUES (1)";
    let log = |filter: Option<&str>| {
        let mut command = supertable(directory.path());
        command
            .env_remove("RUST_LOG")
            .args(["--format", "csv", "-c", script]);
        if let Some(filter) = filter {
            command.env("RUST_LOG", filter);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stdout).lines().last(), Some("1"));
        text(&output.stderr)
    };
    assert_eq!(log(None), "");
    let said = log(Some("datafusion_supertable=debug"));
    for part in [
        "phase wal_id=",
        "phase=APPENDED",
        "compare-and-swap path=_supertable/current",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(log(Some("datafusion_supertable=warn")), "");
}

#[test]
fn a_command_that_fails_fails_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let output = supertable(directory.path())
        .args(["-c", "SELECT * FROM nowhere"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nowhere"));
}

#[test]
fn a_script_with_a_failed_statement_goes_on_and_fails() {
    let directory = tempfile::tempdir().unwrap();
    let output = file(
        directory.path(),
        "SELECT * FROM nowhere;\nSELECT 2 AS after;\n",
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nowhere"));
    assert_eq!(text(&output.stdout), "after\n2\n");
}

#[test]
fn every_row_is_written_but_of_a_table_that_is_cut_on_purpose() {
    let home = tempfile::tempdir().unwrap();
    let rows = 20_000;
    let count = |arguments: &[&str], script: &str| {
        let output = supertable(home.path())
            .args(["-c", script])
            .args(arguments)
            .output()
            .unwrap();
        let text = text(&output.stdout);
        text.matches('#').count() / 2
    };
    let all = format!("SELECT concat('#', value, '#') AS v FROM range(0, {rows}) ORDER BY value");
    for format in ["csv", "tsv", "json", "nd-json", "table", "automatic"] {
        assert_eq!(count(&["--format", format], &all), rows, "{format}");
    }
    assert_eq!(count(&["--maxrows", "7"], &all), 7);
    assert_eq!(count(&["--maxrows", "7", "--format", "csv"], &all), rows);
    let script = format!("\\pset format csv\n{all};\n");
    let output = piped(home.path(), &script);
    assert!(text(&output.stdout).contains(&format!("#{}#", rows - 1)));
}

#[test]
fn a_pipe_behaves_as_a_script() {
    let directory = tempfile::tempdir().unwrap();
    let good = piped(directory.path(), "SELECT 1\n AS a;\nSELECT 2 AS last");
    assert!(good.status.success(), "{}", text(&good.stderr));
    assert_eq!(text(&good.stdout), "a\n1\nlast\n2\n");
    assert_eq!(
        piped(directory.path(), "SELECT nothing;\n").status.code(),
        Some(1)
    );
}

#[test]
fn a_semicolon_inside_a_string_does_not_end_a_statement() {
    let directory = tempfile::tempdir().unwrap();
    let output = file(
        directory.path(),
        "-- first;\nSELECT length('a;\nb') AS n; -- done;\n",
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "n\n4\n");
}

#[test]
fn statements_that_datafusion_does_not_plan_run_in_scripts_pipes_and_commands() {
    let directory = tempfile::tempdir().unwrap();
    let script = "CREATE EXTERNAL TABLE t (id INT, v VARCHAR DEFAULT 'd') STORED AS SUPERTABLE LOCATION 't/';\n\
                  INSERT INTO t BY NAME SELECT 1 AS id; INSERT INTO t VALUES (2, DEFAULT), (3, ';');\n\
                  -- a comment; DELETE FROM t USING t\n\
                  DELETE FROM t USING (SELECT 3\n AS k) AS x WHERE t.id = x.k RETURNING v;\n\
                  SELECT 'RETURNING;' AS a; UPDATE t SET id = 10 ORDER BY id DESC LIMIT 1 RETURNING id, v;\n";
    let expected = "count\n1\ncount\n2\nv\n;\na\nRETURNING;\nid,v\n10,d\n";
    let output = file(directory.path(), script);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), expected);

    let open = "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION 't/'";
    let script = format!(
        "{open};\nDELETE FROM t AS x WHERE x.nothing = 1;\nINSERT INTO t BY NAME SELEC;\n\
         EXPLAIN DELETE FROM t RETURNING id;\nMERGE INTO t USING (SELECT 5 AS id) AS s \
         ON t.id = s.id WHEN NOT MATCHED THEN INSERT *"
    );
    let output = piped(directory.path(), &script);
    assert_eq!(output.status.code(), Some(1));
    for said in ["nothing", "found: SELEC"] {
        assert!(
            text(&output.stderr).contains(said),
            "{}",
            text(&output.stderr)
        );
    }
    assert!(
        text(&output.stdout).ends_with("count\n1\n"),
        "{}",
        text(&output.stdout)
    );

    let output = supertable(directory.path())
        .args(["--format", "csv", "-c", open, "-c"])
        .arg("WITH x AS (SELECT 5 AS k) DELETE FROM t USING x WHERE id = k; SELECT count(*) AS n FROM t")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "count\n1\nn\n2\n");
}

#[test]
fn parameters_name_versions_and_a_table_is_shown_as_it_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let script = "CREATE EXTERNAL TABLE t (id INT, at TIMESTAMPTZ DEFAULT now()) STORED AS SUPERTABLE LOCATION 't/';\n\
                  INSERT INTO t (id) VALUES (1), (2);\n\
                  PREPARE old AS SELECT id FROM supertable_at('t', $1) WHERE id > $2; EXECUTE old(2, 1);\n\
                  EXECUTE old(1, 0); SHOW CREATE TABLE t;\n";
    let expected = "count\n2\nid\n2\ntable_catalog,table_schema,table_name,definition\n\
                    datafusion,public,t,\"CREATE EXTERNAL TABLE t (id INT, at ARROW('Timestamp(ns, \"\"+00:00\"\")') DEFAULT \
                    now()) STORED AS SUPERTABLE LOCATION 't/'\"\n";
    let output = file(directory.path(), script);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), expected);

    // With a catalog, in the form that its CREATE TABLE has; the zone of a column is kept beside other clauses.
    let script = "CREATE TABLE c (at TIMESTAMPTZ) WITH ORDER (at); SHOW CREATE TABLE c; DROP TABLE c;\n\
                  CREATE TABLE c (at ARROW('Timestamp(ns, \"+00:00\")')) WITH ORDER (at ASC NULLS LAST);\n\
                  SHOW CREATE TABLE c;";
    let output = supertable(directory.path())
        .args(["--format", "csv", "--catalog", "lake/", "-c", script])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let definitions: Vec<&str> = shown
        .lines()
        .filter(|line| line.contains("CREATE"))
        .collect();
    assert_eq!(definitions.len(), 2, "{shown}");
    assert_eq!(definitions[0], definitions[1]);
    assert!(definitions[0].contains("+00:00"), "{shown}");
}

#[test]
fn failures_of_an_included_script_count() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("inner.sql"),
        "SELECT * FROM nowhere;\n",
    )
    .unwrap();
    let output = file(
        directory.path(),
        "\\i inner.sql\nSELECT 1 AS a;\n\\q\nSELECT 2 AS b;\n",
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "a\n1\n");
}

#[test]
fn an_azure_location_without_an_account_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let create = "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION 'az://box/file.csv'";
    let output = supertable(directory.path())
        .args(["-c", create])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("not configured"),
        "{}",
        text(&output.stderr)
    );
}

/// Runs the quickstart with its table at `location`, and checks what it prints.
fn quickstart(home: &Path, location: &str, environment: &[(&str, String)]) {
    let script = fs::read_to_string(Path::new(REPOSITORY).join("sql/quickstart.sql")).unwrap();
    let statements: String = script
        .lines()
        .filter(|line| !line.starts_with("--"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(statements.matches(QUICKSTART_LOCATION).count(), 1);
    let path = home.join("quickstart.sql");
    fs::write(&path, script.replace(QUICKSTART_LOCATION, location)).unwrap();

    let output = supertable(home)
        .current_dir(REPOSITORY)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .args(["--format", "csv", "-f"])
        .arg(&path)
        .output()
        .unwrap();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{printed}\n{errors}");
    for expected in [
        "\n51955\n",
        "\nloaded,UA,8983,8.03\n",
        "\n7998\n",
        "\nafter DELETE,43957,15\n",
        "\nbefore UPDATE,22833,-30,7.52\n",
        "\n13605\n",
        "\nafter UPDATE,22833,0,10.47\n",
        "\n1,1,9E,3286,0,rebased JFK-DTW\n",
        "\nUnited Air Lines Inc.,8983,9.06\n",
        "\nfinished,43957\n",
    ] {
        assert!(
            printed.contains(expected),
            "no {expected:?} in {printed}\n{errors}"
        );
    }
}

#[test]
fn the_quickstart_can_be_run_again_and_leaves_no_wal() {
    let home = tempfile::tempdir().unwrap();
    let table = home.path().join("flights");
    for _ in 0..2 {
        quickstart(home.path(), &format!("{}/", table.display()), &[]);
        let wal = fs::read_dir(table.join("wal/mutations"));
        assert_eq!(wal.into_iter().flatten().count(), 0);
    }
}

#[test]
fn the_quickstart_runs_on_s3_by_changing_only_the_location() {
    let home = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let environment = runtime.block_on(async { s3::server().await.environment() });
    let location = format!("s3://{}/quickstart/flights/", s3::BUCKET);
    for _ in 0..2 {
        quickstart(home.path(), &location, &environment);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_statement_and_leaves_nothing_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let open = "CREATE EXTERNAL TABLE t (v BIGINT) STORED AS SUPERTABLE LOCATION 't/';\n";
    // It would run for hours.
    let insert = "INSERT INTO t SELECT value FROM generate_series(1, 1000000000000);\n";
    let script = format!("{open}INSERT INTO t VALUES (1);\nSELECT 'ready';\n{insert}");
    fs::write(directory.path().join("script.sql"), script).unwrap();
    let mut child = supertable(directory.path())
        .args(["--format", "csv", "-f", "script.sql"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(printed.map_while(Result::ok).any(|line| line == "ready"));
    // Into the long statement; the test holds as well if the signal comes earlier.
    std::thread::sleep(Duration::from_millis(300));
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));

    let wal = fs::read_dir(directory.path().join("t/wal/mutations"));
    assert_eq!(wal.into_iter().flatten().count(), 0);
    let again = file(
        directory.path(),
        &format!("{open}SELECT count(*) AS n FROM t;\n"),
    );
    assert_eq!(text(&again.stdout), "n\n1\n", "{}", text(&again.stderr));
}

/// A query that computes for hours without a pause.
const COMPUTES: &str = "SELECT count(*) FROM generate_series(1, 1000000) AS a(x) \
    JOIN generate_series(1, 1000000) AS b(y) ON (x * 7 + y * 3) % 1000003 < 5";

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_statement_that_computes_in_commands_scripts_and_pipes() {
    for way in ["-c", "-f", "pipe"] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = supertable(directory.path());
        command.args(["--format", "csv"]);
        let script = format!("SELECT 'ready';\n{COMPUTES};\n");
        match way {
            "-c" => command.args(["-c", "SELECT 'ready'", "-c", COMPUTES]),
            "-f" => {
                fs::write(directory.path().join("script.sql"), &script).unwrap();
                command.args(["-f", "script.sql"])
            }
            _ => command.stdin(Stdio::piped()),
        };
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Kept open: that the input has not ended must not matter.
        let stdin = child.stdin.take().map(|mut stdin| {
            stdin.write_all(script.as_bytes()).unwrap();
            stdin
        });
        let printed = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(printed.map_while(Result::ok).any(|line| line == "ready"));
        std::thread::sleep(Duration::from_millis(1500));
        let signalled = Instant::now();
        let pid = child.id().to_string();
        let kill = Command::new("kill").args(["-INT", &pid]).status().unwrap();
        assert!(kill.success());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(130), "{way}");
        assert!(signalled.elapsed() < Duration::from_secs(20), "{way}");
        drop(stdin);
    }
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_ends_the_process_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = supertable(directory.path())
        .args(["--format", "csv", "-c", "SELECT 'ready'", "-c", COMPUTES])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let printed = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(printed.map_while(Result::ok).any(|line| line == "ready"));
    std::thread::sleep(Duration::from_millis(1500));
    let pid = child.id().to_string();
    let signalled = Instant::now();
    for _ in 0..2 {
        // It may be gone by the second one.
        Command::new("kill").args(["-INT", &pid]).status().unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(signalled.elapsed() < Duration::from_millis(2500));
}

#[test]
fn a_location_of_tables_is_the_default_catalog() {
    let directory = tempfile::tempdir().unwrap();
    let run = |sql: &[&str]| {
        let output = supertable(directory.path())
            .args(["--format", "csv", "--catalog", "lake", "-c"])
            .args(sql)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    run(&[
        "CREATE TABLE t (id INT NOT NULL, v VARCHAR)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "CREATE TABLE odd AS SELECT * FROM t WHERE id % 2 = 1",
        "DELETE FROM t WHERE id = 2",
    ]);
    let pointer = directory.path().join("lake/public/t/_supertable/current");
    assert!(pointer.exists());
    // Another process.
    assert_eq!(
        run(&["SELECT t.id, odd.v FROM t JOIN odd ON t.id = odd.id"]),
        "id,v\n1,a\n"
    );
    let tables = "SELECT table_name FROM information_schema.tables \
                  WHERE table_schema = 'public' ORDER BY 1";
    assert_eq!(run(&[tables]), "table_name\nodd\nt\n");
    run(&["DROP TABLE t"]);
    assert_eq!(run(&[tables]), "table_name\nodd\n");

    let help = supertable(directory.path()).arg("--help").output().unwrap();
    assert!(text(&help.stdout).contains("--catalog <LOCATION>"));
}

#[test]
fn a_directory_is_opened_as_a_catalog_and_a_wrong_place_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], sql: &str| {
        let output = supertable(directory.path())
            .args(["--format", "csv"])
            .args(arguments)
            .args(["-c", sql])
            .output()
            .unwrap();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        (output.status.success(), out, error)
    };
    let (made, _, error) = run(&["lake"], "CREATE TABLE t AS SELECT 7 AS n");
    assert!(made && !error.contains("note:"), "{error}");
    let (found, rows, _) = run(&["lake/"], "SELECT n FROM t");
    assert!(found && rows == "n\n7\n", "{rows}");
    fs::create_dir_all(directory.path().join("delta/_delta_log")).unwrap();
    fs::write(directory.path().join("delta/_delta_log/00.json"), "{}").unwrap();
    for (place, what) in [
        ("lake/public", "is a schema of a catalog"),
        ("lake/public/t", "is a table and no catalog"),
        ("delta", "is a table of another format"),
        ("lkae/data", "there is no directory"),
    ] {
        let (opened, _, error) = run(&[place], "SHOW TABLES");
        assert!(
            !opened && error.contains(what) && error.contains(place),
            "{place}: {error}"
        );
    }
    // A table that nobody will find again is said to be one, once.
    let statements = "CREATE TABLE a AS SELECT 1 AS n; CREATE TABLE b AS SELECT 2 AS n";
    let loud = Command::new(env!("CARGO_BIN_EXE_supertable"))
        .args(["-c", statements])
        .env("HOME", directory.path())
        .output()
        .unwrap();
    let said = text(&loud.stderr);
    assert_eq!(said.matches("is kept in memory").count(), 1, "{said}");
    assert!(run(&[], statements).2.is_empty());
}

#[test]
fn a_catalog_can_be_on_s3() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let environment = runtime.block_on(async { s3::server().await.environment() });
    let catalog = format!("s3://{}/cli-catalog/", s3::BUCKET);
    let output = supertable(directory.path())
        .envs(environment)
        .args(["--format", "csv", "--catalog", &catalog, "-c"])
        .args([
            "CREATE TABLE \"odd name\" AS SELECT 7 AS n",
            "DELETE FROM \"odd name\" WHERE n = 8",
            "SELECT n FROM \"odd name\"",
            "DROP TABLE \"odd name\"",
            "CREATE TABLE \"odd name\" AS SELECT 8 AS n",
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(
        shown.contains("n\n7\n") && shown.contains("table_name\nodd name\n"),
        "{shown}"
    );
}
