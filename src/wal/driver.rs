//! One mutation's document on its way: INTENT in the background, renewed while the statement runs, then
//! APPENDED; and the two endings that any process may carry out, [`retire`] and [`undo`].
//!
//! Owns: the document's present state and etag as its owner knows them, and the settling of writes
//! whose outcome is uncertain. Does not own what a change set means, nor the pointer.
//! Invariants: the owner appends only from an etag that it wrote itself, so the process that fenced the document
//! stops it; a fenced owner stays fenced. A mutation is undone only after it was fenced, or by its owner
//! while no append of his can be under way; staged objects go first, the document last.
//! A crash leaves the document as it is; its lease expires, and recovery ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use chrono::TimeDelta;
use tokio::sync::{Mutex, watch};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::error::{Error, ErrorKind};
use crate::format::{StateDoc, WalId, WalState};
use crate::wal::backoff::Backoff;
use crate::wal::env::Env;
use crate::wal::lease;
use crate::wal::machine::{self, Appendix, Intention};
use crate::wal::store::{Etag, WalError, WalResult, WalStore};

/// How often an uncertain outcome is looked up before it is reported as unknown.
const SETTLE_ATTEMPTS: usize = 8;

const NOT_STARTED: u8 = 0;
const STARTED: u8 = 1;
const CANCELLED: u8 = 2;

/// What became of the owner's step to APPENDED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only an appended mutation may be committed"]
pub(crate) enum AppendOutcome {
    /// The document is APPENDED: any process may commit it, and no process may undo it for being slow.
    Appended,
    /// Another process took the document: it was not committed and never will be.
    Fenced,
    /// The document is COMPLETE or gone: the table's history tells whether it was committed.
    Ended,
}

/// How far the upload of the first document got.
#[derive(Clone, Debug)]
enum Intent {
    Pending,
    Durable,
    Cancelled,
    Failed(Arc<WalError>),
}

/// The document as its owner last wrote it.
#[derive(Debug)]
struct Held {
    doc: StateDoc,
    etag: Etag,
    /// Nonces of the renewals that were sent.
    renewals: Vec<Uuid>,
    fenced: bool,
}

impl Held {
    /// Whether an INTENT that was read back is this owner's latest. One that is neither in the state that is held
    /// nor a renewal is an early try of its creation, which landed after another process had taken the
    /// document, undone the mutation and deleted it.
    fn is_latest(&self, doc: &StateDoc, etag: &Etag) -> bool {
        *etag == self.etag || self.renewals.contains(&doc.nonce)
    }
}

/// The owner's side of one document.
#[derive(Debug)]
pub(crate) struct Driver {
    store: WalStore,
    env: Env,
    id: WalId,
    owner: String,
    ttl: TimeDelta,
    gate: Arc<AtomicU8>,
    intent: watch::Receiver<Intent>,
    held: Arc<Mutex<Held>>,
    heartbeat: AbortHandle,
}

impl Driver {
    /// Starts to upload the INTENT document in the background, and then to renew its lease.
    ///
    /// The owner's name in `what` must be unlike that of any other driver.
    pub(crate) fn start(
        store: WalStore,
        env: Env,
        tracker: &TaskTracker,
        runtime: &tokio::runtime::Handle,
        what: &Intention<'_>,
        ttl: TimeDelta,
    ) -> Self {
        let doc = machine::intent(what, env.now(), ttl);
        let (announce, intent) = watch::channel(Intent::Pending);
        let gate = Arc::new(AtomicU8::new(NOT_STARTED));
        let held = Arc::new(Mutex::new(Held {
            doc: doc.clone(),
            etag: Etag::NONE,
            renewals: Vec::new(),
            fenced: false,
        }));
        tracker.spawn_on(
            {
                let (store, gate, held) = (store.clone(), Arc::clone(&gate), Arc::clone(&held));
                async move {
                    let state = match gate.compare_exchange(
                        NOT_STARTED,
                        STARTED,
                        Ordering::SeqCst,
                        Ordering::SeqCst,
                    ) {
                        Err(_) => Intent::Cancelled,
                        Ok(_) => match store.create(&doc).await {
                            Ok(etag) => {
                                tracing::debug!(wal_id = %doc.wal_id, op = doc.op_kind.as_str(), phase = "INTENT", "phase");
                                held.lock().await.etag = etag;
                                Intent::Durable
                            }
                            Err(error) => Intent::Failed(Arc::new(error)),
                        },
                    };
                    // Nobody may be listening any more; then the outcome is recovery's.
                    let _ = announce.send(state);
                }
            },
            runtime,
        );
        // Not tracked: it ends with the driver, and waiting for background work must not wait for it.
        let heartbeat = runtime.spawn(renew_while_running(
            store.clone(),
            env.clone(),
            what.owner.to_owned(),
            ttl,
            intent.clone(),
            Arc::clone(&held),
        ));
        Self {
            store,
            env,
            id: what.wal_id,
            owner: what.owner.to_owned(),
            ttl,
            gate,
            intent,
            held,
            heartbeat: heartbeat.abort_handle(),
        }
    }

