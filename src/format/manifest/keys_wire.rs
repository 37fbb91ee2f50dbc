//! How keys are encoded: those that a change set found absent, those that a version remembers, and what it knows of
//! dropped rows.
//!
//! Owns the codec; its bytes are described in [`wire`](super::wire). Invariant: absent keys that decode are well formed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::ManifestError;
use super::stats_wire::WireValue;
use crate::format::envelope::{self, EnvelopeError};
use crate::format::keys::{AbsentKeys, AddedKeys, Bounds, DroppedRows};
use crate::format::stats::StatValue;

/// Absent keys, for change sets.
pub(crate) fn encode_absent_keys(all: &[AbsentKeys]) -> Result<Vec<u8>, ManifestError> {
    if !all.iter().all(AbsentKeys::is_well_formed) {
        return Err(ManifestError::BadKeys);
    }
    let wire: Vec<WireAbsentKeys> = all.iter().map(WireAbsentKeys::from).collect();
    postcard::to_stdvec(&wire).map_err(|e| ManifestError::Envelope(EnvelopeError::Payload(e)))
}

/// The inverse of [`encode_absent_keys`].
pub(crate) fn decode_absent_keys(bytes: &[u8]) -> Result<Vec<AbsentKeys>, ManifestError> {
    let wire = envelope::decode_payload::<Vec<WireAbsentKeys>>(bytes)?;
    let all = (wire.into_iter())
        .map(AbsentKeys::try_from)
        .collect::<Result<Vec<_>, _>>()?;
    match all.iter().all(AbsentKeys::is_well_formed) {
        true => Ok(all),
        false => Err(ManifestError::BadKeys),
    }
}

impl From<&AbsentKeys> for WireAbsentKeys {
    fn from(keys: &AbsentKeys) -> Self {
        Self {
            columns: keys.columns.clone(),
            ranges: (keys.ranges.iter())
                .map(|range| range.iter().map(WireBounds::from).collect())
                .collect(),
            hashes: keys.hashes.as_deref().map(wire_hashes),
            adds_others: keys.adds_others,
        }
    }
}

impl TryFrom<WireAbsentKeys> for AbsentKeys {
    type Error = ManifestError;

    fn try_from(wire: WireAbsentKeys) -> Result<Self, ManifestError> {
        let range = |range: Vec<WireBounds>| range.into_iter().map(Bounds::try_from).collect();
        Ok(Self {
            columns: wire.columns,
            ranges: (wire.ranges.into_iter())
                .map(range)
                .collect::<Result<_, _>>()?,
            hashes: wire.hashes.map(hashes),
            adds_others: wire.adds_others,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct WireAbsentKeys {
    columns: Vec<i32>,
    ranges: Vec<Vec<WireBounds>>,
    hashes: Option<Vec<[u8; 8]>>,
    adds_others: bool,
}

#[derive(Serialize, Deserialize)]
struct WireBounds {
    min: Option<WireValue>,
    max: Option<WireValue>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireDroppedRows {
    added_at: u64,
    columns: Vec<(i32, WireBounds)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WireAddedKeys {
    version: u64,
    superfiles: Vec<[u8; 16]>,
    columns: Vec<i32>,
    hashes: Vec<[u8; 8]>,
}

fn wire_hashes(hashes: &[u64]) -> Vec<[u8; 8]> {
    hashes.iter().map(|hash| hash.to_be_bytes()).collect()
}

fn hashes(wire: Vec<[u8; 8]>) -> Vec<u64> {
    wire.into_iter().map(u64::from_be_bytes).collect()
}

impl From<&Bounds> for WireBounds {
    fn from(bounds: &Bounds) -> Self {
        Self {
            min: bounds.min.as_ref().map(WireValue::from),
            max: bounds.max.as_ref().map(WireValue::from),
        }
    }
}

impl TryFrom<WireBounds> for Bounds {
    type Error = ManifestError;

    fn try_from(wire: WireBounds) -> Result<Self, ManifestError> {
        Ok(Self {
            min: wire.min.map(StatValue::try_from).transpose()?,
            max: wire.max.map(StatValue::try_from).transpose()?,
        })
    }
}

impl From<&DroppedRows> for WireDroppedRows {
    fn from(dropped: &DroppedRows) -> Self {
        Self {
            added_at: dropped.added_at,
            columns: (dropped.columns.iter())
                .map(|(id, bounds)| (*id, WireBounds::from(bounds)))
                .collect(),
        }
    }
}

impl TryFrom<WireDroppedRows> for DroppedRows {
    type Error = ManifestError;

    fn try_from(wire: WireDroppedRows) -> Result<Self, ManifestError> {
        let mut dropped = Self {
            added_at: wire.added_at,
            ..Self::default()
        };
        for (field_id, bounds) in wire.columns {
            if (dropped.columns.insert(field_id, bounds.try_into()?)).is_some() {
                return Err(ManifestError::DuplicateColumn { field_id });
            }
        }
        Ok(dropped)
    }
}

impl From<&AddedKeys> for WireAddedKeys {
    fn from(keys: &AddedKeys) -> Self {
        Self {
            version: keys.version,
            superfiles: (keys.superfiles.iter())
                .map(|id| *id.as_uuid().as_bytes())
                .collect(),
            columns: keys.columns.clone(),
            hashes: wire_hashes(&keys.hashes),
        }
    }
}

impl From<WireAddedKeys> for AddedKeys {
    fn from(wire: WireAddedKeys) -> Self {
        Self {
            version: wire.version,
            superfiles: (wire.superfiles.into_iter())
                .map(|id| Uuid::from_bytes(id).into())
                .collect(),
            columns: wire.columns,
            hashes: hashes(wire.hashes),
        }
    }
}
