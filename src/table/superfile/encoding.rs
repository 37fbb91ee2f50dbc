//! How a column is encoded and compressed: chosen from a sample of its values, where nobody set it.
//!
//! Owns the decision, a function of the sample: whether a dictionary pays, which encoding takes its place, and which
//! codec saves more than it costs. Sizes are measured, by encoding the sample; what a byte and a codec cost is a table
//! of constants, so that the same rows are written in the same way on every machine. Does not own the sample, nor
//! which settings count as set ([`Free`] says it).
//!
//! - A dictionary that is too large for the rows that share it costs twice: its page ends at a limit, after which values
//!   are written plainly, and each read of one row decodes all of it. So distinct values are estimated before.
//! - Sorted and narrow integers, dates and timestamps take a few bits as differences.
//! - Floats take less as streams of bytes, if a codec follows.
//! - Every encoding here is one that other Parquet readers know.
//!
//! Invariant: a choice concerns size and speed only; whatever it is, the same values are read back. No I/O.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::row::{RowConverter, SortField};
use datafusion::config::{ParquetColumnOptions, TableParquetOptions};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

/// Rows of a sample, at most; they are taken from several places of what is there.
const SAMPLE_ROWS: usize = 8192;
/// Rows that follow each other in a sample: enough to tell whether neighbours are alike.
const SLICE_ROWS: usize = 1024;
/// Bytes of a sample, at most, of which there is one row at least for so many bytes: fewer rows of long values are enough.
const SAMPLE_BYTES: usize = 1 << 20;
const SAMPLE_ROW_BYTES: usize = 16 << 10;
/// Fewer rows than these say little, and there is little to gain by them.
const FEWEST_ROWS: usize = 1024;

/// Bytes of a dictionary that every read of one row may as well decode.
const SMALL_DICTIONARY: f64 = 65_536.0;
/// Bytes of the largest dictionary; the writer gives one up at 1 MiB.
const LARGE_DICTIONARY: f64 = 393_216.0;
/// What a large dictionary leaves of the size without one, at most.
const LARGE_PAYS: f64 = 0.75;
/// What a small one does: reading it is cheap, writing it less so.
const SMALL_PAYS: f64 = 0.9;
/// What another encoding leaves of the plain values, at most.
const ENCODING_PAYS: f64 = 0.85;

/// What it costs to keep one byte, beside nanoseconds: written once, and read several times over a network or from a
/// disk that gives some 100 MB in a second.
const STORED: f64 = 10.0;
/// Nanoseconds for one byte that is compressed once and decompressed several times.
const LZ4: f64 = 1.5;
const ZSTD: f64 = 2.5;
/// Bytes of a value that a codec saves, at least.
const SAVED: f64 = 0.125;

/// The settings of a column that nobody made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Free {
    /// The codec.
    pub(crate) codec: bool,
    /// Whether there is a dictionary.
    pub(crate) dictionary: bool,
    /// The encoding of what is not in a dictionary.
    pub(crate) encoding: bool,
}

/// How one column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) dictionary: bool,
    pub(super) encoding: Encoding,
    pub(super) codec: Compression,
}

/// Puts into `options` how the columns of `batches` are written, the first of a superfile's rows, where that is free.
/// A row group will have `rows` rows.
pub(super) fn choose_columns(
    options: &mut TableParquetOptions,
    free: Free,
    schema: &Schema,
    batches: &[RecordBatch],
    rows: usize,
) {
    if free == Free::default() {
        return;
    }
    if free.codec {
        // For what no choice is made of.
        options.global.compression = Some(name_of(zstd()));
    }
    for (index, field) in schema.fields().iter().enumerate() {
        // An option cannot name the leaves of nested columns, nor a name with a dot: DataFusion takes it for nesting.
        if field.data_type().is_nested() || field.name().contains('.') {
            continue;
        }
        let columns: Vec<&ArrayRef> = batches
            .iter()
            .filter_map(|b| b.columns().get(index))
            .collect();
        let own = options.column_specific_options.get(field.name());
        let free = free.but(own);
        let Some(choice) = sample(&columns).and_then(|values| choose(&values, rows, free)) else {
            continue;
        };
        let own = options
            .column_specific_options
            .entry(field.name().clone())
            .or_default();
        if free.codec {
            own.compression = Some(name_of(choice.codec));
        }
        if free.dictionary {
            own.dictionary_enabled = Some(choice.dictionary);
        }
        if free.encoding {
            own.encoding = Some(encoding_name(choice.encoding).to_owned());
        }
    }
}

