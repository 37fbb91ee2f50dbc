//! Options: of a session under the prefix `supertable`, and of a table in `OPTIONS (…)`.
//!
//! Owns the names, types, defaults and documentation of every option. Does not own their effect.
//!
//! Implemented by hand because DataFusion's macro lists entries without their prefix, so that
//! `SHOW supertable.x` would not find them.

mod write;

use std::any::Any;
use std::collections::BTreeMap;
use std::str::FromStr;

use datafusion::common::{Result, config_err};
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};

pub(crate) use self::write::BLOOM_FILTER_COLUMNS;
pub use self::write::WriteOptions;
use crate::error::{Error, ErrorKind};
use crate::format::ids::MAX_SUPERFILE_ROWS;

/// Prefix of all options.
pub(crate) const PREFIX: &str = "supertable";

/// Whether `_id` may be used: an option of a session, and of a table.
pub(crate) const EXPOSE_ROW_ID: &str = "expose_row_id";
/// What statements are protected from: an option of a session, and of a table, where it is the
/// default of sessions that say nothing.
pub(crate) const ISOLATION: &str = "isolation";
/// Whether a session only reads.
pub(crate) const READ_ONLY: &str = "read_only";
/// Followed by a name: a condition that every row of a table meets.
pub(crate) const CHECK: &str = "check.";

/// What a statement is protected from; see the crate's documentation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// From changes of the rows that it changes.
    #[default]
    Snapshot,
    /// From every change of the rows of a table that it reads and changes.
    Serializable,
}

impl Isolation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Serializable => "serializable",
        }
    }
}

impl FromStr for Isolation {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Snapshot, Self::Serializable]
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(name))
            .ok_or(())
    }
}

/// How SQL reaches the row ids of a table: what `supertable.expose_row_id` says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowIdExposure {
    /// Not at all.
    #[default]
    Hidden,
    /// By the function `_id(t.c)`, in any clause of any statement.
    Function,
    /// Also as the column `_id` of the tables that a query reads, where `SELECT *` shows it as the last:
    /// DataFusion has no hidden columns.
    Column,
}

impl RowIdExposure {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "false",
            Self::Function => "true",
            Self::Column => "column",
        }
    }

    /// How far the ids of a table with these properties are exposed: as far as it or the session says.
    pub(crate) fn on(self, properties: &BTreeMap<String, String>) -> Self {
        let by_table = property(properties, EXPOSE_ROW_ID).and_then(|value| value.parse().ok());
        self.max(by_table.unwrap_or_default())
    }
}

impl FromStr for RowIdExposure {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Hidden, Self::Function, Self::Column]
            .into_iter()
            .find(|exposure| exposure.as_str().eq_ignore_ascii_case(name))
            .ok_or(())
    }
}

/// Session options, set by `SET supertable.<name> = <value>`.
#[derive(Debug, Clone, PartialEq)]
pub struct SupertableOptions {
    /// A superfile is closed once it holds so many rows.
    pub target_file_rows: u64,
    /// A superfile is closed once its rows took so many bytes of memory before encoding.
    pub target_file_bytes: u64,
    /// How superfiles are written, where the session says so: it comes before what a table says.
    pub write: WriteOptions,
    /// How the row ids of every table are exposed, at least.
    pub expose_row_id: RowIdExposure,
    /// What statements are protected from; the table decides where the session does not.
    pub isolation: Option<Isolation>,
    /// Whether small superfiles are joined in the background after writes.
    pub auto_compact: bool,
    /// How many bytes of superfiles a compaction writes anew in one commit, at most; the table decides where the
    /// session does not.
    pub max_group_bytes: Option<u64>,
    /// Whether the session only reads. Once it does it cannot be allowed to write again.
    pub read_only: bool,
}

impl Default for SupertableOptions {
    fn default() -> Self {
        Self {
            target_file_rows: MAX_SUPERFILE_ROWS,
            target_file_bytes: 2 << 30,
            write: WriteOptions::default(),
            expose_row_id: RowIdExposure::default(),
            isolation: None,
            auto_compact: false,
            max_group_bytes: None,
            read_only: false,
        }
    }
}

