//! How a superfile's entry is encoded, in a leaf and in a change set.
//!
//! Owns the codec of an entry; its bytes are described in [`wire`](super::wire). Invariant: what decodes satisfies
//! [`shape::check_entry`].

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::entry::{RowIds, SuperfileEntry, TombstoneRef};
use super::error::ManifestError;
use super::shape;
use super::stats_wire::{WireColumn, stats, wire_stats};
use crate::format::clustering::{ClusterKey, Clustering, Layout};
use crate::format::envelope::{self, EnvelopeError};
use crate::format::external::{ColumnSource, ExternalFile};
use crate::format::footer::FooterChecksum;
use crate::format::ids::{ContentHash, RowId, SuperfileId};
use crate::format::in_place::InPlace;

/// An entry on its own, for change sets.
pub(crate) fn encode_entry(entry: &SuperfileEntry) -> Result<Vec<u8>, ManifestError> {
    postcard::to_stdvec(&WireEntry::from(entry))
        .map_err(|e| ManifestError::Envelope(EnvelopeError::Payload(e)))
}

/// The inverse of [`encode_entry`].
pub(crate) fn decode_entry(bytes: &[u8]) -> Result<SuperfileEntry, ManifestError> {
    envelope::decode_payload::<WireEntry>(bytes)?.try_into()
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireEntry {
    id: [u8; 16],
    rows: u64,
    size: u64,
    created_at_ms: i64,
    first_row_id: Option<[u8; 16]>,
    footer_checksum: Option<Vec<u8>>,
    in_place: Option<WireInPlace>,
    external: Option<WireExternalFile>,
    clustering: Option<WireClustering>,
    stats: Vec<WireColumn>,
    tombstones: Option<WireTombstones>,
    moved_at: u64,
    added_at: u64,
    delete_count: u32,
}

#[derive(Serialize, Deserialize)]
struct WireInPlace {
    path: String,
    tag: String,
}

#[derive(Serialize, Deserialize)]
struct WireExternalFile {
    source: String,
    columns: Vec<(i32, WireColumnSource)>,
}

/// The order of the variants is part of the format.
#[derive(Serialize, Deserialize)]
enum WireColumnSource {
    Name(String),
    Constant(Option<String>),
}

#[derive(Serialize, Deserialize)]
struct WireClustering {
    layout: WireLayout,
    columns: Vec<i32>,
    run: [u8; 16],
    bytes: u64,
}

/// The order of the variants is part of the format.
#[derive(Serialize, Deserialize)]
enum WireLayout {
    ZOrder,
    Hilbert,
    Declared,
    Stored,
}

#[derive(Serialize, Deserialize)]
struct WireTombstones {
    sidecar: [u8; 16],
    hash: [u8; 32],
    cardinality: u64,
    size: u64,
}

impl From<&SuperfileEntry> for WireEntry {
    fn from(entry: &SuperfileEntry) -> Self {
        Self {
            id: *entry.id.as_uuid().as_bytes(),
            rows: entry.rows,
            size: entry.size,
            created_at_ms: entry.created_at_ms,
            first_row_id: match entry.row_ids {
                RowIds::Span(first) => Some(first.as_i128().to_be_bytes()),
                RowIds::Stored => None,
            },
            footer_checksum: entry
                .footer_checksum
                .map(|checksum| checksum.to_bytes().to_vec()),
            in_place: entry.in_place.as_ref().map(|file| WireInPlace {
                path: file.place().to_string(),
                tag: file.tag().to_owned(),
            }),
            external: entry.external.as_ref().map(WireExternalFile::from),
            clustering: entry.clustering.as_ref().map(WireClustering::from),
            stats: wire_stats(&entry.stats),
            tombstones: entry.tombstones.as_ref().map(|t| WireTombstones {
                sidecar: *t.sidecar.as_uuid().as_bytes(),
                hash: *t.hash.as_bytes(),
                cardinality: t.cardinality,
                size: t.size,
            }),
            moved_at: entry.moved_at,
            added_at: entry.added_at,
            delete_count: entry.delete_count,
        }
    }
}

impl TryFrom<WireEntry> for SuperfileEntry {
    type Error = ManifestError;

    fn try_from(wire: WireEntry) -> Result<Self, ManifestError> {
        let superfile: SuperfileId = Uuid::from_bytes(wire.id).into();
        let checksum = wire.footer_checksum.map(|bytes| {
            FooterChecksum::from_bytes(&bytes).ok_or(ManifestError::BadFooterChecksum { superfile })
        });
        let in_place = wire.in_place.map(|file| {
            InPlace::parse(&file.path, &file.tag).ok_or(ManifestError::BadPlace { superfile })
        });
        let entry = Self {
            id: superfile,
            rows: wire.rows,
            size: wire.size,
            created_at_ms: wire.created_at_ms,
            row_ids: match wire.first_row_id {
                Some(first) => RowIds::Span(RowId::from_i128(i128::from_be_bytes(first))),
                None => RowIds::Stored,
            },
            footer_checksum: checksum.transpose()?,
            in_place: in_place.transpose()?,
            external: wire.external.map(ExternalFile::try_from).transpose()?,
            clustering: wire.clustering.map(Clustering::from),
            stats: stats(wire.stats)?,
            tombstones: wire.tombstones.map(|t| TombstoneRef {
                sidecar: Uuid::from_bytes(t.sidecar).into(),
                hash: ContentHash::from_bytes(t.hash),
                cardinality: t.cardinality,
                size: t.size,
            }),
            moved_at: wire.moved_at,
            added_at: wire.added_at,
            delete_count: wire.delete_count,
        };
        shape::check_entry(&entry)?;
        Ok(entry)
    }
}

impl From<&ExternalFile> for WireExternalFile {
    fn from(external: &ExternalFile) -> Self {
        let stored = |stored: &ColumnSource| match stored {
            ColumnSource::Name(name) => WireColumnSource::Name(name.clone()),
            ColumnSource::Constant(value) => WireColumnSource::Constant(value.clone()),
        };
        let columns = external.columns.iter();
        Self {
            source: external.source.clone(),
            columns: columns.map(|(id, s)| (*id, stored(s))).collect(),
        }
    }
}

impl TryFrom<WireExternalFile> for ExternalFile {
    type Error = ManifestError;

    fn try_from(wire: WireExternalFile) -> Result<Self, ManifestError> {
        let mut external = Self {
            source: wire.source,
            ..Self::default()
        };
        for (field_id, stored) in wire.columns {
            let stored = match stored {
                WireColumnSource::Name(name) => ColumnSource::Name(name),
                WireColumnSource::Constant(value) => ColumnSource::Constant(value),
            };
            if external.columns.insert(field_id, stored).is_some() {
                return Err(ManifestError::DuplicateColumn { field_id });
            }
        }
        Ok(external)
    }
}

impl From<&Clustering> for WireClustering {
    fn from(clustering: &Clustering) -> Self {
        Self {
            layout: match clustering.key.layout {
                Layout::ZOrder => WireLayout::ZOrder,
                Layout::Hilbert => WireLayout::Hilbert,
                Layout::Declared => WireLayout::Declared,
                Layout::Stored => WireLayout::Stored,
            },
            columns: clustering.key.columns.clone(),
            run: *clustering.run.as_uuid().as_bytes(),
            bytes: clustering.bytes,
        }
    }
}

impl From<WireClustering> for Clustering {
    fn from(wire: WireClustering) -> Self {
        Self {
            key: ClusterKey {
                layout: match wire.layout {
                    WireLayout::ZOrder => Layout::ZOrder,
                    WireLayout::Hilbert => Layout::Hilbert,
                    WireLayout::Declared => Layout::Declared,
                    WireLayout::Stored => Layout::Stored,
                },
                columns: wire.columns,
            },
            run: Uuid::from_bytes(wire.run).into(),
            bytes: wire.bytes,
        }
    }
}
