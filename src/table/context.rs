//! What every part of an open table works with.
//!
//! Owns: nothing of its own; it is the one value through which the parts of a table get at its store, clock, ids and
//! bounds. Does not own what they do with them.
//! Invariant: it never changes while the table is open, and it lives exactly as long as anything of the table does. A
//! crash leaves nothing.

use std::sync::Arc;

use super::background::BackgroundTasks;
use super::limits::Limits;
use crate::error::Result;
use crate::format::TableId;
use crate::storage::Storage;
use crate::wal::{Env, WalStore};

/// Store, clock, ids, bounds and background tasks of one open table.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) storage: Storage,
    pub(crate) env: Env,
    pub(crate) limits: Limits,
    /// The documents, change sets and sidecars.
    pub(crate) wal: WalStore,
    pub(crate) table_id: TableId,
    pub(crate) tasks: BackgroundTasks,
}

impl Context {
    /// For a table that is being opened on the current runtime.
    pub(crate) fn new(
        storage: Storage,
        env: Env,
        limits: Limits,
        wal: WalStore,
        table_id: TableId,
    ) -> Result<Arc<Self>> {
        let tasks = BackgroundTasks::on_current_runtime()?;
        Ok(Arc::new(Self {
            storage,
            env,
            limits,
            wal,
            table_id,
            tasks,
        }))
    }

    /// A name for a lease that no other has.
    pub(crate) fn fresh_owner(&self) -> String {
        format!("{}-{}", std::process::id(), self.env.ids.nonce())
    }
}

impl AsRef<Env> for Context {
    fn as_ref(&self) -> &Env {
        &self.env
    }
}
