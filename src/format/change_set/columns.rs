//! The rows of a change set as Arrow columns.
//!
//! Owns the column table that [`super`] documents, both directions. Does not own the stream or
//! its header.
//!
//! Invariant: what [`read_batch`] reads from a batch is what the `push_…` calls put there.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use arrow::ipc::writer::StreamWriter;
use datafusion::arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, FixedSizeBinaryArray, FixedSizeBinaryBuilder,
    RecordBatch, StringArray, StringBuilder, UInt64Array, UInt64Builder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use uuid::Uuid;

use super::moves::RowMoves;
use super::{ChangeSet, ChangeSetError, DropChange, TombstoneChange};
use crate::format::ids::ContentHash;
use crate::format::ipc::IpcError;
use crate::format::manifest::entry::{SuperfileEntry, TombstoneRef};
use crate::format::manifest::{decode_entry, encode_entry};
use crate::format::tombstones::{SidecarCodecError, decode_bitmap};

const ADD: &str = "ADD";
const TOMBSTONE: &str = "TOMBSTONE";
const DROP: &str = "DROP";

/// A batch is closed when it has this many rows …
const BATCH_ROWS: usize = 4096;
/// … or this many bytes of entries and bitmaps.
const BATCH_BYTES: usize = 1 << 20;

/// The columns, without the stream's own metadata.
pub(super) fn schema() -> &'static Schema {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let id = || DataType::FixedSizeBinary(16);
        Schema::new(vec![
            Field::new("kind", DataType::Utf8, false),
            Field::new("superfile", id(), false),
            Field::new("rows", DataType::UInt64, false),
            Field::new("entry", DataType::Binary, true),
            Field::new("base", id(), true),
            Field::new("sidecar", id(), true),
            Field::new("sidecar_hash", DataType::FixedSizeBinary(32), true),
            Field::new("sidecar_cardinality", DataType::UInt64, true),
            Field::new("sidecar_size", DataType::UInt64, true),
            Field::new("delta", DataType::Binary, true),
            Field::new("moves", DataType::Binary, true),
        ])
    });
    &SCHEMA
}

/// The columns of a batch under construction.
pub(super) struct Columns {
    rows_in_batch: usize,
    bytes_in_batch: usize,
    kind: StringBuilder,
    superfile: FixedSizeBinaryBuilder,
    rows: UInt64Builder,
    entry: BinaryBuilder,
    base: FixedSizeBinaryBuilder,
    sidecar: FixedSizeBinaryBuilder,
    sidecar_hash: FixedSizeBinaryBuilder,
    sidecar_cardinality: UInt64Builder,
    sidecar_size: UInt64Builder,
    delta: BinaryBuilder,
    moves: BinaryBuilder,
}

/// The values of one row that not every kind has.
#[derive(Default)]
struct Row {
    entry: Option<Vec<u8>>,
    base: Option<Uuid>,
    sidecar: Option<TombstoneRef>,
    delta: Option<Vec<u8>>,
    moves: Option<Vec<u8>>,
}

impl Columns {
    pub(super) fn new() -> Self {
        Self {
            rows_in_batch: 0,
            bytes_in_batch: 0,
            kind: StringBuilder::new(),
            superfile: FixedSizeBinaryBuilder::new(16),
            rows: UInt64Builder::new(),
            entry: BinaryBuilder::new(),
            base: FixedSizeBinaryBuilder::new(16),
            sidecar: FixedSizeBinaryBuilder::new(16),
            sidecar_hash: FixedSizeBinaryBuilder::new(32),
            sidecar_cardinality: UInt64Builder::new(),
            sidecar_size: UInt64Builder::new(),
            delta: BinaryBuilder::new(),
            moves: BinaryBuilder::new(),
        }
    }

    pub(super) fn push_add(&mut self, entry: &SuperfileEntry) -> Result<(), ChangeSetError> {
        // A new superfile's rows have not moved out of it.
        let new = SuperfileEntry {
            moved_at: 0,
            added_at: 0,
            delete_count: 0,
            ..entry.clone()
        };
        let row = Row {
            entry: Some(encode_entry(&new)?),
            ..Row::default()
        };
        self.push(ADD, entry.id.as_uuid(), entry.rows, row)
    }

    pub(super) fn push_tombstone(
        &mut self,
        change: &TombstoneChange,
    ) -> Result<(), ChangeSetError> {
        let mut delta = Vec::with_capacity(change.delta.serialized_size());
        change
            .delta
            .serialize_into(&mut delta)
            .map_err(|e| ChangeSetError::BadDelta {
                superfile: change.superfile,
                source: SidecarCodecError::BadBitmap(e),
            })?;
        let row = Row {
            base: change.base.map(|b| b.as_uuid()),
            sidecar: Some(change.union),
            delta: Some(delta),
            ..Row::default()
        };
        self.push(
            TOMBSTONE,
            change.superfile.as_uuid(),
            change.delta.len(),
            row,
        )
    }

