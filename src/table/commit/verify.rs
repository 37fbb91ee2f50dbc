//! Whether a member of a batch is still to be committed on top of a version, or has ended already.
//!
//! Owns the verdict about one member: its record in the history, else its document read after the pointer. Does
//! not own the turn (`commit`), nor who is told of an ending (`ending`).
//! Invariant: a member stays in the batch only if it is known to be uncommitted in the tip (see
//! [`Clear`]), and its document was APPENDED at a moment after the tip's pointer was known. Reads only, so a
//! crash leaves nothing.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;

use crate::error::{Error, ErrorKind, Result};
use crate::format::{StateDoc, WalId, WalState};
use crate::table::commit::committer::{Clear, Ending, Ready};
use crate::table::handle::Inner;
use crate::table::version::lookup::Found;
use crate::table::version::tip::Tip;
use crate::wal::{Etag, WalError, WalResult};

/// Documents as they were read after the pointer of one version.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    pub(crate) version: u64,
    pub(crate) read: HashMap<WalId, WalResult<(StateDoc, Etag)>>,
}

/// What comparing a member with a tip showed.
enum Verified {
    Ready(Box<Ready>),
    Settled,
    Unclear(Box<Ready>, Error),
}

impl Inner {
    /// Keeps the members that are still to be committed on top of `tip`, and settles the others.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        batch: &mut Vec<Ready>,
        tip: &Tip,
        mut documents: Documents,
    ) -> Result<()> {
        let mut unclear = None;
        // Documents that were read before the tip's own pointer prove nothing about the tip.
        let usable = documents.version == tip.snapshot.version();
        let members: Vec<_> = std::mem::take(batch)
            .into_iter()
            .map(|ready| {
                let document = documents.read.remove(&ready.id).filter(|_| usable);
                (ready, document)
            })
            .collect();
        let checked: Vec<_> = futures::stream::iter(members)
            .map(|(ready, document)| self.verify_one(ready, document, tip))
            .buffered(self.limits.concurrency)
            .collect()
            .await;
        for verified in checked {
            match verified {
                Verified::Ready(ready) => batch.push(*ready),
                Verified::Settled => {}
                Verified::Unclear(ready, error) => {
                    batch.push(*ready);
                    unclear = Some(error);
                }
            }
        }
        unclear.map_or(Ok(()), Err)
    }

    /// `document` was read after the tip's pointer, if it is given.
    async fn verify_one(
        self: &Arc<Self>,
        mut ready: Ready,
        document: Option<WalResult<(StateDoc, Etag)>>,
        tip: &Tip,
    ) -> Verified {
        if ready.clear_of.is_some_and(|clear| clear.covers(tip)) {
            return Verified::Ready(Box::new(ready));
        }
        if let Some(record) = tip.snapshot.record(&ready.id) {
            let ending = Ok(Ending::Committed(record.clone()));
            self.finish(ready, ending, Some(&tip.snapshot));
            return Verified::Settled;
        }
        // The pointer was read before; this is the document's turn.
        let document = match document {
            Some(document) => document,
            None => self.wal.read(&ready.id).await,
        };
        match document {
            Ok((doc, etag)) if doc.state == WalState::Appended => {
                // An APPENDED document can also be of a mutation that ended: one that landed late, or that
                // its owner, who had not heard of its first APPENDED, made from an INTENT that landed late.
                let (own, since) = match ready.clear_of {
                    Some(Clear::Epoch(_, version)) => (true, version),
                    _ => (false, ready.change_set.base_version),
                };
                match self.find_record(&tip.snapshot, &ready.id, since).await {
                    Ok(Found::Record(record)) => {
                        self.finish(ready, Ok(Ending::Committed(record)), None);
                        return Verified::Settled;
                    }
                    Ok(Found::OutOfReach) if own => {
                        let error = out_of_reach(&ready.id);
                        self.finish(ready, Err(error), None);
                        return Verified::Settled;
                    }
                    Ok(Found::Absent) => ready.out_of_reach = false,
                    Ok(Found::OutOfReach) => ready.out_of_reach = true,
                    Err(error) => return Verified::Unclear(Box::new(ready), error),
                }
                (ready.doc, ready.etag) = (doc, etag);
                let version = tip.snapshot.version();
                ready.clear_of = Some(match own {
                    true => Clear::Epoch(tip.epoch, version),
                    false => Clear::Version(version),
                });
                Verified::Ready(Box::new(ready))
            }
            Ok(_) | Err(WalError::NotFound { .. }) => match self.learn_ending(&ready).await {
                Ok(ending) => {
                    self.finish(ready, Ok(ending), None);
                    Verified::Settled
                }
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                    self.finish(ready, Err(error), None);
                    Verified::Settled
                }
                Err(error) => Verified::Unclear(Box::new(ready), error),
            },
            Err(error @ WalError::Storage(_)) => Verified::Unclear(Box::new(ready), error.into()),
            Err(damage) => {
                self.finish(ready, Err(damage.into()), None);
                Verified::Settled
            }
        }
    }

    /// The ending of a mutation whose document is COMPLETE, fenced or gone, from the table's history.
    async fn learn_ending(self: &Arc<Self>, ready: &Ready) -> Result<Ending> {
        self.ending_in_history(&ready.id, ready.change_set.base_version)
            .await
    }

    /// The ending of a mutation that is known to have ended, from the table's history since `base_version`.
    pub(crate) async fn ending_in_history(
        self: &Arc<Self>,
        id: &WalId,
        base_version: u64,
    ) -> Result<Ending> {
        // The pointer is read after the document was found ended: if it was committed, this pointer's
        // history has it.
        self.refresh().await?;
        let tip = self.tip();
        match self.find_record(&tip.snapshot, id, base_version).await? {
            Found::Record(record) => Ok(Ending::Committed(record)),
            Found::Absent => Ok(Ending::Undone),
            Found::OutOfReach => Err(out_of_reach(id)),
        }
    }
}

fn out_of_reach(id: &WalId) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        id.to_string(),
        "the versions that would tell how this mutation ended are gone",
    )
}
