//! Options: of a session under the prefix `supertable`, and of a table in `OPTIONS (…)`.
//!
//! Owns the names, types, defaults and documentation of every option. Does not own their effect.
//!
//! Implemented by hand because DataFusion's macro lists entries without their prefix, so that
//! `SHOW supertable.x` would not find them.

use std::any::Any;
use std::collections::BTreeMap;
use std::str::FromStr;

use datafusion::common::{Result, config_err};
use datafusion::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};

use crate::format::ids::MAX_SUPERFILE_ROWS;

/// Prefix of all options.
pub const PREFIX: &str = "supertable";

/// Session options, set by `SET supertable.<name> = <value>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupertableOptions {
    /// A superfile is closed once it holds so many rows.
    pub target_file_rows: u64,
    /// A superfile is closed once its rows took so many bytes of memory before encoding.
    pub target_file_bytes: u64,
    /// Whether small superfiles are joined in the background after writes.
    pub auto_compact: bool,
}

impl Default for SupertableOptions {
    fn default() -> Self {
        Self {
            target_file_rows: MAX_SUPERFILE_ROWS,
            target_file_bytes: 2 << 30,
            auto_compact: false,
        }
    }
}

impl SupertableOptions {
    /// The options in force in a session; the defaults where none are registered.
    pub fn of(config: &ConfigOptions) -> Self {
        config.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// Whether writes to a table with these properties are followed by a compaction: the session says
    /// so, or the table does.
    pub fn auto_compact_for(&self, properties: &BTreeMap<String, String>) -> bool {
        self.auto_compact
            || properties
                .get(AUTO_COMPACT)
                .is_some_and(|value| value == "true")
    }
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
        match strip_prefix(key) {
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
            "auto_compact" => self.auto_compact = parse(key, value)?,
            other => return config_err!("there is no option {PREFIX}.{other}"),
        }
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![
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
        ]
    }
}

/// Options that a table is created with; they are stored in the table as properties.
///
/// Registered with a session so that `OPTIONS ('supertable.<name>' '<value>')` is understood; the
/// values reach the table's factory through the statement itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SupertableTableOptions {}

/// The names of the options a table can be created with.
pub const TABLE_OPTIONS: &[&str] = &["auto_compact"];

/// The property in which a table keeps whether writes are followed by a compaction.
pub const AUTO_COMPACT: &str = "supertable.auto_compact";

/// Checks the value of one of [`TABLE_OPTIONS`].
///
/// # Errors
/// The value is not one that the option can have.
pub fn check_table_option(name: &str, value: &str) -> Result<()> {
    match name {
        "auto_compact" => parse::<bool>(name, value).map(|_| ()),
        _ => Ok(()),
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
        let name = strip_prefix(key);
        if !TABLE_OPTIONS.contains(&name) {
            return config_err!("there is no table option {PREFIX}.{name}");
        }
        check_table_option(name, value)
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        vec![]
    }
}

fn strip_prefix(key: &str) -> &str {
    key.strip_prefix(PREFIX)
        .and_then(|k| k.strip_prefix('.'))
        .unwrap_or(key)
}

fn parse<T: FromStr>(key: &str, value: &str) -> Result<T> {
    match value.parse() {
        Ok(parsed) => Ok(parsed),
        Err(_) => config_err!("'{value}' is not a valid value of {key}"),
    }
}

fn entry(name: &str, value: impl ToString, description: &'static str) -> ConfigEntry {
    ConfigEntry {
        key: format!("{PREFIX}.{name}"),
        value: Some(value.to_string()),
        description,
    }
}
