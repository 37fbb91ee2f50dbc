//! How superfiles are written: the options, where each may be set, and which value is in force.
//!
//! Owns the names under `supertable.write.`, their validation and their order of precedence: the
//! session's value, then the table's, then DataFusion's own setting for Parquet. Does not own the
//! writing, nor how many files are encoded at once: that is DataFusion's.
//!
//! Invariant: a value that was accepted once, for a session or a table, can be applied: nothing is
//! found out first when rows are written.

use std::collections::BTreeMap;
use std::str::FromStr;

use datafusion::common::{Result, config_err};
use datafusion::config::{ConfigEntry, TableParquetOptions};
use parquet::basic::{Compression, ZstdLevel};

use super::{PREFIX, entry, own_option};
use crate::format::ids::MAX_SUPERFILE_ROWS;

/// What every name of these options begins with, after `supertable.`.
const GROUP: &str = "write.";

/// The options, by their names after `supertable.write.`, each with what it means.
const NAMES: [(&str, &str); 11] = [
    (
        "compression",
        "Codec of data pages: uncompressed, snappy, lz4_raw, zstd(1) to zstd(22). Unset: chosen by \
         the rows.",
    ),
    (
        "dictionary",
        "Whether columns are dictionary-encoded while it pays. Unset: where the rows ask for it.",
    ),
    (
        "row_group_rows",
        "Rows of a row group, the unit that is skipped as a whole and encoded at once.",
    ),
    ("page_bytes", "Bytes at which a data page is closed."),
    (
        "page_rows",
        "Rows at which a data page is closed: the unit that page statistics skip.",
    ),
    (
        "page_index",
        "Whether statistics of each page are written, not only those of row groups.",
    ),
    (
        "bloom_filter_columns",
        "Columns that get a Bloom filter, separated by commas.",
    ),
    (
        "bloom_filter_fpp",
        "How often a Bloom filter may be wrong, between 0 and 1.",
    ),
    (
        "bloom_filter_ndv",
        "How many distinct values of a row group a Bloom filter expects.",
    ),
    (
        "target_file_rows",
        "Rows at which a superfile is closed and the next one begun.",
    ),
    (
        "target_file_bytes",
        "Bytes in memory, before encoding, at which a superfile is closed.",
    ),
];

/// The property that lists a table's columns with Bloom filters.
pub(crate) const BLOOM_FILTER_COLUMNS: &str = "supertable.write.bloom_filter_columns";

/// The options that a session or a table sets; what is `None` is left to the next in line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WriteOptions {
    /// Codec of data pages.
    pub compression: Option<String>,
    /// Whether columns are dictionary-encoded.
    pub dictionary: Option<bool>,
    /// Rows of a row group.
    pub row_group_rows: Option<usize>,
    /// Bytes of a data page.
    pub page_bytes: Option<usize>,
    /// Rows of a data page.
    pub page_rows: Option<usize>,
    /// Whether pages have statistics.
    pub page_index: Option<bool>,
    /// Columns with Bloom filters.
    pub bloom_filter_columns: Option<Vec<String>>,
    /// A Bloom filter's rate of false positives.
    pub bloom_filter_fpp: Option<f64>,
    /// A Bloom filter's number of distinct values.
    pub bloom_filter_ndv: Option<u64>,
    /// Rows of a superfile.
    pub target_file_rows: Option<u64>,
    /// Bytes of a superfile before encoding.
    pub target_file_bytes: Option<u64>,
}

impl WriteOptions {
    /// Whether `name`, without `supertable.`, is one of these options.
    pub(crate) fn has(name: &str) -> bool {
        name.strip_prefix(GROUP)
            .is_some_and(|name| NAMES.iter().any(|(known, _)| *known == name))
    }

