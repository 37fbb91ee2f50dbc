//! What calls of the API answer. Owns the records and their documentation; each is filled in from what the layers below
//! say. More fields may come.

use std::time::{Duration, SystemTime};

use crate::dml::compact::{GroupOutcome, Optimized};
use crate::dml::write::receipt::Committed;
use crate::sql::functions::history::{Entry, duration_ms, operation};
use crate::table::Restored;

/// What a statement has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeReport {
    /// The version of the table since which the change is in force. `None` if there was nothing to change: no version
    /// was made then.
    pub version: Option<u64>,
    /// Rows that came in.
    pub rows_inserted: u64,
    /// Rows that were replaced by new values.
    pub rows_updated: u64,
    /// Rows that went.
    pub rows_deleted: u64,
    /// Superfiles that the statement wrote.
    pub files_added: u64,
    /// Superfiles of which it took the last row, so that they are no longer part of the table. (The objects stay, for
    /// earlier versions, until a vacuum deletes them.)
    pub files_removed: u64,
    /// How often the statement ran again, because others committed first.
    pub reruns: u64,
}

impl ChangeReport {
    pub(super) fn of(committed: Committed) -> Self {
        Self {
            version: committed.version,
            rows_inserted: committed.rows.inserted,
            rows_updated: committed.rows.updated,
            rows_deleted: committed.rows.deleted,
            files_added: committed.files_added,
            files_removed: committed.files_removed,
            reruns: committed.reruns,
        }
    }

    /// All rows that came, went or changed.
    pub fn rows_affected(&self) -> u64 {
        self.rows_inserted + self.rows_updated + self.rows_deleted
    }
}

/// What an `ALTER TABLE` has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlterReport {
    /// The version that has the changes; the newest one if there was nothing to change.
    pub version: u64,
    /// How many columns the table has now.
    pub columns: u64,
}

/// What a restore has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The earlier version, whose rows and columns are the table's again.
    pub restored: u64,
    /// The version that was made; the newest one if the table was the same already.
    pub version: u64,
    /// Rows of the table in it.
    pub num_rows: u64,
}

impl From<Restored> for RestoreReport {
    fn from(done: Restored) -> Self {
        Self {
            restored: done.from,
            version: done.version,
            num_rows: done.live_rows,
        }
    }
}

/// What a compaction has written anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptimizeReport {
    /// The last version that it made, one for each group of superfiles; `None` if none was made.
    pub version: Option<u64>,
    /// Groups of superfiles that were written anew, or would be ([`dry_run`](crate::OptimizeBuilder::dry_run)).
    pub groups: u64,
    /// Superfiles of these groups.
    pub files_removed: u64,
    /// Superfiles that took their place; 0 of a dry run.
    pub files_added: u64,
    /// Rows of these groups.
    pub num_rows: u64,
    /// Bytes of [`files_removed`](Self::files_removed).
    pub bytes_removed: u64,
    /// Bytes of [`files_added`](Self::files_added).
    pub bytes_added: u64,
    /// Why other groups were left as they were: one sentence for each.
    pub left: Vec<String>,
}

impl OptimizeReport {
    pub(super) fn of(groups: Vec<Optimized>) -> Self {
        let mut report = Self::default();
        for group in groups {
            match group.outcome {
                GroupOutcome::Committed(version) => {
                    report.version = report.version.max(Some(version))
                }
                GroupOutcome::Planned => {}
                GroupOutcome::Superseded => {
                    let why = "other statements took its rows first";
                    report.left.push(why.to_owned());
                    continue;
                }
                GroupOutcome::GivenUp(why) => {
                    report.left.push(why);
                    continue;
                }
            }
            report.groups += 1;
            report.files_removed += group.sources as u64;
            report.files_added += group.superfiles as u64;
            report.num_rows += group.rows;
            report.bytes_removed += group.bytes_before;
            report.bytes_added += group.bytes_after;
        }
        report
    }
}

/// A statement in a table's history.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The version that committed it.
    pub version: u64,
    /// When that version was made.
    pub committed_at: SystemTime,
    /// What kind of statement it was: `CREATE`, `INSERT`, `OVERWRITE`, `DELETE`, `UPDATE`, `MERGE`, `TRUNCATE`,
    /// `ALTER`, `COMPACT` or `RESTORE`.
    pub operation: &'static str,
    /// Rows that came in.
    pub rows_inserted: u64,
    /// Rows that were replaced by new values.
    pub rows_updated: u64,
    /// Rows that went.
    pub rows_deleted: u64,
    /// Rows of the table in the version.
    pub num_rows: u64,
    /// Superfiles of the version.
    pub num_files: u64,
    /// How long it took, from its beginning to the commit.
    pub duration: Duration,
    /// The statement in words, cut when long.
    pub statement: String,
}

impl HistoryEntry {
    pub(super) fn of((header, commit): Entry<'_>) -> Self {
        let duration = commit.map_or(0, |commit| duration_ms(header, commit));
        Self {
            version: header.version,
            committed_at: time_of(header.created_at_ms),
            operation: operation(commit),
            rows_inserted: commit.map_or(0, |commit| commit.rows_inserted),
            rows_updated: commit.map_or(0, |commit| commit.rows_updated),
            rows_deleted: commit.map_or(0, |commit| commit.rows_deleted),
            num_rows: header.totals.live_rows,
            num_files: header.totals.superfiles,
            duration: Duration::from_millis(duration.unsigned_abs()),
            statement: commit.map_or_else(String::new, |commit| commit.statement.clone()),
        }
    }
}

/// A moment that is stored as milliseconds since the Unix epoch.
pub(super) fn time_of(ms: i64) -> SystemTime {
    let distance = Duration::from_millis(ms.unsigned_abs());
    match ms >= 0 {
        true => SystemTime::UNIX_EPOCH + distance,
        false => SystemTime::UNIX_EPOCH - distance,
    }
}

/// The millisecond since the Unix epoch in which a moment lies.
pub(super) fn ms_of(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        // The millisecond begins before the moment.
        Err(before) => {
            let nanos = before.duration().as_nanos();
            i64::try_from(nanos.div_ceil(1_000_000)).map_or(i64::MIN, |ms| -ms)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_lies_in_the_millisecond_that_it_began_in() {
        let epoch = SystemTime::UNIX_EPOCH;
        for ms in [-1_500, -1, 0, 1, 1_700_000_000_123] {
            assert_eq!(ms_of(time_of(ms)), ms);
        }
        assert_eq!(ms_of(epoch + Duration::from_micros(1_900)), 1);
        assert_eq!(ms_of(epoch - Duration::from_micros(100)), -1);
        assert_eq!(ms_of(epoch - Duration::from_micros(1_900)), -2);
    }
}
