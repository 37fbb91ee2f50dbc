//! The Bloom filters of a superfile's columns: which columns get some, and those of one column as a reader keeps them.
//!
//! Owns which values they tell apart, and their way into and out of a file (<https://parquet.apache.org/docs/file-format/bloomfilter/>;
//! Bloom, "Space/time trade-offs in hash coding with allowable errors", CACM 1970). Does not own where they are kept.
//!
//! Invariant: a value that a row of the superfile has is never said to be absent. A filter hashes the bytes of a value in
//! the type that the file stores, so types whose equal values can have other bytes (floats, with two zeros; numbers that
//! were widened since) are never said to be.

use std::collections::HashSet;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::physical_plan::parquet::BloomFilterStatistics;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::basic::Type;
use parquet::bloom_filter::Sbbf;
use parquet::errors::Result;
use parquet::file::metadata::ParquetMetaData;

use super::key_order::Ascending;

/// How often a filter may say of a value that is not there that it may be: of a hundred superfiles seldom more than one
/// is opened in vain.
const FALSE_POSITIVES: f64 = 0.005;

/// What the column is called among a row group's filters, which hold no other.
const THE_COLUMN: &str = "key";

/// A column's filters, one for each row group.
#[derive(Debug)]
pub(crate) struct ColumnFilter {
    /// None if a row group has no filter.
    groups: Option<Vec<BloomFilterStatistics>>,
    stored_as: Type,
    bytes: usize,
}

impl ColumnFilter {
    /// Reads those of the column `name`, of a file with this metadata.
    ///
    /// # Errors
    /// Those of the reader; bytes that are no filter.
    pub(crate) async fn read(
        reader: &mut dyn AsyncFileReader,
        metadata: &ParquetMetaData,
        name: &str,
    ) -> Result<Self> {
        let schema = metadata.file_metadata().schema_descr();
        let at = (schema.columns().iter()).position(|column| column.path().parts() == [name]);
        let mut filter = Self {
            groups: None,
            stored_as: Type::BYTE_ARRAY,
            bytes: 0,
        };
        let mut groups = Vec::with_capacity(metadata.num_row_groups());
        for group in metadata.row_groups() {
            let Some(column) = at.and_then(|at| group.columns().get(at)) else {
                return Ok(filter);
            };
            let range = column
                .bloom_filter_offset()
                .zip(column.bloom_filter_length());
            let range = range.and_then(|(start, length)| {
                let (start, length) = (u64::try_from(start).ok()?, u64::try_from(length).ok()?);
                Some(start..start.checked_add(length)?)
            });
            let Some(range) = range else {
                return Ok(filter);
            };
            let bytes = reader.get_bytes(range).await?;
            filter.bytes += bytes.len();
            filter.stored_as = column.column_type();
            let mut group = BloomFilterStatistics::with_capacity(1);
            let length = column.column_descr().type_length();
            group.insert(
                THE_COLUMN,
                Sbbf::from_bytes(&bytes)?,
                filter.stored_as,
                length,
            );
            groups.push(group);
        }
        filter.groups = Some(groups);
        Ok(filter)
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.bytes
    }

    /// Whether a row may have one of `values`, which are of the column's type.
    pub(crate) fn may_hold(&self, values: &HashSet<ScalarValue>, data_type: &DataType) -> bool {
        let Some(groups) = &self.groups else {
            return true;
        };
        if stored_type(data_type) != Some(self.stored_as) {
            return true;
        }
        let column = Column::new_unqualified(THE_COLUMN);
        groups.iter().any(|group| {
            let holds = group.contained(&column, values);
            !holds.is_some_and(|holds| holds.len() == 1 && holds.is_valid(0) && !holds.value(0))
        })
    }
}

/// Puts into `options` that the columns in `names` get Bloom filters, unless a user said whether they do, or their values
/// ascend as numbers do that are handed out: then statistics tell the superfiles apart. `batches` are the first of a
/// superfile's rows, and its row groups have `rows` rows.
pub(super) fn filter_columns(
    options: &mut TableParquetOptions,
    names: &[String],
    schema: &Schema,
    batches: &[RecordBatch],
    rows: usize,
) {
    if rows < 2 {
        return;
    }
    for name in names {
        let Some((at, field)) = schema.column_with_name(name) else {
            continue;
        };
        // An option cannot name what has a dot in its name: DataFusion takes it for nesting.
        if stored_type(field.data_type()).is_none() || name.contains('.') {
            continue;
        }
        let own = options.column_specific_options.get(name);
        let is_set = own.is_some_and(|own| own.bloom_filter_enabled.is_some());
        if is_set || (field.data_type().is_integer() && ascend(at, batches)) {
            continue;
        }
        let own = (options.column_specific_options.entry(name.clone())).or_default();
        own.bloom_filter_enabled = Some(true);
        own.bloom_filter_fpp = own.bloom_filter_fpp.or(Some(FALSE_POSITIVES));
        own.bloom_filter_ndv = own.bloom_filter_ndv.or(u64::try_from(rows).ok());
    }
}

/// Whether the values of a column ascend.
fn ascend(column: usize, batches: &[RecordBatch]) -> bool {
    let mut ascending = Ascending::by(vec![column]);
    batches
        .iter()
        .all(|batch| matches!(ascending.add(batch), Ok(None)))
}