    /// The mutation's id.
    pub(crate) fn id(&self) -> WalId {
        self.id
    }

    /// Waits until the INTENT document is durable. Objects may be staged only from then on: what is
    /// staged earlier has no document that would lead recovery to it.
    ///
    /// # Errors
    /// The failure of the upload.
    pub(crate) async fn durable(&self) -> Result<(), Error> {
        let mut intent = self.intent.clone();
        let state = intent
            .wait_for(|state| !matches!(state, Intent::Pending))
            .await
            .map(|state| state.clone());
        match state {
            Ok(Intent::Durable) => Ok(()),
            Ok(Intent::Failed(source)) => Err(Error::new(
                ErrorKind::Storage,
                self.id.to_string(),
                "the mutation's WAL document cannot be written",
            )
            .with_source(source)),
            Ok(Intent::Pending | Intent::Cancelled) | Err(_) => Err(Error::new(
                ErrorKind::Storage,
                self.id.to_string(),
                "the mutation was cancelled before its WAL document was written",
            )),
        }
    }

    /// Moves the document to APPENDED.
    ///
    /// # Errors
    /// The document was never durable, or (`OutcomeUnknown`) the store cannot tell whether it is APPENDED.
    pub(crate) async fn append(&self, appendix: Appendix) -> Result<AppendOutcome, Error> {
        self.durable().await?;
        // Waiting for the lock waits for a renewal that is under way.
        let mut held = self.held.lock().await;
        self.heartbeat.abort();
        let mut backoff = Backoff::default();
        let mut attempts = 0;
        // Whether a request may still make it APPENDED.
        let mut unclear = false;
        loop {
            attempts += 1;
            if held.fenced {
                return Ok(AppendOutcome::Fenced);
            }
            let next = machine::append(&held.doc, appendix.clone(), self.env.now(), self.ttl)
                .map_err(|illegal| self.illegal(illegal))?;
            let error = match self
                .store
                .update_with_etag(&self.id, &held.etag, &next)
                .await
            {
                Ok(etag) => {
                    tracing::debug!(wal_id = %self.id, phase = "APPENDED", "phase");
                    held.doc = next;
                    held.etag = etag;
                    return Ok(AppendOutcome::Appended);
                }
                Err(error) => error,
            };
            unclear |= match &error {
                WalError::Storage(error) => error.outcome_unknown(),
                _ => true,
            };
            // A lost race can be our own earlier request that landed late; a failure can have taken effect.
            let mut is_intent = false;
            match self.store.read(&self.id).await {
                Ok((doc, etag)) if lease::is_held_by(&doc, &self.owner) => match doc.state {
                    WalState::Appended => {
                        tracing::debug!(wal_id = %self.id, phase = "APPENDED", settled = true, "phase");
                        held.doc = doc;
                        held.etag = etag;
                        return Ok(AppendOutcome::Appended);
                    }
                    WalState::Complete => return Ok(AppendOutcome::Ended),
                    WalState::Intent if !held.is_latest(&doc, &etag) => {
                        held.fenced = true;
                        return Ok(AppendOutcome::Fenced);
                    }
                    // Our own renewal: append again, from its etag.
                    WalState::Intent => {
                        is_intent = true;
                        held.doc = doc;
                        held.etag = etag;
                    }
                },
                Ok((doc, _)) if doc.state == WalState::Intent => {
                    held.fenced = true;
                    return Ok(AppendOutcome::Fenced);
                }
                Ok(_) | Err(WalError::NotFound { .. }) => return Ok(AppendOutcome::Ended),
                Err(_) => {}
            }
            if is_intent && !unclear {
                // The store refused, for good: the disk is full, or it may not be written to.
                return Err(Error::new(
                    ErrorKind::Storage,
                    self.id.to_string(),
                    "the mutation's WAL document cannot be written; nothing was changed",
                )
                .with_source(error));
            }
            if attempts >= SETTLE_ATTEMPTS {
                return Err(Error::new(
                    ErrorKind::OutcomeUnknown,
                    self.id.to_string(),
                    "cannot tell whether this mutation will be committed; recovery will end it",
                )
                .with_source(error));
            }
            backoff.wait(&self.env).await;
        }
    }

    /// The document and its etag, as the owner last wrote them.
    pub(crate) async fn document(&self) -> (StateDoc, Etag) {
        let held = self.held.lock().await;
        (held.doc.clone(), held.etag.clone())
    }