    /// Sets the option `name`, which is given without `supertable.`.
    ///
    /// # Errors
    /// There is no such option, or `value` is none of it.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let key = format!("{PREFIX}.{name}");
        match name.strip_prefix(GROUP).unwrap_or(name) {
            "compression" => self.compression = Some(compression(&key, value)?),
            "dictionary" => self.dictionary = Some(parsed(&key, value)?),
            "row_group_rows" => self.row_group_rows = Some(count(&key, value, 1 << 30)?),
            "page_bytes" => self.page_bytes = Some(count(&key, value, 1 << 30)?),
            "page_rows" => self.page_rows = Some(count(&key, value, 1 << 30)?),
            "page_index" => self.page_index = Some(parsed(&key, value)?),
            "bloom_filter_columns" => {
                let names = value.split(',').map(|name| name.trim().to_owned());
                self.bloom_filter_columns = Some(names.filter(|name| !name.is_empty()).collect());
            }
            "bloom_filter_fpp" => {
                let fpp: f64 = parsed(&key, value)?;
                if !(fpp > 0.0 && fpp < 1.0) {
                    return config_err!("{key} must be between 0 and 1, not {value}");
                }
                self.bloom_filter_fpp = Some(fpp);
            }
            "bloom_filter_ndv" => self.bloom_filter_ndv = Some(count(&key, value, u64::MAX)?),
            "target_file_rows" => {
                self.target_file_rows = Some(count(&key, value, MAX_SUPERFILE_ROWS)?);
            }
            "target_file_bytes" => self.target_file_bytes = Some(count(&key, value, u64::MAX)?),
            other => return config_err!("there is no option {PREFIX}.{GROUP}{other}"),
        }
        Ok(())
    }

    /// What a table's properties set. Those of newer versions, and damaged ones, set nothing: they
    /// concern how a file is written, never what is in it.
    pub(crate) fn of_properties(properties: &BTreeMap<String, String>) -> Self {
        let mut options = Self::default();
        for (key, value) in properties {
            if let Some(name) = own_option(key)
                && Self::has(name)
                && let Err(error) = options.set(name, value)
            {
                tracing::warn!(key, value, %error, "a table property is left out of account");
            }
        }
        options
    }

    /// These options, and where one is not set, that of `other`.
    #[must_use]
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            compression: self.compression.or(other.compression),
            dictionary: self.dictionary.or(other.dictionary),
            row_group_rows: self.row_group_rows.or(other.row_group_rows),
            page_bytes: self.page_bytes.or(other.page_bytes),
            page_rows: self.page_rows.or(other.page_rows),
            page_index: self.page_index.or(other.page_index),
            bloom_filter_columns: self.bloom_filter_columns.or(other.bloom_filter_columns),
            bloom_filter_fpp: self.bloom_filter_fpp.or(other.bloom_filter_fpp),
            bloom_filter_ndv: self.bloom_filter_ndv.or(other.bloom_filter_ndv),
            target_file_rows: self.target_file_rows.or(other.target_file_rows),
            target_file_bytes: self.target_file_bytes.or(other.target_file_bytes),
        }
    }

    /// Puts these options into DataFusion's.
    pub(crate) fn apply(&self, parquet: &mut TableParquetOptions) {
        let global = &mut parquet.global;
        if let Some(compression) = &self.compression {
            global.compression = Some(compression.clone());
        }
        if let Some(dictionary) = self.dictionary {
            global.dictionary_enabled = Some(dictionary);
        }
        if let Some(rows) = self.row_group_rows {
            global.max_row_group_size = rows;
        }
        if let Some(bytes) = self.page_bytes {
            global.data_pagesize_limit = bytes;
        }
        if let Some(rows) = self.page_rows {
            global.data_page_row_count_limit = rows;
        }
        if let Some(index) = self.page_index {
            let statistics = if index { "page" } else { "chunk" };
            global.statistics_enabled = Some(statistics.to_owned());
        }
        for column in self.bloom_filter_columns.iter().flatten() {
            let options = parquet
                .column_specific_options
                .entry(column.clone())
                .or_default();
            options.bloom_filter_enabled = Some(true);
            options.bloom_filter_fpp = self.bloom_filter_fpp.or(options.bloom_filter_fpp);
            options.bloom_filter_ndv = self.bloom_filter_ndv.or(options.bloom_filter_ndv);
        }
    }

    /// What `SHOW` lists: every option, those that are not set too.
    pub(crate) fn entries(&self) -> Vec<ConfigEntry> {
        let text = |name: &str| match name {
            "compression" => self.compression.clone(),
            "dictionary" => shown(&self.dictionary),
            "row_group_rows" => shown(&self.row_group_rows),
            "page_bytes" => shown(&self.page_bytes),
            "page_rows" => shown(&self.page_rows),
            "page_index" => shown(&self.page_index),
            "bloom_filter_columns" => self.bloom_filter_columns.as_ref().map(|c| c.join(",")),
            "bloom_filter_fpp" => shown(&self.bloom_filter_fpp),
            "bloom_filter_ndv" => shown(&self.bloom_filter_ndv),
            "target_file_rows" => shown(&self.target_file_rows),
            _ => shown(&self.target_file_bytes),
        };
        NAMES
            .iter()
            .map(|(name, description)| ConfigEntry {
                value: text(name),
                ..entry(&format!("{GROUP}{name}"), "", description)
            })
            .collect()
    }
}

