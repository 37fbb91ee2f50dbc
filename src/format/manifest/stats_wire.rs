//! How the statistics of a superfile are encoded.
//!
//! Owns the codec of a column's statistics; its bytes are described in [`wire`](super::wire). Invariant: no
//! column is there twice, and no bound is NaN.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::ManifestError;
use crate::format::stats::{ColumnStats, StatValue, SuperfileStats};

#[derive(Serialize, Deserialize)]
pub(super) struct WireColumn {
    field_id: i32,
    min: Option<WireValue>,
    max: Option<WireValue>,
    null_count: Option<u64>,
    min_exact: bool,
    max_exact: bool,
}

/// The order of the variants is part of the format.
#[derive(Serialize, Deserialize)]
pub(super) enum WireValue {
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Decimal(i128),
    Utf8(String),
    Binary(Vec<u8>),
}

impl From<&StatValue> for WireValue {
    fn from(value: &StatValue) -> Self {
        match value {
            StatValue::Bool(v) => Self::Bool(*v),
            StatValue::Int(v) => Self::Int(*v),
            StatValue::UInt(v) => Self::UInt(*v),
            StatValue::Float(v) => Self::Float(*v),
            StatValue::Decimal(v) => Self::Decimal(*v),
            StatValue::Utf8(v) => Self::Utf8(v.clone()),
            StatValue::Binary(v) => Self::Binary(v.clone()),
        }
    }
}

impl TryFrom<WireValue> for StatValue {
    type Error = ManifestError;

    fn try_from(wire: WireValue) -> Result<Self, ManifestError> {
        Ok(match wire {
            WireValue::Bool(v) => Self::Bool(v),
            WireValue::Int(v) => Self::Int(v),
            WireValue::UInt(v) => Self::UInt(v),
            WireValue::Float(v) if v.is_nan() => return Err(ManifestError::NanBound),
            WireValue::Float(v) => Self::Float(v),
            WireValue::Decimal(v) => Self::Decimal(v),
            WireValue::Utf8(v) => Self::Utf8(v),
            WireValue::Binary(v) => Self::Binary(v),
        })
    }
}

pub(super) fn wire_stats(stats: &SuperfileStats) -> Vec<WireColumn> {
    stats
        .columns
        .iter()
        .map(|(field_id, c)| WireColumn {
            field_id: *field_id,
            min: c.min.as_ref().map(WireValue::from),
            max: c.max.as_ref().map(WireValue::from),
            null_count: c.null_count,
            min_exact: c.min_exact,
            max_exact: c.max_exact,
        })
        .collect()
}

pub(super) fn stats(wire: Vec<WireColumn>) -> Result<SuperfileStats, ManifestError> {
    let mut columns = BTreeMap::new();
    for column in wire {
        let stats = ColumnStats {
            min: column.min.map(StatValue::try_from).transpose()?,
            max: column.max.map(StatValue::try_from).transpose()?,
            null_count: column.null_count,
            min_exact: column.min_exact,
            max_exact: column.max_exact,
        };
        if columns.insert(column.field_id, stats).is_some() {
            return Err(ManifestError::DuplicateColumn {
                field_id: column.field_id,
            });
        }
    }
    Ok(SuperfileStats { columns })
}
