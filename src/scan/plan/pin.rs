//! One version for all references to a table within one statement.
//!
//! Owns the pin: a snapshot that is resolved when the first scan of a statement is planned and
//! shared by every other one. Planning rules are synchronous, so they hand out pins; the scans,
//! which are planned asynchronously, resolve them.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use tokio::sync::OnceCell;

use crate::error::Result;
use crate::format::SuperfileId;
use crate::table::{Moment, Snapshot, Table};

/// A table and the version of it that one statement reads.
#[derive(Debug)]
pub struct Pin {
    table: Table,
    /// The version that is meant; `None`: the current one.
    moment: Option<Moment>,
    snapshot: OnceCell<Arc<Snapshot>>,
    /// Superfiles that the statement drops whole; its scan leaves them out.
    dropped: OnceLock<BTreeSet<SuperfileId>>,
}

impl Pin {
    /// A pin on the version that is current when it is first resolved.
    pub fn latest(table: Table) -> Arc<Self> {
        Arc::new(Self {
            table,
            moment: None,
            snapshot: OnceCell::new(),
            dropped: OnceLock::new(),
        })
    }

    /// A pin on an earlier version, which is looked for when the pin is first resolved.
    pub fn at(table: Table, moment: Moment) -> Arc<Self> {
        Arc::new(Self {
            table,
            moment: Some(moment),
            snapshot: OnceCell::new(),
            dropped: OnceLock::new(),
        })
    }

    /// A pin on a version that is known already.
    pub fn to(table: Table, snapshot: Arc<Snapshot>) -> Arc<Self> {
        Arc::new(Self {
            table,
            moment: None,
            snapshot: OnceCell::new_with(Some(snapshot)),
            dropped: OnceLock::new(),
        })
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The pinned version; one conditional read of the pointer the first time.
    ///
    /// # Errors
    /// What reading the pointer and the manifest can raise; the pin stays unresolved then.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        self.snapshot
            .get_or_try_init(|| async {
                match self.moment {
                    None => self.table.snapshot().await,
                    Some(moment) => self.table.snapshot_of(moment).await,
                }
            })
            .await
            .map(Arc::clone)
    }

    /// Decides which superfiles the statement drops whole, or tells what was decided: scan and sink
    /// must agree, whichever comes first.
    pub fn decide_dropped(
        &self,
        decide: impl FnOnce() -> BTreeSet<SuperfileId>,
    ) -> &BTreeSet<SuperfileId> {
        self.dropped.get_or_init(decide)
    }

    /// What [`decide_dropped`](Self::decide_dropped) decided; nothing if no scan asked.
    pub fn dropped(&self) -> Option<&BTreeSet<SuperfileId>> {
        self.dropped.get()
    }
}