impl SupertableOptions {
    /// The options in force in a session; the defaults where none are registered.
    pub fn of(config: &ConfigOptions) -> Self {
        config.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Refuses `what` in a session that only reads.
    ///
    /// # Errors
    /// [`ErrorKind::ReadOnly`].
    pub(crate) fn check_writable(&self, what: &str) -> Result<(), Error> {
        match self.read_only {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::ReadOnly,
                what,
                "this session only reads (supertable.read_only); nothing was changed",
            )),
        }
    }

    /// Whether writes to a table with these properties are followed by a compaction: the session says
    /// so, or the table does.
    pub(crate) fn auto_compact_for(&self, properties: &BTreeMap<String, String>) -> bool {
        self.auto_compact
            || properties
                .get(AUTO_COMPACT)
                .is_some_and(|value| value == "true")
    }

    /// How many bytes of superfiles a compaction of a table with these properties writes anew in one commit.
    pub(crate) fn max_group_bytes_for(&self, properties: &BTreeMap<String, String>) -> u64 {
        self.max_group_bytes
            .or_else(|| property(properties, MAX_GROUP_BYTES)?.parse().ok())
            .unwrap_or(DEFAULT_MAX_GROUP_BYTES)
            .max(1)
    }

    /// How superfiles of a table with these properties are written; a file's target is always set.
    pub(crate) fn write_options(&self, properties: &BTreeMap<String, String>) -> WriteOptions {
        let default = Self::default();
        let mut session = self.write.clone();
        // Both of a session's names for a target come before the table's.
        let (rows, bytes) = (self.target_file_rows, self.target_file_bytes);
        if rows != default.target_file_rows {
            session.target_file_rows.get_or_insert(rows);
        }
        if bytes != default.target_file_bytes {
            session.target_file_bytes.get_or_insert(bytes);
        }
        let mut write = session.or(WriteOptions::of_properties(properties));
        write.target_file_rows.get_or_insert(rows);
        write.target_file_bytes.get_or_insert(bytes);
        write
    }

    /// What a statement on a table with these properties is protected from.
    pub(crate) fn isolation_on(&self, properties: &BTreeMap<String, String>) -> Isolation {
        self.isolation
            .or_else(|| property(properties, ISOLATION)?.parse().ok())
            .unwrap_or_default()
    }
}

/// The value of a table option among a table's properties.
pub(crate) fn property<'p>(
    properties: &'p BTreeMap<String, String>,
    name: &str,
) -> Option<&'p str> {
    properties
        .get(&format!("{PREFIX}.{name}"))
        .map(String::as_str)
}

impl ConfigExtension for SupertableOptions {
    const PREFIX: &'static str = PREFIX;
}

impl ExtensionOptions for SupertableOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        match own_option(key).unwrap_or(key) {
            "target_file_rows" => {
                let rows: u64 = parse(key, value)?;
                if !(1..=MAX_SUPERFILE_ROWS).contains(&rows) {
                    return config_err!("{key} must be between 1 and {MAX_SUPERFILE_ROWS}");
                }
                self.target_file_rows = rows;
            }
            "target_file_bytes" => {
                let bytes: u64 = parse(key, value)?;
                if bytes == 0 {
                    return config_err!("{key} must be at least 1");
                }
                self.target_file_bytes = bytes;
            }
            name if WriteOptions::has(name) => self.write.set(name, value)?,
            EXPOSE_ROW_ID => self.expose_row_id = parse(key, value)?,
            ISOLATION => self.isolation = Some(parse(key, value)?),
            "auto_compact" => self.auto_compact = parse(key, value)?,
            MAX_GROUP_BYTES => self.max_group_bytes = Some(group_bytes(key, value)?),
            // A switch that a bound user can turn off binds no user.
            READ_ONLY => match (self.read_only, parse(key, value)?) {
                (true, false) => {
                    return config_err!("{key} cannot be turned off again; use another session");
                }
                (_, read_only) => self.read_only = read_only,
            },
            other => return config_err!("there is no option {PREFIX}.{other}"),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        let mut entries = vec![
            entry(
                "target_file_rows",
                self.target_file_rows,
                "Rows at which a superfile is closed and the next one begun.",
            ),
            entry(
                "target_file_bytes",
                self.target_file_bytes,
                "Bytes in memory, before encoding, at which a superfile is closed.",
            ),
            entry(
                "auto_compact",
                self.auto_compact,
                "Whether small superfiles are joined in the background after writes.",
            ),
            ConfigEntry {
                value: self.max_group_bytes.map(|bytes| bytes.to_string()),
                ..entry(
                    MAX_GROUP_BYTES,
                    "",
                    "Bytes of superfiles that a compaction of the whole table, or along a curve, writes anew in one \
                     commit, at most. Unset: as the table's option says, else 10 GiB.",
                )
            },
            entry(
                READ_ONLY,
                self.read_only,
                "Whether the session only reads. Once it does it cannot be allowed to write again.",
            ),
            entry(
                EXPOSE_ROW_ID,
                self.expose_row_id.as_str(),
                "Whether the stable ids of rows can be had on every table: false, true (by the function \
                 _id(…)) or column (also as the last column of what queries read).",
            ),
            ConfigEntry {
                key: format!("{PREFIX}.{ISOLATION}"),
                value: self.isolation.map(|level| level.as_str().to_owned()),
                description: "What statements are protected from: snapshot or serializable. Unset: \
                              as the table's option says, else snapshot.",
            },
        ];
        entries.extend(self.write.entries());
        entries
    }
}