/// How Parquet stores values of `data_type` that its filters tell apart; `None` if they might not.
pub(crate) fn stored_type(data_type: &DataType) -> Option<Type> {
    match data_type {
        DataType::Int32 | DataType::UInt32 => Some(Type::INT32),
        DataType::Int64 | DataType::UInt64 => Some(Type::INT64),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => Some(Type::BYTE_ARRAY),
        DataType::FixedSizeBinary(_) => Some(Type::FIXED_LEN_BYTE_ARRAY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Cursor;
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, BinaryViewArray, FixedSizeBinaryArray, Int32Array, Int64Array, LargeStringArray,
        StringArray, StringViewArray, UInt32Array, UInt64Array,
    };
    use bytes::Bytes;
    use datafusion::common::config::TableOptions;
    use datafusion::common::file_options::parquet_writer::ParquetWriterOptions;
    use parquet::arrow::ArrowWriter;
    use parquet::file::properties::WriterProperties;
    use proptest::prelude::*;

    use super::*;

    /// A file of `key`, written as a superfile's key is, and its filters.
    async fn written(key: &ArrayRef, group_rows: usize) -> ColumnFilter {
        let batch = RecordBatch::try_from_iter([("key", Arc::clone(key))]).unwrap();
        let mut options = TableOptions::new().parquet;
        options.global.skip_arrow_metadata = true;
        options.global.max_row_group_size = group_rows;
        let names = ["key".to_owned()];
        let batches = std::slice::from_ref(&batch);
        filter_columns(&mut options, &names, &batch.schema(), batches, group_rows);
        let properties = ParquetWriterOptions::try_from(&options).unwrap();
        let properties: WriterProperties = properties.writer_options().clone();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let mut reader = Cursor::new(Bytes::from(file));
        let metadata = reader.get_metadata(None).await.unwrap();
        ColumnFilter::read(&mut reader, &metadata, "key")
            .await
            .unwrap()
    }

    fn one(value: ScalarValue) -> HashSet<ScalarValue> {
        HashSet::from([value])
    }

    fn any_keys() -> impl Strategy<Value = ArrayRef> {
        let numbers = || prop::collection::vec(prop::option::of(any::<i64>()), 2..300);
        let texts = || prop::collection::vec(prop::option::of(".{0,40}"), 2..300);
        prop_oneof![
            numbers().prop_map(|n| Arc::new(Int64Array::from(n)) as ArrayRef),
            numbers().prop_map(|n| Arc::new(Int32Array::from_iter(
                n.into_iter().map(|n| n.map(|n| n as i32))
            )) as ArrayRef),
            numbers().prop_map(|n| Arc::new(UInt32Array::from_iter(
                n.into_iter().map(|n| n.map(|n| n as u32))
            )) as ArrayRef),
            numbers().prop_map(|n| Arc::new(UInt64Array::from_iter(
                n.into_iter().map(|n| n.map(|n| n as u64))
            )) as ArrayRef),
            texts().prop_map(|t| Arc::new(StringArray::from(t)) as ArrayRef),
            texts().prop_map(|t| Arc::new(LargeStringArray::from(t)) as ArrayRef),
            texts().prop_map(|t| Arc::new(StringViewArray::from_iter(t)) as ArrayRef),
            texts().prop_map(|t| Arc::new(BinaryViewArray::from_iter(t)) as ArrayRef),
            numbers().prop_map(|n| {
                let bytes = n
                    .into_iter()
                    .map(|n| n.map(|n| i128::from(n).to_be_bytes()));
                Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, 16).unwrap())
                    as ArrayRef
            }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_value_that_is_there_is_absent(keys in any_keys(), group_rows in 2usize..200) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let filter = runtime.block_on(written(&keys, group_rows));
            for at in 0..keys.len() {
                let value = ScalarValue::try_from_array(&keys, at).unwrap();
                if !value.is_null() {
                    prop_assert!(filter.may_hold(&one(value), keys.data_type()));
                }
            }
            prop_assert!(!filter.may_hold(&HashSet::new(), keys.data_type()) || filter.groups.is_none());
        }
    }

    #[tokio::test]
    async fn most_values_that_are_not_there_are_absent() {
        let scattered = |n: i64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as i64);
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..20_000).map(scattered)));
        let filter = written(&keys, 5_000).await;
        let there = |n| {
            filter.may_hold(
                &one(ScalarValue::Int64(Some(scattered(n)))),
                &DataType::Int64,
            )
        };
        assert!((0..20_000).all(there));
        let others = (20_000..30_000).filter(|n| there(*n)).count();
        assert!(others < 400, "{others}");
        // A narrower number, widened since, was hashed in other bytes.
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![7, 3, 5]));
        let narrow = written(&narrow, 100).await;
        assert!(!narrow.may_hold(&one(ScalarValue::Int32(Some(8))), &DataType::Int32));
        assert!(narrow.may_hold(&one(ScalarValue::Int64(Some(7))), &DataType::Int64));
    }

    #[tokio::test]
    async fn numbers_that_ascend_and_columns_that_are_not_there_have_none() {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
        let filter = written(&keys, 1_000).await;
        assert!(filter.groups.is_none());
        assert!(filter.may_hold(&one(ScalarValue::Int64(Some(-1))), &DataType::Int64));
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..9).map(|n| n.to_string())));
        assert!(written(&texts, 1_000).await.groups.is_some());
    }
}