impl Free {
    /// What is free of a column with settings of its own.
    fn but(self, own: Option<&ParquetColumnOptions>) -> Self {
        let Some(own) = own else { return self };
        Self {
            codec: self.codec && own.compression.is_none(),
            dictionary: self.dictionary && own.dictionary_enabled.is_none(),
            encoding: self.encoding && own.encoding.is_none(),
        }
    }
}

fn zstd() -> Compression {
    Compression::ZSTD(ZstdLevel::default())
}

fn name_of(codec: Compression) -> String {
    match codec {
        Compression::ZSTD(level) => format!("zstd({})", level.compression_level()),
        Compression::LZ4_RAW => "lz4_raw".to_owned(),
        _ => "uncompressed".to_owned(),
    }
}

fn encoding_name(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::DELTA_BINARY_PACKED => "delta_binary_packed",
        Encoding::DELTA_LENGTH_BYTE_ARRAY => "delta_length_byte_array",
        Encoding::BYTE_STREAM_SPLIT => "byte_stream_split",
        _ => "plain",
    }
}

/// Slices of a column, from its beginning to its end, as one array.
fn sample(column: &[&ArrayRef]) -> Option<ArrayRef> {
    let rows: usize = column.iter().map(|piece| piece.len()).sum();
    let slices = (SAMPLE_ROWS / SLICE_ROWS).max(1);
    if rows <= SAMPLE_ROWS {
        let all: Vec<&dyn Array> = column.iter().map(|piece| piece.as_ref()).collect();
        return concat(&all).ok();
    }
    let mut pieces = Vec::new();
    for slice in 0..slices {
        let mut at = slice * (rows - SLICE_ROWS) / (slices - 1).max(1);
        let mut wanted = SLICE_ROWS;
        for piece in column {
            if at >= piece.len() {
                at -= piece.len();
                continue;
            }
            let length = wanted.min(piece.len() - at);
            pieces.push(piece.slice(at, length));
            wanted -= length;
            at = 0;
            if wanted == 0 {
                break;
            }
        }
    }
    let pieces: Vec<&dyn Array> = pieces.iter().map(|piece| piece.as_ref()).collect();
    concat(&pieces).ok()
}

/// How a column is written of which `values` are a sample and whose row groups have `rows` rows. `None`: as ever.
pub(super) fn choose(values: &ArrayRef, rows: usize, free: Free) -> Option<Choice> {
    if values.len() < FEWEST_ROWS || free == Free::default() {
        return None;
    }
    let values = &within_bytes(values);
    let sampled = values.len();
    if values.logical_null_count() == sampled {
        return None;
    }
    let rows = rows.max(sampled) as f64;
    let scale = rows / sampled as f64;
    let (encoding, plainly) = match encoding_for(values.data_type()) {
        _ if !free.encoding => (Encoding::PLAIN, measure(values, Encoding::PLAIN, false)?),
        None => (Encoding::PLAIN, measure(values, Encoding::PLAIN, false)?),
        Some(other) => {
            let plain = measure(values, Encoding::PLAIN, false)?;
            let encoded = measure(values, other, false)?;
            match encoded.cost() <= plain.cost() * ENCODING_PAYS {
                true => (other, encoded),
                false => (Encoding::PLAIN, plain),
            }
        }
    };
    let dictionary = match free.dictionary && has_dictionaries(values.data_type()) {
        true => Dictionary::of(values, rows),
        false => None,
    };
    let plainly = plainly.times(scale);
    let sizes = match dictionary {
        Some(dictionary) if dictionary.pays(&plainly) => Some(dictionary.sizes),
        _ => None,
    };
    Some(Choice {
        dictionary: sizes.is_some(),
        encoding,
        codec: sizes.unwrap_or(plainly).best(rows),
    })
}

