//! What was taken in becomes a manifest, and the sidecars that it needs.
//!
//! Owns the construction of the version from the states that judging left. Does not own the judgement.
//!
//! Invariant: every sidecar that the new version names is one that it had, one that was staged, or
//! one of those handed out with it.

use super::{Next, Tombstones};
use crate::format::ids::{ContentHash, WalId};
use crate::format::manifest::{CommitRecord, ManifestEdit, ManifestHeader, TombstoneUpdate};
use crate::table::apply::absence::dropped_rows;
use crate::table::apply::carry::sidecar_of;
use crate::table::apply::{Applied, ApplyContext, ApplyError, Outcome};

/// The version, and what became of each change set.
pub(in crate::table::apply) fn finish(
    next: Next<'_>,
    manifest_hash: &ContentHash,
    commits: Vec<CommitRecord>,
    outcomes: Vec<(WalId, Outcome)>,
    ctx: ApplyContext<'_>,
) -> Result<Applied, ApplyError> {
    let mut edit = ManifestEdit {
        // The block is this draft's alone.
        salt: ctx.fresh.base(),
        ..ManifestEdit::default()
    };
    let mut sidecars = Vec::new();
    let mut used = 0;
    for (superfile, state) in next.states {
        let tombstones = match state.tombstones {
            Tombstones::Unchanged => continue,
            Tombstones::Dropped => {
                edit.drop.push(superfile);
                continue;
            }
            Tombstones::Staged(union, _) => union,
            Tombstones::Computed(bitmap) => {
                let (reference, bytes) = sidecar_of(bitmap, &ctx, &mut used)?;
                sidecars.push((reference, superfile, bytes));
                reference
            }
        };
        edit.set_tombstones.push(TombstoneUpdate {
            superfile,
            tombstones,
            moved_at: state.moved_at,
        });
    }
    // Of a superfile that gets another entry the statistics may change.
    let lost = edit.drop.iter().chain(&next.replaced);
    let lost = lost.filter_map(|id| next.manifest.get(id));
    let dropped = dropped_rows(next.manifest, lost.map(|entry| entry.as_ref()));
    let mut carried = next.carried;
    for (superfile, mut entry) in next.added {
        if let Some(bitmap) = carried.remove(&superfile) {
            let (reference, bytes) = sidecar_of(bitmap, &ctx, &mut used)?;
            sidecars.push((reference, superfile, bytes));
            entry.tombstones = Some(reference);
        }
        match next.replaced.contains(&superfile) {
            true => edit.replace.push(entry),
            false => edit.add.push(entry),
        }
    }
    let old = next.manifest.header();
    let pending = old
        .commits
        .iter()
        .chain(&old.pending)
        .filter(|record| !ctx.gone_wal_ids.contains(&record.wal_id))
        .cloned()
        .collect();
    let header = ManifestHeader {
        version: next.version,
        parent: Some(*manifest_hash),
        // Never empty where they should not be: what was read was checked.
        skips: old.skips_after(*manifest_hash).unwrap_or_default(),
        created_at_ms: ctx.now_ms,
        metadata: next.metadata,
        metadata_changed_at: next.metadata_changed_at,
        schema_changed_at: next.schema_changed_at,
        moved_at: next.moved_at,
        rows_changed_at: next.rows_changed_at,
        restored_at: next.restored_at,
        dropped,
        added_keys: next.additions.kept(next.version),
        commits,
        pending,
        totals: old.totals,
    };
    Ok(Applied {
        manifest: Some(edit.apply(next.manifest, header)?),
        sidecars,
        outcomes,
    })
}
