//! Runs every `sql/*.slt` against the real extension, each file in a place of its own.
//!
//! A file may use these words in its SQL:
//! - `__LOCATION__`: an empty place for tables, ending in `/`. A fresh local directory, or, when
//!   `SUPERTABLE_TEST_LOCATION` names one (`s3://bucket/prefix/`, configured by the usual `AWS_*`,
//!   `AZURE_*` and `GOOGLE_*` variables), a fresh prefix there.
//! - `__LOCAL__`: an empty local directory, ending in `/`, wherever the tables are.
//! - `__DATA__`: the directory `sql/data`, ending in `/`.
//!
//! Every session has a catalog `lake` of the supertables below `__LOCATION__catalog/`.
//!
//! Each `connection <name>` is a session of its own that shares nothing with the others but the
//! place: what one wrote, another sees only if it was really stored. After a file's last record all
//! sessions are shut down, and then no WAL document may be left under any table.
//!
//! Values print as DataFusion's own sqllogictests do: `NULL`, `(empty)` for an empty string,
//! numbers without trailing zeros, floats rounded to 12 digits. Column types are checked:
//! `B`oolean, `I`nteger, `R`eal or decimal, `T`ext, `D`ate, tim`P`estamp, `?` anything else.
//!
//! `SUPERTABLE_TEST_FILES=delete,update` runs only the files whose name contains one of these.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Float16Type, Float32Type, Float64Type};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::error::DataFusionError;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_supertable::open_catalog;
use futures::TryStreamExt;
use object_store::ObjectStore;
use sqllogictest::{
    AsyncDB, ColumnType, DBOutput, MakeConnection, Runner, strict_column_validator,
};
use url::Url;

use crate::support::{azure, gcs, s3};

/// How many failures of one file are printed; later ones mostly follow from earlier ones.
const PRINTED_FAILURES: usize = 12;

/// Where the tables of a run live.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// A directory or URL, ending in `/`.
    base: String,
    /// The store of a URL; none for a local directory.
    store: Option<(Url, Arc<dyn ObjectStore>)>,
    /// Workers that execute parts of the statements; none if it is empty.
    workers: Vec<String>,
}

impl Place {
    /// A local directory.
    pub(crate) fn local(directory: &Path) -> Self {
        Self {
            base: format!("{}/", directory.display()),
            store: None,
            workers: Vec::new(),
        }
    }

    /// A prefix (`url` ends in `/`) in `store`.
    pub(crate) fn remote(url: &str, store: Arc<dyn ObjectStore>) -> Self {
        let parsed = Url::parse(url).expect("a location is a URL");
        Self {
            base: url.to_owned(),
            store: Some((parsed, store)),
            workers: Vec::new(),
        }
    }

    /// The same place, where sessions have workers.
    #[cfg(feature = "distributed")]
    pub(crate) fn with_workers(self, workers: Vec<String>) -> Self {
        Self { workers, ..self }
    }

    /// A session of this place.
    fn session(&self, config: SessionConfig) -> SessionContext {
        #[cfg(feature = "distributed")]
        if !self.workers.is_empty() {
            return crate::distributed::session(config, &self.workers);
        }
        SessionContext::new_with_config(config)
    }

    /// The place that the environment names, if it names one.
    fn from_environment() -> Option<Self> {
        let url = std::env::var("SUPERTABLE_TEST_LOCATION").ok()?;
        let parsed = Url::parse(&url).expect("SUPERTABLE_TEST_LOCATION is a URL");
        let (store, _) = object_store::parse_url_opts(&parsed, std::env::vars())
            .expect("SUPERTABLE_TEST_LOCATION names a configured store");
        Some(Self::remote(&url, Arc::from(store)))
    }

    /// A place below this one.
    fn below(&self, name: &str) -> Self {
        Self {
            base: format!("{}{name}/", self.base),
            store: self.store.clone(),
            workers: self.workers.clone(),
        }
    }

    /// The names of all objects in this place.
    async fn objects(&self) -> Vec<String> {
        let Some((url, store)) = &self.store else {
            return files_below(Path::new(&self.base));
        };
        let path = self
            .base
            .strip_prefix(&format!("{}://", url.scheme()))
            .unwrap();
        let prefix = path.split_once('/').map_or("", |(_, key)| key);
        let prefix = object_store::path::Path::from(prefix);
        let objects: Vec<_> = store.list(Some(&prefix)).try_collect().await.unwrap();
        objects
            .into_iter()
            .map(|o| o.location.to_string())
            .collect()
    }
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found
}

