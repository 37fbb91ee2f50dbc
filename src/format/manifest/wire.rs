//! How manifest nodes are encoded: private wire structs, framed by [`crate::format::envelope`].
//!
//! Owns the codec of root, group and leaf. Does not own the tree's shape or loading.
//!
//! Each node is one object, named by the blake3 of all its bytes. The payloads are postcard:
//! integers are varints (signed ones zigzagged), sequences and strings have their length first,
//! options a byte 0 or 1, `[u8; n]` stands as it is.
//!
//! ```text
//! root   "STBLROOT"   salt [u8;16] · version u64 · parent option<[u8;32]>
//!                     skips seq<[u8;32]>: roots of older versions, see `skips`
//!                     created_at_ms i64 · metadata · metadata_changed_at u64 · schema_changed_at u64
//!                     moved_at u64 · rows_changed_at u64 · restored_at u64
//!                     dropped seq<dropped> · added_keys seq<added_keys>
//!                     commits seq<commit> · pending seq<commit> · groups seq<ref>
//! group  "STBLGRUP"   salt [u8;16] · leaves seq<ref>      1 to 64
//! leaf   "STBLLEAF"   salt [u8;16] · entries seq<entry>   1 to 64
//!        "STBLMETA"   metadata, in change sets
//!
//! metadata   table_id [u8;16] · schema bytes (an Arrow IPC stream without batches)
//!            properties seq<(string, string)>, sorted
//!            defaults seq<(column string, sql string)>, sorted
//!            initial_defaults seq<(field_id i32, text string)>, sorted
//!            adoptions u64
//!            sort_order seq<(name string, descending bool, nulls_first bool)>
//!            keys seq<(name string, is_primary bool, columns seq<field_id i32>)>
//!            next_field_id i32
//!            retired_names seq<(parent i32, name string)>, sorted; see `schema`
//! ref        hash [u8;32] · first [u8;16] · superfiles u64 · rows u64 · live_rows u64 · bytes u64
//! commit     wal_id [u8;16] · op string · version u64 · inserted u64 · deleted u64 · updated u64
//!            statement string · started_at_ms i64
//! entry      id [u8;16] · rows u64 · size u64 · created_at_ms i64 · first_row_id option<[u8;16]>
//!            footer_checksum option<bytes>: see `format::footer`
//!            in_place option<(path string, tag string)>: see `format::in_place`; not without a footer checksum
//!            external option<external> · clustering option<clustering>
//!            stats seq<column> · tombstones option<tombstones>
//!            moved_at u64 · added_at u64 · delete_count u32
//! external    source string · columns seq<(field_id i32, stored)>; see `format::external`
//! stored     0 the field of this name: string · 1 the value of all rows: option<string>
//! clustering layout (0 Z-order · 1 Hilbert · 2 the declared order · 3 as stored)
//!            columns seq<field_id i32> · run [u8;16] · bytes u64; see `format::clustering`
//! tombstones sidecar [u8;16] · hash [u8;32] · cardinality u64 · size u64
//! column     field_id i32 · min option<value> · max option<value> · null_count option<u64>
//!            min_exact bool · max_exact bool
//! dropped    added_at u64 · columns seq<(field_id i32, bounds)>
//! bounds     min option<value> · max option<value>
//! added_keys version u64 · superfiles seq<[u8;16]> · columns seq<field_id i32> · hashes seq<[u8;8]>, see `keys`
//! absent_keys, in change sets: seq<(columns seq<field_id i32> · ranges seq<seq<bounds>> · hashes option<seq<[u8;8]>>
//!            adds_others bool)>
//! value      0 bool · 1 i64 · 2 u64 · 3 f64 (8 bytes LE) · 4 i128 · 5 string · 6 bytes
//! ```
//!
//! The salt is drawn anew for each draft of a version, so that no two drafts give a node one name. A
//! name that vacuum has found unused can then never come into use again (see `table::vacuum`).
//!
//! Invariant: what decodes is well formed: ids ascend strictly, nodes are neither empty nor
//! overfull, no superfile has more tombstones than rows, sums fit, and what a reference says of a
//! node is true.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::{MAX_ENTRIES_PER_LEAF, MAX_LEAVES_PER_GROUP, NodeRef, SuperfileEntry, Totals};
use super::entry_wire::WireEntry;
use super::error::ManifestError;
use super::header::{CommitRecord, ManifestHeader};
use super::keys_wire::{WireAddedKeys, WireDroppedRows};
use super::metadata::{SortColumn, TableMetadata, UniqueKey};
use super::schema::PhysicalName;
use super::shape::{check_len, check_order, check_ref};
use super::skips::skip_versions;
use crate::format::envelope::{self, ObjectFormat};
use crate::format::ids::{ContentHash, WalId};
use crate::format::ipc;
use crate::format::keys::{AddedKeys, DroppedRows};
use crate::format::state_doc::OpKind;