    pub(super) fn push_drop(&mut self, change: &DropChange) -> Result<(), ChangeSetError> {
        let row = Row {
            base: change.base.map(|b| b.as_uuid()),
            moves: change.moved.as_ref().map(|moved| moved.encode()),
            ..Row::default()
        };
        self.push(DROP, change.superfile.as_uuid(), change.live_rows, row)
    }

    fn push(
        &mut self,
        kind: &str,
        superfile: Uuid,
        rows: u64,
        row: Row,
    ) -> Result<(), ChangeSetError> {
        fn fixed(
            builder: &mut FixedSizeBinaryBuilder,
            value: Option<&[u8]>,
        ) -> Result<(), ChangeSetError> {
            match value {
                Some(value) => builder.append_value(value).map_err(IpcError::from)?,
                None => builder.append_null(),
            }
            Ok(())
        }
        self.rows_in_batch += 1;
        self.bytes_in_batch += row.entry.as_ref().map_or(0, Vec::len);
        self.bytes_in_batch += row.delta.as_ref().map_or(0, Vec::len);
        self.bytes_in_batch += row.moves.as_ref().map_or(0, Vec::len);
        self.kind.append_value(kind);
        fixed(&mut self.superfile, Some(superfile.as_bytes()))?;
        self.rows.append_value(rows);
        self.entry.append_option(row.entry);
        fixed(
            &mut self.base,
            row.base.as_ref().map(|id| id.as_bytes().as_slice()),
        )?;
        let sidecar = row.sidecar.map(|t| t.sidecar.as_uuid());
        fixed(
            &mut self.sidecar,
            sidecar.as_ref().map(|id| id.as_bytes().as_slice()),
        )?;
        fixed(
            &mut self.sidecar_hash,
            row.sidecar.as_ref().map(|t| t.hash.as_bytes().as_slice()),
        )?;
        self.sidecar_cardinality
            .append_option(row.sidecar.map(|t| t.cardinality));
        self.sidecar_size.append_option(row.sidecar.map(|t| t.size));
        self.delta.append_option(row.delta);
        self.moves.append_option(row.moves);
        Ok(())
    }

    /// Writes the batch if it is full.
    pub(super) fn flush_full<W: Write>(
        &mut self,
        schema: &SchemaRef,
        writer: &mut StreamWriter<W>,
    ) -> Result<(), ChangeSetError> {
        if self.rows_in_batch >= BATCH_ROWS || self.bytes_in_batch >= BATCH_BYTES {
            self.flush(schema, writer)?;
        }
        Ok(())
    }

    /// Writes the batch if it has rows.
    pub(super) fn flush<W: Write>(
        &mut self,
        schema: &SchemaRef,
        writer: &mut StreamWriter<W>,
    ) -> Result<(), ChangeSetError> {
        if self.rows_in_batch == 0 {
            return Ok(());
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.kind.finish()),
            Arc::new(self.superfile.finish()),
            Arc::new(self.rows.finish()),
            Arc::new(self.entry.finish()),
            Arc::new(self.base.finish()),
            Arc::new(self.sidecar.finish()),
            Arc::new(self.sidecar_hash.finish()),
            Arc::new(self.sidecar_cardinality.finish()),
            Arc::new(self.sidecar_size.finish()),
            Arc::new(self.delta.finish()),
            Arc::new(self.moves.finish()),
        ];
        self.rows_in_batch = 0;
        self.bytes_in_batch = 0;
        let batch = RecordBatch::try_new(Arc::clone(schema), columns).map_err(IpcError::from)?;
        writer.write(&batch).map_err(IpcError::from)?;
        Ok(())
    }
}

/// A batch's columns, downcast.
struct Batch<'a> {
    kind: &'a StringArray,
    superfile: &'a FixedSizeBinaryArray,
    rows: &'a UInt64Array,
    entry: &'a BinaryArray,
    base: &'a FixedSizeBinaryArray,
    sidecar: &'a FixedSizeBinaryArray,
    sidecar_hash: &'a FixedSizeBinaryArray,
    sidecar_cardinality: &'a UInt64Array,
    sidecar_size: &'a UInt64Array,
    delta: &'a BinaryArray,
    moves: &'a BinaryArray,
}