/// The first of `values`, which take no more bytes than a sample may.
fn within_bytes(values: &ArrayRef) -> ArrayRef {
    let data = values.to_data();
    let bytes = data.get_slice_memory_size().unwrap_or(0);
    if bytes <= SAMPLE_BYTES {
        return Arc::clone(values);
    }
    let fit = values.len() * (SAMPLE_BYTES / 1024) / (bytes / 1024).max(1);
    values.slice(0, fit.clamp(SAMPLE_BYTES / SAMPLE_ROW_BYTES, values.len()))
}

/// The encoding that may take less than plain values.
fn encoding_for(data_type: &DataType) -> Option<Encoding> {
    match data_type {
        DataType::Decimal32(..) | DataType::Decimal64(..) => Some(Encoding::DELTA_BINARY_PACKED),
        // More digits are stored as bytes.
        DataType::Decimal128(digits, _) | DataType::Decimal256(digits, _) => {
            (*digits <= 18).then_some(Encoding::DELTA_BINARY_PACKED)
        }
        DataType::Float32 | DataType::Float64 => Some(Encoding::BYTE_STREAM_SPLIT),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => Some(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        DataType::Dictionary(_, value) => encoding_for(value),
        other if other.is_integer() || other.is_temporal() => Some(Encoding::DELTA_BINARY_PACKED),
        _ => None,
    }
}

fn has_dictionaries(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Boolean | DataType::Null)
}

/// Bytes that values take: as encoded, and compressed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sizes {
    plain: f64,
    lz4: f64,
    zstd: f64,
}

impl Sizes {
    fn costs(&self) -> [(f64, Compression); 3] {
        [
            (self.plain * STORED, Compression::UNCOMPRESSED),
            (self.lz4 * STORED + self.plain * LZ4, Compression::LZ4_RAW),
            (self.zstd * STORED + self.plain * ZSTD, zstd()),
        ]
    }

    fn cost(&self) -> f64 {
        self.costs()
            .iter()
            .map(|(cost, _)| *cost)
            .fold(f64::INFINITY, f64::min)
    }

    /// The codec that costs least for so many rows.
    fn best(&self, rows: f64) -> Compression {
        if self.plain - self.lz4.min(self.zstd) < SAVED * rows {
            return Compression::UNCOMPRESSED;
        }
        let costs = self.costs();
        let best = costs.iter().min_by(|a, b| a.0.total_cmp(&b.0));
        best.map_or(Compression::UNCOMPRESSED, |(_, codec)| *codec)
    }

    fn times(&self, factor: f64) -> Self {
        self.with(self, |own, _| own * factor)
    }

    fn with(&self, other: &Self, combined: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            plain: combined(self.plain, other.plain),
            lz4: combined(self.lz4, other.lz4),
            zstd: combined(self.zstd, other.zstd),
        }
    }
}

/// What a dictionary would make of a row group.
#[derive(Debug)]
struct Dictionary {
    /// Bytes of its page, as encoded.
    page: f64,
    /// All of it: the page and the values' places in it.
    sizes: Sizes,
}

impl Dictionary {
    fn of(values: &ArrayRef, rows: f64) -> Option<Self> {
        let distinct = Distinct::of(values)?;
        let expected = distinct.expected(rows);
        let known = distinct.firsts.len() as f64;
        let firsts = UInt32Array::from_iter_values(distinct.firsts.iter().copied());
        let entries = take(values, &firsts, None).ok()?;
        let page = measure(&entries, Encoding::PLAIN, false)?;
        let sample = measure(values, Encoding::PLAIN, true)?;
        // What is not the page are the places, which get longer with the dictionary.
        let longer = expected.max(2.0).log2().ceil() / known.max(2.0).log2().ceil();
        let scale = rows / values.len() as f64 * longer;
        let places = sample.with(&page, |all, page| (all - page).max(0.0) * scale);
        let page = page.times(expected / known);
        Some(Self {
            page: page.plain,
            sizes: page.with(&places, |page, places| page + places),
        })
    }