/// The version of manifest nodes.
pub(crate) const MANIFEST_VERSION: u32 = 1;

pub(super) const ROOT: ObjectFormat = format(*b"STBLROOT");
pub(super) const GROUP: ObjectFormat = format(*b"STBLGRUP");
pub(super) const LEAF: ObjectFormat = format(*b"STBLLEAF");
pub(super) const METADATA: ObjectFormat = format(*b"STBLMETA");

const fn format(magic: [u8; 8]) -> ObjectFormat {
    ObjectFormat {
        magic,
        version: MANIFEST_VERSION,
    }
}

pub(super) fn encode_root(
    header: &ManifestHeader,
    groups: &[NodeRef],
    salt: Uuid,
) -> Result<(ContentHash, Bytes), ManifestError> {
    let wire = WireRoot {
        salt: salt.into_bytes(),
        version: header.version,
        parent: header.parent.map(|h| *h.as_bytes()),
        skips: header.skips.iter().map(|h| *h.as_bytes()).collect(),
        created_at_ms: header.created_at_ms,
        metadata: WireMetadata::try_from(header.metadata.as_ref())?,
        metadata_changed_at: header.metadata_changed_at,
        schema_changed_at: header.schema_changed_at,
        moved_at: header.moved_at,
        rows_changed_at: header.rows_changed_at,
        restored_at: header.restored_at,
        dropped: header.dropped.iter().map(WireDroppedRows::from).collect(),
        added_keys: (header.added_keys.iter())
            .map(|keys| WireAddedKeys::from(keys.as_ref()))
            .collect(),
        commits: header.commits.iter().map(WireCommit::from).collect(),
        pending: header.pending.iter().map(WireCommit::from).collect(),
        groups: groups.iter().map(WireRef::from).collect(),
    };
    Ok(envelope::encode(ROOT, &wire)?)
}

pub(super) fn decode_root(
    bytes: &[u8],
    expected: &ContentHash,
) -> Result<(ManifestHeader, Vec<NodeRef>), ManifestError> {
    let wire: WireRoot = envelope::open(ROOT, bytes, expected)?;
    if wire.skips.len() != skip_versions(wire.version).count() {
        return Err(ManifestError::BadSkips {
            version: wire.version,
            found: wire.skips.len(),
        });
    }
    let skips = wire.skips.into_iter().map(ContentHash::from_bytes);
    let groups = refs(wire.groups)?;
    let totals =
        Totals::sum(groups.iter().map(|g| g.totals)).ok_or(ManifestError::TotalsOverflow)?;
    let header = ManifestHeader {
        version: wire.version,
        parent: wire.parent.map(ContentHash::from_bytes),
        skips: skips.collect(),
        created_at_ms: wire.created_at_ms,
        metadata: Arc::new(wire.metadata.try_into()?),
        metadata_changed_at: wire.metadata_changed_at,
        schema_changed_at: wire.schema_changed_at,
        moved_at: wire.moved_at,
        rows_changed_at: wire.rows_changed_at,
        restored_at: wire.restored_at,
        dropped: (wire.dropped.into_iter())
            .map(DroppedRows::try_from)
            .collect::<Result<_, _>>()?,
        added_keys: (wire.added_keys.into_iter())
            .map(|keys| Arc::new(AddedKeys::from(keys)))
            .collect(),
        commits: commits(wire.commits)?,
        pending: commits(wire.pending)?,
        totals,
    };
    Ok((header, groups))
}

pub(super) fn encode_group(
    leaves: &[NodeRef],
    salt: Uuid,
) -> Result<(ContentHash, Bytes), ManifestError> {
    let wire = WireGroup {
        salt: salt.into_bytes(),
        leaves: leaves.iter().map(WireRef::from).collect(),
    };
    Ok(envelope::encode(GROUP, &wire)?)
}

