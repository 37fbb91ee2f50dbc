//! Restore: an earlier version's rows and columns become the current ones again, in a new version.
//!
//! Owns what the change set of a restore holds. Does not own its rules (`apply`), nor finding the version
//! (`version::history`).
//! Invariants: it replaces exactly the version that it was made from, or conflicts and is made anew. The
//! document is durable before the earlier version is looked for, from the store and not from memory, along
//! the chain from the version that is replaced: so a vacuum has either cut the chain before, and there is
//! nothing to restore, or sees the document and leaves everything alone.
//! A crash leaves a mutation like any other; it stages nothing, so undoing it deletes nothing of the versions.

use std::sync::Arc;

use super::attempts::{AttemptEnd, Attempts};
use super::commit::committer::Committer;
use super::commit::{Effect, Mutation};
use super::version::diff::difference;
use super::version::history::Nodes;
use super::version::moment::Moment;
use super::version::snapshot::Snapshot;
use crate::error::Result;
use crate::format::OpKind;
use crate::format::manifest::{CHECK, SuperfileEntry, TableMetadata};

/// What a restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The version that is as it was.
    pub from: u64,
    /// The version that was made; the current one if it was the same already.
    pub version: u64,
    /// How many live rows the table has in it.
    pub live_rows: u64,
}

/// Makes a table what it was at `moment`, in a new version.
///
/// # Errors
/// `NotFound` says which versions there are; `Conflict` if other statements kept committing first.
pub(super) async fn restore(committer: &Arc<Committer>, moment: Moment) -> Result<Restored> {
    let words = match moment {
        Moment::Version(version) => format!("RESTORE to version {version}"),
        Moment::Time(ms) => format!("RESTORE to {ms} ms since 1970"),
    };
    let mut attempts = Attempts::of(words.as_str(), committer.context.as_ref());
    loop {
        let base = committer.head.refresh().await?.snapshot;
        let mutation =
            Mutation::begin(committer, OpKind::Restore, Arc::clone(&base), words.clone());
        // Dropping the mutation where this fails aborts it.
        mutation.durable().await?;
        let history = &committer.history;
        let old = history
            .find(moment, Arc::clone(&base), Nodes::Stored)
            .await?;
        let done = |version| Restored {
            from: old.version(),
            version,
            live_rows: old.manifest().totals().live_rows,
        };
        match AttemptEnd::of(mutation.commit(effect(&base, &old)).await)? {
            AttemptEnd::Committed { version, .. } => return Ok(done(version)),
            AttemptEnd::Nothing => return Ok(done(base.version())),
            AttemptEnd::Lost(why) => attempts.after_loss(why).await?,
        }
    }
}

/// What makes `base` into `old`.
fn effect(base: &Snapshot, old: &Snapshot) -> Effect {
    let difference = difference(base.manifest(), old.manifest());
    let live = |entries: &[Arc<SuperfileEntry>]| -> u64 {
        entries.iter().map(|entry| entry.live_rows()).sum()
    };
    let mut effect = Effect {
        drop: difference.removed.iter().map(|entry| entry.id).collect(),
        rows_inserted: live(&difference.added),
        rows_deleted: live(&difference.removed),
        metadata: metadata(base.metadata(), old.metadata()),
        ..Effect::default()
    };
    for (now, then) in &difference.changed {
        let (now, then) = (now.live_rows(), then.live_rows());
        effect.rows_inserted += then.saturating_sub(now);
        effect.rows_deleted += now.saturating_sub(then);
    }
    let changed = difference.changed.iter().map(|(_, then)| then);
    effect.add = difference
        .added
        .iter()
        .chain(changed)
        .map(|entry| entry.as_ref().clone())
        .collect();
    effect
}

/// The metadata that goes with the old columns, if they are others. Neither field ids nor physical names are ever
/// given out twice.
fn metadata(base: &TableMetadata, old: &TableMetadata) -> Option<TableMetadata> {
    if base.schema == old.schema {
        // The old rows are only known to obey the keys and the checks that they had.
        let is_check = |key: &String| key.starts_with(CHECK);
        let mut properties = base.properties.clone();
        properties.retain(|key, _| !is_check(key));
        let checks = old.properties.iter().filter(|(key, _)| is_check(key));
        properties.extend(checks.map(|(key, check)| (key.clone(), check.clone())));
        let metadata = TableMetadata {
            keys: old.keys.clone(),
            properties,
            ..base.clone()
        };
        return (metadata != *base).then_some(metadata);
    }
    let mut metadata = TableMetadata {
        next_field_id: base.next_field_id,
        ..old.clone()
    };
    metadata.retire_names_of(base);
    Some(metadata)
}