/// Adds a batch's rows to `into`.
pub(super) fn read_batch(batch: &RecordBatch, into: &mut ChangeSet) -> Result<(), ChangeSetError> {
    let columns = Batch {
        kind: column(batch, "kind")?,
        superfile: column(batch, "superfile")?,
        rows: column(batch, "rows")?,
        entry: column(batch, "entry")?,
        base: column(batch, "base")?,
        sidecar: column(batch, "sidecar")?,
        sidecar_hash: column(batch, "sidecar_hash")?,
        sidecar_cardinality: column(batch, "sidecar_cardinality")?,
        sidecar_size: column(batch, "sidecar_size")?,
        delta: column(batch, "delta")?,
        moves: column(batch, "moves")?,
    };
    for i in 0..batch.num_rows() {
        let kind = if columns.kind.is_valid(i) {
            columns.kind.value(i)
        } else {
            ""
        };
        match kind {
            ADD => into.add.push(columns.add(i)?),
            TOMBSTONE => into.tombstone.push(columns.tombstone(i)?),
            DROP => into.drop.push(columns.drop(i)?),
            other => {
                return Err(ChangeSetError::UnknownKind {
                    kind: other.chars().take(32).collect(),
                });
            }
        }
    }
    Ok(())
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T, ChangeSetError> {
    batch
        .column_by_name(name)
        .and_then(|c| c.as_any().downcast_ref())
        .ok_or(ChangeSetError::BadColumns)
}

fn fixed<const N: usize>(array: &FixedSizeBinaryArray, i: usize) -> Option<[u8; N]> {
    if array.is_valid(i) {
        array.value(i).try_into().ok()
    } else {
        None
    }
}

fn number(array: &UInt64Array, i: usize) -> Option<u64> {
    array.is_valid(i).then(|| array.value(i))
}

fn bytes(array: &BinaryArray, i: usize) -> Option<&[u8]> {
    array.is_valid(i).then(|| array.value(i))
}

impl Batch<'_> {
    fn superfile(&self, kind: &'static str, i: usize) -> Result<Uuid, ChangeSetError> {
        fixed(self.superfile, i)
            .map(Uuid::from_bytes)
            .ok_or(ChangeSetError::MissingValue {
                kind,
                column: "superfile",
            })
    }

    fn rows(&self, kind: &'static str, i: usize) -> Result<u64, ChangeSetError> {
        number(self.rows, i).ok_or(ChangeSetError::MissingValue {
            kind,
            column: "rows",
        })
    }

    fn tombstone_ref(&self, kind: &'static str, i: usize) -> Result<TombstoneRef, ChangeSetError> {
        let missing = |column| ChangeSetError::MissingValue { kind, column };
        Ok(TombstoneRef {
            sidecar: fixed(self.sidecar, i)
                .map(Uuid::from_bytes)
                .ok_or_else(|| missing("sidecar"))?
                .into(),
            hash: fixed(self.sidecar_hash, i)
                .map(ContentHash::from_bytes)
                .ok_or_else(|| missing("sidecar_hash"))?,
            cardinality: number(self.sidecar_cardinality, i)
                .ok_or_else(|| missing("sidecar_cardinality"))?,
            size: number(self.sidecar_size, i).ok_or_else(|| missing("sidecar_size"))?,
        })
    }

    fn add(&self, i: usize) -> Result<SuperfileEntry, ChangeSetError> {
        let entry = bytes(self.entry, i).ok_or(ChangeSetError::MissingValue {
            kind: ADD,
            column: "entry",
        })?;
        let entry = decode_entry(entry)?;
        let superfile = self.superfile(ADD, i)?.into();
        if entry.id != superfile || entry.rows != self.rows(ADD, i)? {
            return Err(ChangeSetError::InconsistentEntry { superfile });
        }
        Ok(entry)
    }

    fn tombstone(&self, i: usize) -> Result<TombstoneChange, ChangeSetError> {
        let superfile = self.superfile(TOMBSTONE, i)?.into();
        let delta = bytes(self.delta, i).ok_or(ChangeSetError::MissingValue {
            kind: TOMBSTONE,
            column: "delta",
        })?;
        let delta = decode_bitmap(delta)
            .map_err(|source| ChangeSetError::BadDelta { superfile, source })?;
        if delta.len() != self.rows(TOMBSTONE, i)? {
            return Err(ChangeSetError::InconsistentTombstones { superfile });
        }
        Ok(TombstoneChange {
            superfile,
            base: fixed(self.base, i).map(|b| Uuid::from_bytes(b).into()),
            union: self.tombstone_ref(TOMBSTONE, i)?,
            delta,
        })
    }

    fn drop(&self, i: usize) -> Result<DropChange, ChangeSetError> {
        let superfile = self.superfile(DROP, i)?.into();
        let moved = bytes(self.moves, i)
            .map(RowMoves::decode)
            .transpose()
            .map_err(|source| ChangeSetError::BadMoves { superfile, source })?;
        Ok(DropChange {
            superfile,
            base: fixed(self.base, i).map(|b| Uuid::from_bytes(b).into()),
            live_rows: self.rows(DROP, i)?,
            moved: moved.map(Arc::new),
        })
    }
}