/// Options that a table is created with; they are stored in the table as properties.
///
/// Registered with a session so that `OPTIONS ('supertable.<name>' '<value>')` is understood; the
/// values reach the table's factory through the statement itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SupertableTableOptions {}

/// The property in which a table keeps whether writes are followed by a compaction.
pub(crate) const AUTO_COMPACT: &str = "supertable.auto_compact";

/// The property that says along which curve a table's rows are clustered.
pub(crate) const CLUSTER_BY: &str = "supertable.cluster_by";

/// How many bytes of superfiles a compaction writes anew in one commit, at most, where neither its caller nor the
/// session or the table says so.
pub(crate) const DEFAULT_MAX_GROUP_BYTES: u64 = 10 << 30;
/// The option for it.
const MAX_GROUP_BYTES: &str = "max_group_bytes";

/// Checks an option (without its prefix) that a table is created with.
///
/// # Errors
/// There is no such option, or the value is none of its values. A condition, and what a table is clustered by, are
/// checked where the table's columns are known.
pub(crate) fn check_table_option(name: &str, value: &str) -> Result<()> {
    match name {
        "auto_compact" => parse::<bool>(name, value).map(drop),
        EXPOSE_ROW_ID => parse::<RowIdExposure>(name, value).map(drop),
        ISOLATION => parse::<Isolation>(name, value).map(drop),
        MAX_GROUP_BYTES => group_bytes(name, value).map(drop),
        "cluster_by" => Ok(()),
        _ if WriteOptions::has(name) => WriteOptions::default().set(name, value),
        _ if name.strip_prefix(CHECK).is_some_and(|n| !n.is_empty()) => Ok(()),
        _ => config_err!("there is no table option {PREFIX}.{name}"),
    }
}

impl ConfigExtension for SupertableTableOptions {
    const PREFIX: &'static str = PREFIX;
}

impl ExtensionOptions for SupertableTableOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        check_table_option(own_option(key).unwrap_or(key), value)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}

/// The name of an option of this crate's without its prefix; `None` for the keys of others.
pub(crate) fn own_option(key: &str) -> Option<&str> {
    key.strip_prefix(PREFIX)?.strip_prefix('.')
}

fn parse<T: FromStr>(key: &str, value: &str) -> Result<T> {
    match value.parse() {
        Ok(parsed) => Ok(parsed),
        Err(_) => config_err!("'{value}' is not a valid value of {key}"),
    }
}

fn group_bytes(key: &str, value: &str) -> Result<u64> {
    match parse(key, value)? {
        0 => config_err!("{key} must be at least 1"),
        bytes => Ok(bytes),
    }
}

fn entry(name: &str, value: impl ToString, description: &'static str) -> ConfigEntry {
    ConfigEntry {
        key: format!("{PREFIX}.{name}"),
        value: Some(value.to_string()),
        description,
    }
}
