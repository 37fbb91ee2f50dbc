//! What each entry and node of a manifest must satisfy on its own.
//!
//! Owns those predicates. Does not own what must hold between versions ([`super::check`]).
//!
//! Invariant: they read and change nothing.

use super::entry::{NodeRef, SuperfileEntry, Totals};
use super::error::ManifestError;
use crate::format::ids::SuperfileId;

/// Positions in a superfile are 32 bits wide.
const MAX_ROWS: u64 = 1 << 32;

/// Checks what every entry must satisfy on its own.
pub(crate) fn check_entry(entry: &SuperfileEntry) -> Result<(), ManifestError> {
    if entry.rows > MAX_ROWS {
        return Err(ManifestError::TooManyRows {
            superfile: entry.id,
            rows: entry.rows,
        });
    }
    if entry.in_place.is_some() && entry.footer_checksum.is_none() {
        return Err(ManifestError::BadPlace {
            superfile: entry.id,
        });
    }
    if entry.deleted_rows() > entry.rows {
        return Err(ManifestError::MoreTombstonesThanRows {
            superfile: entry.id,
            tombstones: entry.deleted_rows(),
            rows: entry.rows,
        });
    }
    Ok(())
}

pub(super) fn check_len(len: usize, max: usize) -> Result<(), ManifestError> {
    if len == 0 || len > max {
        return Err(ManifestError::BadNodeSize { len, max });
    }
    Ok(())
}

pub(super) fn check_order(ids: impl Iterator<Item = SuperfileId>) -> Result<(), ManifestError> {
    let mut previous: Option<SuperfileId> = None;
    for id in ids {
        if previous.is_some_and(|p| p >= id) {
            return Err(ManifestError::OutOfOrder { superfile: id });
        }
        previous = Some(id);
    }
    Ok(())
}

pub(super) fn check_ref(
    node: &NodeRef,
    first: Option<SuperfileId>,
    parts: impl Iterator<Item = Totals>,
) -> Result<(), ManifestError> {
    let totals = Totals::sum(parts).ok_or(ManifestError::TotalsOverflow)?;
    if first != Some(node.first) || totals != node.totals {
        return Err(ManifestError::RefMismatch { node: node.hash });
    }
    Ok(())
}
