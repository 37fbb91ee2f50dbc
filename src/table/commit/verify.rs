//! Whether a member of a batch is still to be committed on top of a version, or has ended already.
//!
//! Owns the verdict about one member: its record in the history, else its document read after the pointer. Does
//! not own the turn (`committer`), nor which callers are told of an end (`complete`).
//! Invariant: a member stays in the batch only if it is known to be uncommitted in the tip (see
//! [`AbsentFrom`]), and its document was APPENDED at a moment after the tip's pointer was known. Reads only, so a
//! crash leaves nothing.

use std::sync::Arc;

use futures::StreamExt;

use super::complete::Completion;
use super::member::{AbsentFrom, Member};
use super::observe::Documents;
use super::outcome::{Resolution, out_of_reach};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{StateDoc, WalState};
use crate::table::context::Context;
use crate::table::version::history::{History, Lookup};
use crate::table::version::tip::Tip;
use crate::wal::{Etag, WalError, WalResult};

/// What comparing a member with a tip showed.
enum Verified {
    Uncommitted(Box<Member>),
    Ended,
    Unclear(Box<Member>, Error),
}

/// Compares batches with tips.
#[derive(Debug)]
pub(crate) struct Verifier {
    context: Arc<Context>,
    history: Arc<History>,
    completion: Arc<Completion>,
}

impl Verifier {
    pub(crate) fn new(
        context: Arc<Context>,
        history: Arc<History>,
        completion: Arc<Completion>,
    ) -> Self {
        Self {
            context,
            history,
            completion,
        }
    }

    /// Keeps the members that are still to be committed on top of `tip`, and ends the others.
    pub(crate) async fn verify(
        &self,
        batch: &mut Vec<Member>,
        tip: &Tip,
        mut documents: Documents,
    ) -> Result<()> {
        let mut unclear = None;
        // Documents that were read before the tip's own pointer prove nothing about the tip.
        let usable = documents.version == tip.snapshot.version();
        let members: Vec<_> = std::mem::take(batch)
            .into_iter()
            .map(|member| {
                let document = documents.read.remove(&member.id).filter(|_| usable);
                (member, document)
            })
            .collect();
        let checked: Vec<_> = futures::stream::iter(members)
            .map(|(member, document)| self.verify_one(member, document, tip))
            .buffered(self.context.limits.concurrency)
            .collect()
            .await;
        for verified in checked {
            match verified {
                Verified::Uncommitted(member) => batch.push(*member),
                Verified::Ended => {}
                Verified::Unclear(member, error) => {
                    batch.push(*member);
                    unclear = Some(error);
                }
            }
        }
        unclear.map_or(Ok(()), Err)
    }

    /// `document` was read after the tip's pointer, if it is given.
    async fn verify_one(
        &self,
        mut member: Member,
        document: Option<WalResult<(StateDoc, Etag)>>,
        tip: &Tip,
    ) -> Verified {
        if member.absent_from.is_some_and(|absent| absent.covers(tip)) {
            return Verified::Uncommitted(Box::new(member));
        }
        if let Some(record) = tip.snapshot.record(&member.id) {
            let end = Ok(Resolution::Committed(record.clone()));
            self.completion.complete(member, end, Some(&tip.snapshot));
            return Verified::Ended;
        }
        // The pointer was read before; this is the document's turn.
        let document = match document {
            Some(document) => document,
            None => self.context.wal.read(&member.id).await,
        };
        match document {
            Ok((doc, etag)) if doc.state == WalState::Appended => {
                // An APPENDED document can also be of a mutation that ended: one that landed late, or that
                // its owner, who had not heard of its first APPENDED, made from an INTENT that landed late.
                let (own, since) = match member.absent_from {
                    Some(AbsentFrom::Epoch(_, version)) => (true, version),
                    _ => (false, member.change_set.base_version),
                };
                match self
                    .history
                    .find_record(&tip.snapshot, &member.id, since)
                    .await
                {
                    Ok(Lookup::Recorded(record)) => {
                        self.completion
                            .complete(member, Ok(Resolution::Committed(record)), None);
                        return Verified::Ended;
                    }
                    Ok(Lookup::OutOfReach) if own => {
                        let error = out_of_reach(&member.id);
                        self.completion.complete(member, Err(error), None);
                        return Verified::Ended;
                    }
                    Ok(Lookup::NotCommitted) => member.out_of_reach = false,
                    Ok(Lookup::OutOfReach) => member.out_of_reach = true,
                    Err(error) => return Verified::Unclear(Box::new(member), error),
                }
                (member.doc, member.etag) = (doc, etag);
                let version = tip.snapshot.version();
                member.absent_from = Some(match own {
                    true => AbsentFrom::Epoch(tip.epoch, version),
                    false => AbsentFrom::Version(version),
                });
                Verified::Uncommitted(Box::new(member))
            }
            Ok(_) | Err(WalError::NotFound { .. }) => match self.learn_end(&member).await {
                Ok(end) => {
                    self.completion.complete(member, Ok(end), None);
                    Verified::Ended
                }
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                    self.completion.complete(member, Err(error), None);
                    Verified::Ended
                }
                Err(error) => Verified::Unclear(Box::new(member), error),
            },
            Err(error @ WalError::Storage(_)) => Verified::Unclear(Box::new(member), error.into()),
            Err(damage) => {
                self.completion.complete(member, Err(damage.into()), None);
                Verified::Ended
            }
        }
    }

    /// The end of a mutation whose document is COMPLETE, fenced or gone, from the table's history.
    async fn learn_end(&self, member: &Member) -> Result<Resolution> {
        let since = member.change_set.base_version;
        let lookup = self.history.find_in_current(&member.id, since).await?;
        Resolution::of_ended(&member.id, lookup)
    }
}