    /// Whether it is worth its page, when without it values take `other`.
    fn pays(&self, other: &Sizes) -> bool {
        let left = self.sizes.cost() / other.cost();
        (self.page <= SMALL_DICTIONARY && left <= SMALL_PAYS)
            || (self.page <= LARGE_DICTIONARY && left <= LARGE_PAYS)
    }
}

/// The distinct values of a sample.
#[derive(Debug)]
struct Distinct {
    rows: f64,
    /// Where each stands first.
    firsts: Vec<u32>,
    /// How many there are once, and twice.
    once: f64,
    twice: f64,
    /// How many there are in both halves of the sample.
    shared: f64,
}

impl Distinct {
    fn of(values: &ArrayRef) -> Option<Self> {
        struct Seen {
            first: u32,
            last: u32,
            count: u32,
        }
        let converter = RowConverter::new(vec![SortField::new(values.data_type().clone())]).ok()?;
        let rows = converter
            .convert_columns(std::slice::from_ref(values))
            .ok()?;
        let nulls = values.logical_nulls();
        let mut seen: HashMap<&[u8], Seen> = HashMap::with_capacity(values.len());
        let mut counted = 0_u32;
        for (at, row) in rows.iter().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(at)) {
                continue;
            }
            let at = u32::try_from(at).ok()?;
            counted += 1;
            let value = seen.entry(row.data()).or_insert(Seen {
                first: at,
                last: at,
                count: 0,
            });
            value.last = at;
            value.count += 1;
        }
        let half = u32::try_from(values.len() / 2).ok()?;
        let number = |of: &dyn Fn(&Seen) -> bool| seen.values().filter(|s| of(s)).count() as f64;
        let mut firsts: Vec<u32> = seen.values().map(|seen| seen.first).collect();
        firsts.sort_unstable();
        Some(Self {
            rows: f64::from(counted),
            once: number(&|seen| seen.count == 1),
            twice: number(&|seen| seen.count == 2),
            shared: number(&|seen| seen.first < half && seen.last >= half),
            firsts,
        })
    }

    /// How many distinct values so many rows have, probably.
    fn expected(&self, rows: f64) -> f64 {
        let known = self.firsts.len() as f64;
        // Chao's estimate, of values that come in no order.
        let unseen = self.once * (self.once - 1.0).max(0.0) / (2.0 * (self.twice + 1.0));
        let mixed = known + unseen;
        let half = self.rows / 2.0;
        let shared = mixed * (1.0 - (-half / mixed).exp()).powi(2);
        match self.shared < shared / 2.0 {
            // The halves have other values: the next rows will have others again.
            true => mixed.max(known * rows / self.rows).min(rows),
            false => mixed.min(rows),
        }
    }
}

/// How many bytes `values` take in a column of their own.
fn measure(values: &ArrayRef, encoding: Encoding, dictionary: bool) -> Option<Sizes> {
    Some(Sizes {
        plain: encoded(values, encoding, dictionary, Compression::UNCOMPRESSED)?,
        lz4: encoded(values, encoding, dictionary, Compression::LZ4_RAW)?,
        zstd: encoded(values, encoding, dictionary, zstd())?,
    })
}

fn encoded(
    values: &ArrayRef,
    encoding: Encoding,
    dictionary: bool,
    codec: Compression,
) -> Option<f64> {
    let field = Field::new("c", values.data_type().clone(), true);
    let batch = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![Arc::clone(values)]);
    let properties = WriterProperties::builder()
        .set_compression(codec)
        .set_dictionary_enabled(dictionary)
        .set_encoding(encoding)
        .set_statistics_enabled(EnabledStatistics::None)
        .build();
    let batch = batch.ok()?;
    let mut writer =
        ArrowWriter::try_new(std::io::sink(), batch.schema(), Some(properties)).ok()?;
    writer.write(&batch).ok()?;
    let metadata = writer.close().ok()?;
    let bytes: i64 = metadata
        .row_groups()
        .iter()
        .map(|g| g.compressed_size())
        .sum();
    Some(bytes as f64)
}

#[cfg(test)]
#[path = "encoding_tests.rs"]
mod tests;