    /// Ends a mutation that was never APPENDED: removes what it staged, if it did, then the document.
    ///
    /// Must not be called after [`append`](Self::append) failed, except with `Fenced`.
    ///
    /// # Errors
    /// The store's; recovery does the rest then.
    pub(crate) async fn abandon(&self, staged: bool) -> WalResult<()> {
        self.heartbeat.abort();
        if self
            .gate
            .compare_exchange(NOT_STARTED, CANCELLED, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
        {
            return Ok(());
        }
        let mut intent = self.intent.clone();
        let _ = intent
            .wait_for(|state| !matches!(state, Intent::Pending))
            .await;
        let held = self.held.lock().await;
        if staged {
            if let Some(base) = held.doc.id_block() {
                self.store.delete_staged(&base).await?;
            }
            self.store.delete_arrow(&self.id).await?;
        }
        if held.fenced {
            // The document belongs to the process that fenced it.
            return Ok(());
        }
        self.store.delete_state(&self.id).await
    }

    fn illegal(&self, illegal: machine::IllegalTransition) -> Error {
        Error::new(ErrorKind::Corrupt, self.id.to_string(), illegal.to_string())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

async fn renew_while_running(
    store: WalStore,
    env: Env,
    owner: String,
    ttl: TimeDelta,
    mut intent: watch::Receiver<Intent>,
    held: Arc<Mutex<Held>>,
) {
    let durable = intent
        .wait_for(|state| !matches!(state, Intent::Pending))
        .await
        .is_ok_and(|state| matches!(*state, Intent::Durable));
    if !durable {
        return;
    }
    loop {
        tokio::time::sleep(lease::renewal_interval(ttl)).await;
        let held = Arc::clone(&held);
        let (store, env, owner) = (store.clone(), env.clone(), owner.clone());
        // In a task of its own: a request that was sent must be heard to its end, or the etag is lost.
        let renewal =
            tokio::spawn(async move { renew_once(&store, &env, &owner, ttl, &held).await });
        if !matches!(renewal.await, Ok(true)) {
            return;
        }
    }
}

/// Renews the lease; `false` once there is nothing left to renew.
async fn renew_once(
    store: &WalStore,
    env: &Env,
    owner: &str,
    ttl: TimeDelta,
    held: &Mutex<Held>,
) -> bool {
    let mut held = held.lock().await;
    let Ok(next) = machine::renew(&held.doc, env.now(), ttl) else {
        return false;
    };
    let id = held.doc.wal_id;
    let nonce = env.ids.nonce();
    held.renewals.push(nonce);
    match store.update_signed(&id, &held.etag, &next, nonce).await {
        Ok(etag) => {
            held.doc = next;
            held.etag = etag;
            // Those before it were sent from states that are gone.
            held.renewals.clear();
            return true;
        }
        Err(error) => tracing::debug!(wal_id = %id, %error, "a lease renewal did not succeed"),
    }
    match store.read(&id).await {
        Ok((doc, etag))
            if lease::is_held_by(&doc, owner)
                && doc.state == WalState::Intent
                && held.is_latest(&doc, &etag) =>
        {
            held.doc = doc;
            held.etag = etag;
            true
        }
        Ok(_) | Err(WalError::NotFound { .. }) => {
            tracing::warn!(wal_id = %id, "another process took this mutation: it will not commit");
            held.fenced = true;
            false
        }
        // The next renewal or the append will find out.
        Err(_) => true,
    }
}

/// Marks a committed mutation COMPLETE, then deletes its change set and its document. Any process may do
/// so, any number of times, once it saw the mutation in the table's history. `known` spares a read.
///
/// When this returns, the document is gone for good.
///
/// # Errors
/// The store's.
pub(crate) async fn retire(
    store: &WalStore,
    id: &WalId,
    known: Option<(StateDoc, Etag)>,
) -> WalResult<()> {
    let mut known = known;
    for _ in 0..SETTLE_ATTEMPTS {
        let (doc, etag) = match known.take() {
            Some(known) => known,
            None => match store.read(id).await {
                Ok(read) => read,
                Err(WalError::NotFound { .. }) => break,
                Err(error) => return Err(error),
            },
        };
        // COMPLETE first: an APPENDED document must never be seen without its change set.
        match machine::complete(&doc) {
            Ok(next) => match store.update_with_etag(id, &etag, &next).await {
                Ok(_) => break,
                Err(WalError::CasFailed { .. }) => continue,
                Err(error) => return Err(error),
            },
            // COMPLETE already; or an INTENT that landed long after its mutation ended.
            Err(_) => break,
        }
    }
    store.delete_arrow(id).await?;
    store.delete_state(id).await?;
    tracing::debug!(wal_id = %id, phase = "COMPLETE", "phase");
    Ok(())
}

/// Removes a fenced mutation: what it staged, its change set, and last its document.
///
/// # Errors
/// The store's; the document stays then, so that this is done again.
pub(crate) async fn undo(store: &WalStore, doc: &StateDoc) -> WalResult<usize> {
    let staged = match doc.id_block() {
        Some(block) => store.delete_staged(&block).await?,
        None => 0,
    };
    store.delete_arrow(&doc.wal_id).await?;
    store.delete_state(&doc.wal_id).await?;
    Ok(staged)
}