/// One session, as the runner sees it.
struct Database {
    session: SessionContext,
    words: Vec<(&'static str, String)>,
}

impl Database {
    fn new(place: &Place, words: Vec<(&'static str, String)>) -> Result<Self, Failure> {
        // A fixed number of partitions, so that results and plans do not depend on the machine.
        let config = SessionConfig::new()
            .with_target_partitions(4)
            .with_information_schema(true);
        let session = place.session(config);
        if let Some((url, store)) = &place.store {
            session.register_object_store(url, Arc::clone(store));
        }
        datafusion_supertable::register(&session).map_err(|e| Failure(e.into()))?;
        let catalog = format!("{}catalog/", place.base);
        open_catalog(&session, "lake", &catalog).map_err(|e| Failure(e.into()))?;
        Ok(Self { session, words })
    }
}

/// What a statement failed with; its text is what `statement error <regex>` matches.
#[derive(Debug)]
struct Failure(DataFusionError);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failure {}

#[async_trait]
impl AsyncDB for Database {
    type Error = Failure;
    type ColumnType = Column;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<Column>, Failure> {
        let mut sql = sql.to_owned();
        for (word, value) in &self.words {
            sql = sql.replace(word, value);
        }
        let frame = datafusion_supertable::sql(&self.session, &sql)
            .await
            .map_err(Failure)?;
        let types: Vec<Column> = frame
            .schema()
            .fields()
            .iter()
            .map(|field| Column::of(field.data_type()))
            .collect();
        let batches = frame.collect().await.map_err(Failure)?;
        if types.is_empty() {
            return Ok(DBOutput::StatementComplete(0));
        }
        let mut rows = Vec::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                rows.push(batch.columns().iter().map(|c| cell(c, row)).collect());
            }
        }
        Ok(DBOutput::Rows { types, rows })
    }

    async fn shutdown(&mut self) {
        datafusion_supertable::wait_for_background_work(&self.session).await;
    }

    fn engine_name(&self) -> &str {
        "supertable"
    }

    async fn sleep(duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The column types that a `query` record can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Boolean,
    Date,
    Integer,
    Timestamp,
    Real,
    Text,
    Other,
}

impl Column {
    fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean,
            t if t.is_integer() => Self::Integer,
            t if t.is_floating() || t.is_decimal() => Self::Real,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            DataType::Dictionary(_, value) => Self::of(value),
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(_, _) => Self::Timestamp,
            _ => Self::Other,
        }
    }
}

impl ColumnType for Column {
    fn from_char(value: char) -> Option<Self> {
        Some(match value {
            'B' => Self::Boolean,
            'D' => Self::Date,
            'I' => Self::Integer,
            'P' => Self::Timestamp,
            'R' => Self::Real,
            'T' => Self::Text,
            '?' => Self::Other,
            _ => return None,
        })
    }

    fn to_char(&self) -> char {
        match self {
            Self::Boolean => 'B',
            Self::Date => 'D',
            Self::Integer => 'I',
            Self::Timestamp => 'P',
            Self::Real => 'R',
            Self::Text => 'T',
            Self::Other => '?',
        }
    }
}

fn cell(column: &ArrayRef, row: usize) -> String {
    if column.is_null(row) {
        return "NULL".to_owned();
    }
    match column.data_type() {
        DataType::Float16 => float(f64::from(column.as_primitive::<Float16Type>().value(row))),
        DataType::Float32 => float(f64::from(column.as_primitive::<Float32Type>().value(row))),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        data_type => {
            let options = FormatOptions::default().with_null("NULL");
            let text = ArrayFormatter::try_new(column, &options)
                .unwrap()
                .value(row)
                .to_string();
            match (text.is_empty(), data_type.is_decimal()) {
                (true, _) => "(empty)".to_owned(),
                (_, true) if text.contains('.') => {
                    text.trim_end_matches('0').trim_end_matches('.').to_owned()
                }
                _ => text,
            }
        }
    }
}

/// Rounded to 12 significant digits: the order in which partitions are summed shows below that.
fn float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        let text = format!("{:?}", format!("{value:.11e}").parse::<f64>().unwrap());
        text.strip_suffix(".0").unwrap_or(&text).to_owned()
    }
}