pub(super) fn decode_group(bytes: &[u8], node: &NodeRef) -> Result<Vec<NodeRef>, ManifestError> {
    let wire: WireGroup = envelope::open(GROUP, bytes, &node.hash)?;
    check_len(wire.leaves.len(), MAX_LEAVES_PER_GROUP)?;
    let leaves = refs(wire.leaves)?;
    check_ref(
        node,
        leaves.first().map(|l| l.first),
        leaves.iter().map(|l| l.totals),
    )?;
    Ok(leaves)
}

pub(super) fn encode_leaf(
    entries: &[Arc<SuperfileEntry>],
    salt: Uuid,
) -> Result<(ContentHash, Bytes), ManifestError> {
    let wire = WireLeaf {
        salt: salt.into_bytes(),
        entries: entries
            .iter()
            .map(|e| WireEntry::from(e.as_ref()))
            .collect(),
    };
    Ok(envelope::encode(LEAF, &wire)?)
}

pub(super) fn decode_leaf(
    bytes: &[u8],
    node: &NodeRef,
) -> Result<Vec<Arc<SuperfileEntry>>, ManifestError> {
    let wire: WireLeaf = envelope::open(LEAF, bytes, &node.hash)?;
    check_len(wire.entries.len(), MAX_ENTRIES_PER_LEAF)?;
    let entries = wire
        .entries
        .into_iter()
        .map(|wire| SuperfileEntry::try_from(wire).map(Arc::new))
        .collect::<Result<Vec<Arc<SuperfileEntry>>, ManifestError>>()?;
    check_order(entries.iter().map(|e| e.id))?;
    check_ref(
        node,
        entries.first().map(|e| e.id),
        entries.iter().map(|e| Totals::of(e)),
    )?;
    Ok(entries)
}

/// A table's metadata on its own, for change sets.
pub(crate) fn encode_metadata(metadata: &TableMetadata) -> Result<Bytes, ManifestError> {
    let (_, bytes) = envelope::encode(METADATA, &WireMetadata::try_from(metadata)?)?;
    Ok(bytes)
}

/// The inverse of [`encode_metadata`].
pub(crate) fn decode_metadata(bytes: &[u8]) -> Result<TableMetadata, ManifestError> {
    let payload = envelope::payload(METADATA, bytes)?;
    envelope::decode_payload::<WireMetadata>(payload)?.try_into()
}

fn refs(wire: Vec<WireRef>) -> Result<Vec<NodeRef>, ManifestError> {
    let refs: Vec<NodeRef> = wire.into_iter().map(NodeRef::from).collect();
    check_order(refs.iter().map(|r| r.first))?;
    Ok(refs)
}

fn commits(wire: Vec<WireCommit>) -> Result<Vec<CommitRecord>, ManifestError> {
    wire.into_iter().map(CommitRecord::try_from).collect()
}

#[derive(Serialize, Deserialize)]
struct WireRoot {
    salt: [u8; 16],
    version: u64,
    parent: Option<[u8; 32]>,
    skips: Vec<[u8; 32]>,
    created_at_ms: i64,
    metadata: WireMetadata,
    metadata_changed_at: u64,
    schema_changed_at: u64,
    moved_at: u64,
    rows_changed_at: u64,
    restored_at: u64,
    dropped: Vec<WireDroppedRows>,
    added_keys: Vec<WireAddedKeys>,
    commits: Vec<WireCommit>,
    pending: Vec<WireCommit>,
    groups: Vec<WireRef>,
}

#[derive(Serialize, Deserialize)]
struct WireMetadata {
    table_id: [u8; 16],
    schema: Vec<u8>,
    properties: BTreeMap<String, String>,
    defaults: BTreeMap<String, String>,
    initial_defaults: BTreeMap<i32, String>,
    adoptions: u64,
    sort_order: Vec<(String, bool, bool)>,
    keys: Vec<(String, bool, Vec<i32>)>,
    next_field_id: i32,
    retired_names: BTreeSet<PhysicalName>,
}

impl TryFrom<&TableMetadata> for WireMetadata {
    type Error = ManifestError;