fn shown(value: &Option<impl ToString>) -> Option<String> {
    value.as_ref().map(ToString::to_string)
}

fn parsed<T: FromStr>(key: &str, value: &str) -> Result<T> {
    match value.trim().parse() {
        Ok(parsed) => Ok(parsed),
        Err(_) => config_err!("'{value}' is not a valid value of {key}"),
    }
}

fn count<T: FromStr + PartialOrd + From<u8> + std::fmt::Display>(
    key: &str,
    value: &str,
    max: T,
) -> Result<T> {
    let parsed: T = parsed(key, value)?;
    if parsed < T::from(1) || parsed > max {
        return config_err!("{key} must be between 1 and {max}, not {value}");
    }
    Ok(parsed)
}

/// The codecs that this build has; Parquet knows more of them.
fn compression(key: &str, value: &str) -> Result<String> {
    let value = value.trim().to_ascii_lowercase();
    let codec = match value.as_str() {
        "uncompressed" => Some(Compression::UNCOMPRESSED),
        "snappy" => Some(Compression::SNAPPY),
        "lz4_raw" => Some(Compression::LZ4_RAW),
        other => other
            .strip_prefix("zstd(")
            .and_then(|rest| rest.strip_suffix(')'))
            .and_then(|level| ZstdLevel::try_new(level.trim().parse().ok()?).ok())
            .map(Compression::ZSTD),
    };
    match codec {
        Some(_) => Ok(value),
        None => config_err!(
            "'{value}' is not a valid value of {key}: uncompressed, snappy, lz4_raw, or zstd(1) to \
             zstd(22)"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_session_comes_before_the_table_and_the_table_before_datafusion() {
        let mut session = WriteOptions::default();
        session.set("write.page_rows", "100").unwrap();
        let table = WriteOptions::of_properties(&BTreeMap::from([
            ("supertable.write.page_rows".to_owned(), "7".to_owned()),
            (
                "supertable.write.compression".to_owned(),
                "Snappy".to_owned(),
            ),
            ("supertable.write.of_the_future".to_owned(), "1".to_owned()),
        ]));
        let mut parquet = TableParquetOptions::default();
        let untouched = parquet.global.data_pagesize_limit;
        session.or(table).apply(&mut parquet);
        assert_eq!(parquet.global.data_page_row_count_limit, 100);
        assert_eq!(parquet.global.compression.as_deref(), Some("snappy"));
        assert_eq!(parquet.global.data_pagesize_limit, untouched);
    }

    #[test]
    fn a_value_that_could_not_be_applied_is_refused() {
        for (name, value) in [
            ("write.compression", "zstd(23)"),
            ("write.compression", "zstd"),
            ("write.compression", "brotli(4)"),
            ("write.dictionary", "yes please"),
            ("write.row_group_rows", "0"),
            ("write.page_rows", "-1"),
            ("write.page_bytes", "99999999999999"),
            ("write.bloom_filter_fpp", "1"),
            ("write.bloom_filter_fpp", "NaN"),
            ("write.target_file_rows", "0"),
            ("write.colour", "red"),
        ] {
            assert!(WriteOptions::default().set(name, value).is_err(), "{name}");
        }
    }

    #[test]
    fn every_option_is_listed_can_be_set_and_is_applied_by_the_parquet_writer() {
        let mut options = WriteOptions::default();
        for (name, value) in [
            ("compression", "lz4_raw"),
            ("dictionary", "false"),
            ("row_group_rows", "1000"),
            ("page_bytes", "1000"),
            ("page_rows", "1000"),
            ("page_index", "false"),
            ("bloom_filter_columns", "a, b"),
            ("bloom_filter_fpp", "0.01"),
            ("bloom_filter_ndv", "1000"),
            ("target_file_rows", "1000"),
            ("target_file_bytes", "1000"),
        ] {
            assert!(WriteOptions::has(&format!("write.{name}")));
            options.set(&format!("write.{name}"), value).unwrap();
        }
        assert_eq!(options.entries().len(), NAMES.len());
        assert!(options.entries().iter().all(|e| e.value.is_some()));
        let mut parquet = TableParquetOptions::default();
        options.apply(&mut parquet);
        assert_eq!(parquet.column_specific_options.len(), 2);
        parquet.global.into_writer_properties_builder().unwrap();
    }
}
