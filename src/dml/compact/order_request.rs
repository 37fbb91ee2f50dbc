//! The order through the table that a compaction is to establish, and what superfiles written so say of themselves.
//!
//! Owns what a request and a table's metadata come to. Does not own the plan that follows (`table::compaction`), nor the
//! sort (`reading`).
//!
//! Invariant: a table that declares an order gets no other one. Nothing is written here.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::TaskContext;

use super::cluster::ClusterBy;
use super::request::{Request, Scope};
use crate::config::SupertableOptions;
use crate::dml::provider::TableAccess;
use crate::format::manifest::{SuperfileEntry, TableMetadata, field_id};
use crate::format::{ClusterKey, Clustering, Layout, SuperfileId};
use crate::table::Snapshot;
use crate::table::compaction::{Along, Extent, Group};

/// An order through the table: the curve, if it is one, and what is to be done along it.
pub(super) struct OrderRequest {
    pub(super) by: Option<ClusterBy>,
    pub(super) along: Along,
}

impl OrderRequest {
    /// The order that is asked for, if one is.
    ///
    /// # Errors
    /// The table cannot have it, or says that it is clustered by what it does not have.
    pub(super) fn of(
        request: &Request,
        access: &TableAccess,
        context: &Arc<TaskContext>,
        snapshot: &Snapshot,
    ) -> Result<Option<Self>> {
        let metadata = snapshot.metadata();
        let of_table =
            || ClusterBy::of_table(&metadata.schema, &metadata.sort_order, &metadata.properties);
        let (by, extent) = match &request.scope {
            Scope::Needed => match of_table()? {
                None => return Ok(None),
                by => (by, Extent::New),
            },
            Scope::Whole { by } => {
                let superfile_rows = request.superfile_rows;
                (by.clone(), Extent::Whole { superfile_rows })
            }
            Scope::Again { by } => (by.clone(), Extent::Again),
        };
        let by = match by {
            Some(by) => {
                by.check_order(&metadata.sort_order, access.location.root.as_ref())?;
                by.indices(&access.schema)?;
                Some(by)
            }
            None => of_table()?,
        };
        let options = SupertableOptions::of(context.session_config().options());
        let session_or_table = options.max_group_bytes_for(&metadata.properties);
        let descending = metadata.sort_order.iter().map(|column| column.descending);
        Ok(Some(OrderRequest {
            along: Along {
                key: match &by {
                    Some(by) => by.key(&metadata.schema)?,
                    None => own_order(metadata),
                },
                descending: descending.collect(),
                extent,
                group_bytes: request.max_group_bytes.unwrap_or(session_or_table).max(1),
            },
            by,
        }))
    }
}

/// What the superfiles of a group are told to say of themselves.
pub(super) struct ClusteringOfGroup {
    key: ClusterKey,
    bytes: u64,
    /// The run that they stay in; else they are one of their own.
    run: Option<SuperfileId>,
}

impl ClusteringOfGroup {
    pub(super) fn of(group: &Group, order: &OrderRequest) -> Self {
        let stays = group.stays.as_ref();
        Self {
            key: order.along.key.clone(),
            bytes: stays.map_or(group.bytes, |stays| stays.bytes),
            run: stays.map(|stays| stays.run),
        }
    }

    pub(super) fn to(&self, superfiles: &mut [SuperfileEntry]) {
        let Some(run) = self.run.or(superfiles.first().map(|first| first.id)) else {
            return;
        };
        for superfile in superfiles {
            superfile.clustering = Some(Clustering {
                key: self.key.clone(),
                run,
                bytes: self.bytes,
            });
        }
    }
}

/// The order that a table's rows have without a curve: the one that it declares, or else that in which they are stored.
fn own_order(metadata: &TableMetadata) -> ClusterKey {
    let id_of = |name: &str| {
        metadata
            .schema
            .field_with_name(name)
            .ok()
            .and_then(field_id)
    };
    let order = &metadata.sort_order;
    ClusterKey {
        layout: match order.is_empty() {
            true => Layout::Stored,
            false => Layout::Declared,
        },
        columns: order.iter().filter_map(|c| id_of(&c.name)).collect(),
    }
}
