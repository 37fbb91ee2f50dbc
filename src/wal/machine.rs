//! The transitions of a WAL document, as pure functions from one document to the next.
//!
//! ```text
//!            renew                 complete
//!            ┌──┐                ┌──────────▶ COMPLETE ──▶ (deleted)
//! create ──▶ INTENT ─ append ─▶ APPENDED
//!            │  ▲                  │
//!      fence │  │ fence            │ fence_conflicting
//!    expired ▼  │                  ▼
//!            INTENT of another owner ────▶ (deleted, after what it staged)
//! ```
//!
//! Owns: which step is legal, and what it changes. Does not own the compare-and-swap that makes it
//! happen, the clock or the nonce (the store stamps one on every write).
//! Invariants: nothing leads out of COMPLETE; only APPENDED leads to COMPLETE; a fenced document names
//! another lease owner, so no etag that its owner knows is valid and it cannot become APPENDED.
//! A crash leaves the document in one of these states; `table::recovery` continues from each.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::format::manifest::shorten_statement;
use crate::format::state_doc::MAX_LISTED_ROWS;
use crate::format::{
    ContentHash, IdBlock, IdSpan, OpKind, RowId, StateDoc, SuperfileId, TombstoneProgress, WalId,
    WalState,
};
use crate::wal::lease;

/// A step that the document's state does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a document in state {from:?} cannot be {step}")]
pub(crate) struct IllegalTransition {
    /// The state the document is in.
    pub from: WalState,
    /// What was to be done to it.
    pub step: &'static str,
}

/// What a document says from its first write on.
#[derive(Clone, Debug)]
pub(crate) struct Intention<'a> {
    /// The mutation's id.
    pub wal_id: WalId,
    /// What kind of statement it is.
    pub op: OpKind,
    /// The version that the statement reads.
    pub base_version: u64,
    /// The ids under which it stages objects.
    pub block: IdBlock,
    /// The statement's text; about a kilobyte of it is kept.
    pub statement: &'a str,
    /// Who writes the document.
    pub owner: &'a str,
}

/// What a document says once everything that the commit needs is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Appendix {
    /// blake3 of the change set.
    pub change_set: Option<ContentHash>,
    /// Rows that the statement adds.
    pub new_rows: u64,
    /// Spans of row ids that were minted for them.
    pub minted: Vec<IdSpan>,
    /// The rows it removes, if they are known and few.
    pub targets: Vec<RowId>,
    /// What becomes of each of them, if they are listed.
    pub progress: Vec<TombstoneProgress>,
}

/// The first document of a mutation.
pub(crate) fn intent(what: &Intention<'_>, now: DateTime<Utc>, ttl: TimeDelta) -> StateDoc {
    // The store stamps a fresh nonce on every write.
    let mut doc = StateDoc::intent(what.wal_id, what.op, now, what.base_version, Uuid::nil());
    doc.lease = Some(lease::fresh(what.owner, now, ttl));
    doc.predicate_repr = shorten_statement(what.statement);
    doc.preallocated_superfile_id = Some(SuperfileId::from_uuid(what.block.base()));
    doc
}

/// The owner is still at work.
pub(crate) fn renew(
    doc: &StateDoc,
    now: DateTime<Utc>,
    ttl: TimeDelta,
) -> Result<StateDoc, IllegalTransition> {
    expect(doc, WalState::Intent, "renewed")?;
    let mut next = doc.clone();
    next.lease = doc
        .lease
        .as_ref()
        .map(|held| lease::renewed(held, now, ttl));
    Ok(next)
}

/// Everything that the commit needs is durable: from here on any process may commit it.
pub(crate) fn append(
    doc: &StateDoc,
    appendix: Appendix,
    now: DateTime<Utc>,
    ttl: TimeDelta,
) -> Result<StateDoc, IllegalTransition> {
    let mut next = renew(doc, now, ttl).map_err(|illegal| IllegalTransition {
        step: "appended",
        ..illegal
    })?;
    next.state = WalState::Appended;
    next.new_row_count = Some(appendix.new_rows);
    next.new_row_content_hash = appendix.change_set;
    // All or none: a list that is cut short would mislead its reader.
    if appendix.targets.len() <= MAX_LISTED_ROWS && appendix.progress.len() <= MAX_LISTED_ROWS {
        next.target_ids = appendix.targets;
        next.tombstone_progress = appendix.progress;
    }
    if appendix.minted.len() <= MAX_LISTED_ROWS {
        next.minted_id_spans = appendix.minted;
    }
    Ok(next)
}

/// The mutation is in the table's history.
pub(crate) fn complete(doc: &StateDoc) -> Result<StateDoc, IllegalTransition> {
    expect(doc, WalState::Appended, "completed")?;
    let mut next = doc.clone();
    next.state = WalState::Complete;
    Ok(next)
}

/// Takes an INTENT from its owner, so that it can be undone.
pub(crate) fn fence(
    doc: &StateDoc,
    by: &str,
    now: DateTime<Utc>,
    ttl: TimeDelta,
) -> Result<StateDoc, IllegalTransition> {
    expect(doc, WalState::Intent, "fenced")?;
    let mut next = doc.clone();
    next.lease = Some(lease::fresh(by, now, ttl));
    Ok(next)
}

/// Takes an APPENDED document whose change set conflicts with a committed version. It goes back to
/// INTENT under another owner: no process commits it any more, and any process that meets it undoes it.
pub(crate) fn fence_conflicting(
    doc: &StateDoc,
    by: &str,
    now: DateTime<Utc>,
    ttl: TimeDelta,
) -> Result<StateDoc, IllegalTransition> {
    expect(doc, WalState::Appended, "fenced as conflicting")?;
    let mut next = doc.clone();
    next.state = WalState::Intent;
    next.lease = Some(lease::fresh(by, now, ttl));
    Ok(next)
}

fn expect(doc: &StateDoc, state: WalState, step: &'static str) -> Result<(), IllegalTransition> {
    if doc.state == state {
        Ok(())
    } else {
        Err(IllegalTransition {
            from: doc.state,
            step,
        })
    }
}