    fn try_from(metadata: &TableMetadata) -> Result<Self, ManifestError> {
        metadata.check()?;
        Ok(Self {
            table_id: *metadata.table_id.as_uuid().as_bytes(),
            schema: ipc::encode_schema(&metadata.schema)?,
            properties: metadata.properties.clone(),
            defaults: metadata.defaults.clone(),
            initial_defaults: metadata.initial_defaults.clone(),
            adoptions: metadata.adoptions,
            sort_order: metadata
                .sort_order
                .iter()
                .map(|c| (c.name.clone(), c.descending, c.nulls_first))
                .collect(),
            keys: (metadata.keys.iter())
                .map(|key| (key.name.clone(), key.is_primary, key.columns.clone()))
                .collect(),
            next_field_id: metadata.next_field_id,
            retired_names: metadata.retired_names.clone(),
        })
    }
}

impl TryFrom<WireMetadata> for TableMetadata {
    type Error = ManifestError;

    fn try_from(wire: WireMetadata) -> Result<Self, ManifestError> {
        let metadata = Self {
            table_id: Uuid::from_bytes(wire.table_id).into(),
            schema: ipc::decode_schema(&wire.schema)?,
            properties: wire.properties,
            defaults: wire.defaults,
            initial_defaults: wire.initial_defaults,
            adoptions: wire.adoptions,
            sort_order: wire
                .sort_order
                .into_iter()
                .map(|(name, descending, nulls_first)| SortColumn {
                    name,
                    descending,
                    nulls_first,
                })
                .collect(),
            keys: (wire.keys.into_iter())
                .map(|(name, is_primary, columns)| UniqueKey {
                    name,
                    is_primary,
                    columns,
                })
                .collect(),
            next_field_id: wire.next_field_id,
            retired_names: wire.retired_names,
        };
        metadata.check()?;
        Ok(metadata)
    }
}

#[derive(Serialize, Deserialize)]
struct WireCommit {
    wal_id: [u8; 16],
    op: String,
    version: u64,
    rows_inserted: u64,
    rows_deleted: u64,
    rows_updated: u64,
    statement: String,
    started_at_ms: i64,
}

impl From<&CommitRecord> for WireCommit {
    fn from(record: &CommitRecord) -> Self {
        Self {
            wal_id: record.wal_id.as_i128().to_be_bytes(),
            op: record.op.as_str().to_owned(),
            version: record.version,
            rows_inserted: record.rows_inserted,
            rows_deleted: record.rows_deleted,
            rows_updated: record.rows_updated,
            statement: record.statement.clone(),
            started_at_ms: record.started_at_ms,
        }
    }
}

impl TryFrom<WireCommit> for CommitRecord {
    type Error = ManifestError;

    fn try_from(wire: WireCommit) -> Result<Self, ManifestError> {
        Ok(Self {
            wal_id: WalId::from_i128(i128::from_be_bytes(wire.wal_id)),
            op: OpKind::from_name(&wire.op)
                .ok_or(ManifestError::UnknownOperation { name: wire.op })?,
            version: wire.version,
            rows_inserted: wire.rows_inserted,
            rows_deleted: wire.rows_deleted,
            rows_updated: wire.rows_updated,
            statement: wire.statement,
            started_at_ms: wire.started_at_ms,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct WireRef {
    hash: [u8; 32],
    first: [u8; 16],
    superfiles: u64,
    rows: u64,
    live_rows: u64,
    bytes: u64,
}

impl From<&NodeRef> for WireRef {
    fn from(node: &NodeRef) -> Self {
        Self {
            hash: *node.hash.as_bytes(),
            first: *node.first.as_uuid().as_bytes(),
            superfiles: node.totals.superfiles,
            rows: node.totals.rows,
            live_rows: node.totals.live_rows,
            bytes: node.totals.bytes,
        }
    }
}

impl From<WireRef> for NodeRef {
    fn from(wire: WireRef) -> Self {
        Self {
            hash: ContentHash::from_bytes(wire.hash),
            first: Uuid::from_bytes(wire.first).into(),
            totals: Totals {
                superfiles: wire.superfiles,
                rows: wire.rows,
                live_rows: wire.live_rows,
                bytes: wire.bytes,
            },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct WireGroup {
    salt: [u8; 16],
    leaves: Vec<WireRef>,
}

#[derive(Serialize, Deserialize)]
struct WireLeaf {
    salt: [u8; 16],
    entries: Vec<WireEntry>,
}
