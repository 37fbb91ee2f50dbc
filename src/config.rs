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
use crate::format::ids::MAX_SUPERFILE_ROWS;

/// Prefix of all options.
pub const PREFIX: &str = "supertable";

/// Session options, set by `SET supertable.<name> = <value>`.
#[derive(Debug, Clone, PartialEq)]
pub struct SupertableOptions {
    /// A superfile is closed once it holds so many rows.
    pub target_file_rows: u64,
    /// A superfile is closed once its rows took so many bytes of memory before encoding.
    pub target_file_bytes: u64,
    /// How superfiles are written, where the session says so: it comes before what a table says.
    pub write: WriteOptions,
}

impl Default for SupertableOptions {
    fn default() -> Self {
        Self {
            target_file_rows: MAX_SUPERFILE_ROWS,
            target_file_bytes: 2 << 30,
            write: WriteOptions::default(),
        }
    }
}

impl SupertableOptions {
    /// The options in force in a session; the defaults where none are registered.
    pub fn of(config: &ConfigOptions) -> Self {
        config.extensions.get::<Self>().cloned().unwrap_or_default()
    }

    /// How superfiles of a table with these properties are written; a file's target is always set.
    pub fn write_options(&self, properties: &BTreeMap<String, String>) -> WriteOptions {
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
            name if WriteOptions::has(name) => self.write.set(name, value)?,
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
pub struct SupertableTableOptions {}

/// Checks an option that a table is created with; `name` is given without `supertable.`.
///
/// # Errors
/// There is no such option, or `value` is none of it.
pub(crate) fn check_table_option(name: &str, value: &str) -> Result<()> {
    if WriteOptions::has(name) {
        return WriteOptions::default().set(name, value);
    }
    config_err!("there is no table option {PREFIX}.{name}")
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
        check_table_option(strip_prefix(key), value)
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