/// Runs one file in `place`; answers what went wrong.
async fn run_file(file: &Path, place: &Place) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/data");
    let words = vec![
        ("__LOCATION__", place.base.clone()),
        ("__LOCAL__", format!("{}/", scratch.path().display())),
        ("__DATA__", format!("{}/", data.display())),
    ];
    #[cfg_attr(not(feature = "distributed"), expect(unused_mut))]
    let mut records = match sqllogictest::parse_file::<Column>(file) {
        Ok(records) => records,
        Err(error) => return vec![error.to_string()],
    };
    #[cfg(feature = "distributed")]
    if !place.workers.is_empty() {
        records.retain(crate::distributed::runs_on_workers);
    }
    let mut runner = Runner::new(|| {
        let database = Database::new(place, words.clone());
        async { database }
    });
    runner.with_column_validator(strict_column_validator);
    runner.add_label(if place.store.is_some() {
        "remote"
    } else {
        "local"
    });

    let mut failures = check(&mut runner, records).await;
    runner.shutdown_async().await;
    let left: Vec<String> = place
        .objects()
        .await
        .into_iter()
        .filter(|name| name.contains("/wal/mutations/"))
        .collect();
    if !left.is_empty() {
        failures.push(format!("at rest the WAL is not empty: {left:?}"));
    }
    failures
}

async fn check<M: MakeConnection<Conn = Database>>(
    runner: &mut Runner<Database, M>,
    records: Vec<sqllogictest::Record<Column>>,
) -> Vec<String> {
    let mut failures = Vec::new();
    for record in records {
        if matches!(record, sqllogictest::Record::Halt { .. }) {
            break;
        }
        // The next record runs all the same: independent mistakes should show in one run.
        if let Err(error) = runner.run_async(record).await {
            failures.push(error.to_string());
        }
    }
    failures
}

/// Runs every file of `sql/` in a fresh place below `place`; panics with all failures.
pub(crate) async fn run_all(place: &Place) {
    let wanted = std::env::var("SUPERTABLE_TEST_FILES").unwrap_or_default();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("sql"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "slt"))
            .filter(|path| {
                wanted
                    .split(',')
                    .any(|w| path.to_string_lossy().contains(w))
            })
            .collect();
    files.sort();
    assert!(!files.is_empty(), "no file in sql/ matches {wanted:?}");

    let run = uuid::Uuid::now_v7();
    let mut report = String::new();
    for file in &files {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let failures = run_file(file, &place.below(&format!("{run}/{stem}"))).await;
        println!("{stem}.slt: {} failures", failures.len());
        for failure in failures.iter().take(PRINTED_FAILURES) {
            report.push_str(&format!("\n--- {stem}.slt\n{failure}\n"));
        }
        if failures.len() > PRINTED_FAILURES {
            let more = failures.len() - PRINTED_FAILURES;
            report.push_str(&format!("\n--- {stem}.slt: {more} more failures\n"));
        }
    }
    assert!(report.is_empty(), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sql_file_holds() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::from_environment().unwrap_or_else(|| Place::local(directory.path()));
    run_all(&place).await;
}

#[test]
fn every_sql_file_holds_on_s3() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Arc::new(s3::client(s3::server().await.endpoint()));
        run_all(&Place::remote(&format!("s3://{}/slt/", s3::BUCKET), store)).await;
    });
}

#[test]
fn every_sql_file_holds_on_azure() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Arc::new(azure::client(azure::server().await.endpoint()));
        run_all(&Place::remote(
            &format!("az://{}/slt/", azure::CONTAINER),
            store,
        ))
        .await;
    });
}

#[test]
fn every_sql_file_holds_on_gcs() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Arc::new(gcs::client(gcs::server().await.endpoint()));
        run_all(&Place::remote(&format!("gs://{}/slt/", gcs::BUCKET), store)).await;
    });
}

#[test]
fn values_print_as_the_files_expect() {
    assert_eq!(float(1.0), "1");
    assert_eq!(float(0.1 + 0.2), "0.3");
    assert_eq!(float(-0.0), "-0");
    assert_eq!(float(1e300), "1e300");
    assert_eq!(float(f64::NAN), "NaN");
    assert_eq!(float(f64::NEG_INFINITY), "-Infinity");
    let texts: ArrayRef = Arc::new(datafusion::arrow::array::StringArray::from(vec![
        Some(""),
        None,
        Some("a"),
    ]));
    assert_eq!(
        [0, 1, 2].map(|row| cell(&texts, row)),
        ["(empty)", "NULL", "a"]
    );
}
