//! Whether a Parquet file can be a superfile of a table, and what its manifest entry says of it.
//!
//! Owns the comparison of the file's columns with the table's, and the file's statistics, both from
//! its footer. Does not read or write anything.
//!
//! The file's columns are found by name: it carries no field ids that mean anything here. Its entry
//! keeps which field of the table each of them is ([`ColumnSource`]), so a later change of names cannot
//! confuse them. Bounds of floats are not believed: other writers leave NaNs out of them.
//!
//! Invariant: a file that is accepted is read, by the scan, as rows that an `INSERT` of the same
//! values would have written; whatever else it holds, or lacks, is refused.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::parquet_to_arrow_schema;
use parquet::basic::{Encoding, Type as PhysicalType};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::statistics::Statistics;

use crate::error::{Error, ErrorKind, Result};
use crate::format::ids::MAX_SUPERFILE_ROWS;
use crate::format::manifest::{CHECK, TableMetadata, field_id};
use crate::format::stats::{ColumnStats, StatValue, SuperfileStats};
use crate::format::{ColumnSource, ExternalColumns};
use crate::scan::read::columns::renamed;
use crate::table::evolution::{initial_text, initial_value, widens};
use crate::table::{footer_null_count, footer_stats};

/// Longest bound of a constant column that is recorded, in bytes.
const MAX_BOUND_BYTES: usize = 128;

/// What a table's entry will say of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FilePlan {
    /// Its rows.
    pub(crate) rows: u64,
    /// Where it has the table's columns.
    pub(crate) columns: ExternalColumns,
    /// The statistics of the table's columns in it.
    pub(crate) stats: SuperfileStats,
}

/// Refuses a table whose rows have to satisfy more than a file's footer can tell.
///
/// # Errors
/// Says what, and what to do instead.
pub(crate) fn check_table(metadata: &TableMetadata) -> Result<()> {
    let refuse = |why: &str| {
        Err(Error::new(
            ErrorKind::Unsupported,
            "supertable_add_files",
            format!("{why}; use INSERT INTO … SELECT instead"),
        ))
    };
    if metadata.properties.keys().any(|key| key.starts_with(CHECK)) {
        return refuse("the table has checks, which only an INSERT makes");
    }
    if !metadata.sort_order.is_empty() {
        return refuse("the table's rows are ordered (WITH ORDER), which only an INSERT does");
    }
    Ok(())
}

/// What the table with `metadata` can record of `file`, which is `size` bytes long and called `name`;
/// `hive` are the values in the names of its directories.
///
/// # Errors
/// Names what stands against it.
pub(crate) fn plan_file(
    file: &Arc<ParquetMetaData>,
    size: u64,
    name: &str,
    metadata: &TableMetadata,
    hive: &[(String, Option<String>)],
) -> Result<FilePlan> {
    let refuse = |why: String| Error::new(ErrorKind::InvalidArgument, name, why);
    let rows = check_layout(file, size).map_err(|why| refuse(why.to_owned()))?;
    for chunk in file.row_groups().iter().flat_map(|group| group.columns()) {
        check_pages(chunk).map_err(|why| {
            refuse(format!(
                "its column {} {why}; write the file anew in another way",
                chunk.column_path()
            ))
        })?;
    }
    let footer = file.file_metadata();
    let arrow = parquet_to_arrow_schema(footer.schema_descr(), footer.key_value_metadata())
        .map_err(|e| refuse("its columns cannot be read".to_owned()).with_source(e))?;
    let mut external = ExternalColumns::new();
    let mut taken = 0;
    for field in metadata.schema.fields() {
        let Some(id) = field_id(field) else { continue };
        if let Some((_, stored)) = arrow.fields().find(field.name()) {
            taken += 1;
            if !fits(stored.data_type(), field.data_type()) && is_all_null(file, stored, rows) {
                // Whatever the type is, there is no value of it.
                if !field.is_nullable() {
                    return Err(refuse(format!(
                        "its column {} is NULL in every row, and the table's is NOT NULL",
                        field.name()
                    )));
                }
                external.insert(id, ColumnSource::Constant(None));
                continue;
            }
            check_type(stored, field).map_err(|why| refuse(format!("its column {why}")))?;
            check_times(file, stored, field).map_err(|why| refuse(format!("its column {why}")))?;
            external.insert(id, ColumnSource::Name(field.name().clone()));
            name_members(field.data_type(), &mut external);
            continue;
        }
        let Some((_, value)) = hive.iter().rev().find(|(key, _)| key == field.name()) else {
            check_absent(field, id, metadata).map_err(refuse)?;
            continue;
        };
        let text = constant(field, value.as_deref()).map_err(|e| {
            refuse(format!(
                "the name of its directory gives no {}",
                field.name()
            ))
            .with_source(e)
        })?;
        external.insert(id, ColumnSource::Constant(text));
    }
    if taken == 0 {
        return Err(refuse("it has none of the table's columns".to_owned()));
    }
    if let Some(extra) = arrow
        .fields()
        .iter()
        .find(|f| metadata.schema.fields().find(f.name()).is_none())
    {
        return Err(refuse(format!(
            "it has a column {} that the table does not have; ALTER TABLE … ADD COLUMN first, or \
             INSERT INTO … SELECT the columns that the table has",
            extra.name()
        )));
    }
    if arrow.fields().len() != taken {
        return Err(refuse("two of its columns have the same name".to_owned()));
    }
    if let Some((key, _)) = hive
        .iter()
        .find(|(key, _)| metadata.schema.fields().find(key).is_none())
    {
        return Err(refuse(format!(
            "its directory gives a column {key} that the table does not have; ALTER TABLE … ADD \
             COLUMN first"
        )));
    }
    let stats = statistics(file, metadata, &external, rows, name)?;
    Ok(FilePlan {
        rows,
        columns: external,
        stats,
    })
}

/// Whether the footer describes a whole file of this size; answers its rows.
fn check_layout(file: &ParquetMetaData, size: u64) -> std::result::Result<u64, &'static str> {
    let mut rows = 0_u64;
    for group in file.row_groups() {
        let in_group = u64::try_from(group.num_rows()).map_err(|_| "its rows cannot be counted")?;
        rows = rows
            .checked_add(in_group)
            .ok_or("its rows cannot be counted")?;
        for chunk in group.columns() {
            if chunk.file_path().is_some() {
                return Err("its columns are in other files");
            }
            if chunk.data_page_offset() < 0 || chunk.compressed_size() < 0 {
                return Err("its footer is damaged");
            }
            let (start, length) = chunk.byte_range();
            if start.checked_add(length).is_none_or(|end| end > size) {
                return Err("it is shorter than its footer says");
            }
        }
    }
    if i64::try_from(rows) != Ok(file.file_metadata().num_rows()) {
        return Err("its row groups do not have the rows that its footer counts");
    }
    if rows > MAX_SUPERFILE_ROWS {
        return Err("it has more rows than a superfile can have; use INSERT INTO … SELECT instead");
    }
    Ok(rows)
}

/// A column that the file does not have reads as NULL: that must be what an `INSERT` would do.
fn check_absent(
    field: &Field,
    id: i32,
    metadata: &TableMetadata,
) -> std::result::Result<(), String> {
    let name = field.name();
    if !field.is_nullable() {
        return Err(format!("it lacks the column {name}, which is NOT NULL"));
    }
    if metadata.defaults.contains_key(name) || metadata.initial_default(id).is_some() {
        return Err(format!(
            "it lacks the column {name}, which has a default; use INSERT INTO … SELECT instead"
        ));
    }
    Ok(())
}

/// Records the members of a column, and of what is in it, under the names they have today.
fn name_members(data_type: &DataType, external: &mut ExternalColumns) {
    match data_type {
        DataType::Struct(fields) => {
            for field in fields {
                if let Some(id) = field_id(field) {
                    external.insert(id, ColumnSource::Name(field.name().clone()));
                }
                name_members(field.data_type(), external);
            }
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            name_members(item.data_type(), external);
        }
        _ => {}
    }
}

/// The text of a column's value in a directory's name, from which the value can be read again.
fn constant(field: &Field, value: Option<&str>) -> Result<Option<String>> {
    let Some(text) = value else {
        return match field.is_nullable() {
            true => Ok(None),
            false => Err(Error::new(
                ErrorKind::Constraint,
                field.name(),
                "the column is NOT NULL",
            )),
        };
    };
    let value = initial_value(field.name(), text, field.data_type())?;
    initial_text(field.name(), &value).map(Some)
}

fn statistics(
    file: &Arc<ParquetMetaData>,
    metadata: &TableMetadata,
    external: &ExternalColumns,
    rows: u64,
    name: &str,
) -> Result<SuperfileStats> {
    let unreadable = |e: parquet::errors::ParquetError| {
        Error::new(
            ErrorKind::InvalidArgument,
            name,
            "its footer cannot be read",
        )
        .with_source(e)
    };
    // As the scan will see it: what cannot be believed is left out.
    let named = renamed(Arc::clone(file), &metadata.schema, Some(external)).map_err(unreadable)?;
    let footer = named.file_metadata();
    let schema = parquet_to_arrow_schema(footer.schema_descr(), footer.key_value_metadata())
        .map_err(unreadable)?;
    let schema = Arc::new(schema);
    let mut stats = footer_stats(&named, &schema).map_err(|e| {
        Error::new(
            ErrorKind::InvalidArgument,
            name,
            "its statistics cannot be read",
        )
        .with_source(e)
    })?;
    for column in stats.columns.values_mut() {
        // Whether a writer shortened a bound is not always recorded.
        let text =
            |v: &Option<StatValue>| matches!(v, Some(StatValue::Utf8(_) | StatValue::Binary(_)));
        column.min_exact &= !text(&column.min);
        column.max_exact &= !text(&column.max);
    }
    for field in metadata.schema.fields() {
        // Bounds are kept without unit and scale: those of another one would be other values.
        let stored = schema.field_with_name(field.name()).map(Field::data_type);
        if stored.is_ok_and(|stored| changes_unit(stored, field.data_type()))
            && let Some(column) = field_id(field).and_then(|id| stats.columns.get_mut(&id))
        {
            *column = ColumnStats::new(None, None, column.null_count, MAX_BOUND_BYTES);
        }
    }
    for field in metadata.schema.fields() {
        let Some(id) = field_id(field) else { continue };
        match external.get(&id) {
            Some(ColumnSource::Constant(text)) => {
                let stats_of_it = constant_stats(field, text.as_deref(), rows)?;
                stats.columns.insert(id, stats_of_it);
            }
            Some(ColumnSource::Name(_)) if !field.is_nullable() => {
                let stored = schema.field_with_name(field.name());
                let known = stored.is_ok_and(|stored| {
                    !stored.is_nullable() || footer_null_count(&named, &schema, stored) == Some(0)
                });
                if !known {
                    return Err(Error::new(
                        ErrorKind::Constraint,
                        name,
                        format!(
                            "its column {} may hold NULL, and the table's is NOT NULL; use INSERT \
                             INTO … SELECT instead",
                            field.name()
                        ),
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(stats)
}

fn constant_stats(field: &Field, text: Option<&str>, rows: u64) -> Result<ColumnStats> {
    let value = match text {
        Some(text) => {
            StatValue::from_scalar(&initial_value(field.name(), text, field.data_type())?)
        }
        None => return Ok(ColumnStats::new(None, None, Some(rows), MAX_BOUND_BYTES)),
    };
    Ok(ColumnStats::new(
        value.clone(),
        value,
        Some(0),
        MAX_BOUND_BYTES,
    ))
}

/// Whether a file's column can be read as the table's.
fn check_type(stored: &Field, field: &FieldRef) -> std::result::Result<(), String> {
    match fits(stored.data_type(), field.data_type()) {
        true => Ok(()),
        false => Err(format!(
            "{} has the type {}, the table's has {}; use INSERT INTO … SELECT with a CAST instead",
            field.name(),
            plain(stored.data_type()),
            plain(field.data_type())
        )),
    }
}

/// Whether a file's column can be read as the table's: as a member of another one can be, and also in a coarser unit of
/// time, in an equal zone, or with a smaller scale.
fn fits(stored: &DataType, wanted: &DataType) -> bool {
    match stored {
        DataType::Dictionary(_, value) => fits(value, wanted),
        _ => {
            reads_as(stored, wanted)
                || changes_unit(stored, wanted)
                || in_equal_zones(stored, wanted)
        }
    }
}

/// Whether each value of `stored` is one of `wanted`, in another unit or scale.
fn changes_unit(stored: &DataType, wanted: &DataType) -> bool {
    use DataType as T;
    match (stored, wanted) {
        (T::Timestamp(a, x), T::Timestamp(b, y)) => {
            a < b && equal_zones(x.as_deref(), y.as_deref())
        }
        (T::Time32(a), T::Time32(b) | T::Time64(b)) | (T::Time64(a), T::Time64(b)) => a < b,
        (a, b) if a.is_decimal() && b.is_decimal() => match (digits(a), digits(b)) {
            // At least as many digits on both sides of the point.
            (Some((whole, scale)), Some((wider, finer))) => scale < finer && whole <= wider,
            _ => false,
        },
        _ => false,
    }
}

fn in_equal_zones(stored: &DataType, wanted: &DataType) -> bool {
    match (stored, wanted) {
        (DataType::Timestamp(a, x), DataType::Timestamp(b, y)) => {
            a == b && equal_zones(x.as_deref(), y.as_deref())
        }
        _ => false,
    }
}

/// Whether two zones are one; UTC has several names.
fn equal_zones(a: Option<&str>, b: Option<&str>) -> bool {
    let is_utc = |zone: &str| {
        [
            "utc", "etc/utc", "z", "+00:00", "-00:00", "+0000", "+00", "gmt", "etc/gmt",
        ]
        .contains(&zone.to_ascii_lowercase().as_str())
    };
    match (a, b) {
        (Some(a), Some(b)) => a == b || (is_utc(a) && is_utc(b)),
        (None, None) => true,
        _ => false,
    }
}

/// Digits before the point, and behind it.
fn digits(decimal: &DataType) -> Option<(i16, i8)> {
    match decimal {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => Some((i16::from(*p) - i16::from(*s), *s)),
        _ => None,
    }
}

/// Whether the footer proves that a flat column holds no value.
fn is_all_null(file: &ParquetMetaData, stored: &Field, rows: u64) -> bool {
    if stored.data_type() == &DataType::Null {
        return true;
    }
    let Some(groups) = chunks(file, stored) else {
        return false;
    };
    let nulls: Option<u64> = groups
        .map(|chunk| chunk.statistics().and_then(|s| s.null_count_opt()))
        .sum();
    rows > 0 && nulls == Some(rows)
}

/// The chunks of a flat column.
fn chunks<'f>(
    file: &'f ParquetMetaData,
    stored: &Field,
) -> Option<impl Iterator<Item = &'f ColumnChunkMetaData>> {
    let columns = file.file_metadata().schema_descr().columns();
    let path = [stored.name().clone()];
    let at = columns.iter().position(|c| c.path().parts() == path)?;
    Some(
        file.row_groups()
            .iter()
            .filter_map(move |group| group.columns().get(at)),
    )
}

/// A finer unit reaches less far: the footer has to say that no time lies beyond it.
fn check_times(
    file: &ParquetMetaData,
    stored: &Field,
    field: &Field,
) -> std::result::Result<(), String> {
    let (DataType::Timestamp(unit, _), DataType::Timestamp(finer, _)) =
        (stored.data_type(), field.data_type())
    else {
        return Ok(());
    };
    if unit >= finer {
        return Ok(());
    }
    let factor = per_second(*finer) / per_second(*unit);
    let fits = |value: i64| value.checked_mul(factor).is_some();
    let all = chunks(file, stored).is_some_and(|mut chunks| {
        chunks.all(|chunk| match chunk.statistics() {
            Some(Statistics::Int64(s)) => {
                let empty = s.null_count_opt() == u64::try_from(chunk.num_values()).ok();
                let bounds = s.min_opt().zip(s.max_opt());
                empty || bounds.is_some_and(|(min, max)| fits(*min) && fits(*max))
            }
            _ => false,
        })
    });
    match all {
        true => Ok(()),
        false => Err(format!(
            "{} has times in {unit:?}s, of which the footer does not say that the table's {finer:?}s reach as far; use \
             INSERT INTO … SELECT with a CAST instead",
            field.name()
        )),
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Whether this build reads the pages of a column.
fn check_pages(chunk: &ColumnChunkMetaData) -> std::result::Result<(), String> {
    if !can_decompress(chunk) {
        let codec = chunk.compression();
        return Err(format!(
            "is compressed with {codec}, which cannot be read here"
        ));
    }
    let is = |types: &[PhysicalType]| types.contains(&chunk.column_type());
    use PhysicalType as P;
    for encoding in chunk.encodings() {
        let known = match encoding {
            // Those of levels are among them, too.
            Encoding::PLAIN
            | Encoding::PLAIN_DICTIONARY
            | Encoding::RLE_DICTIONARY
            | Encoding::RLE => true,
            #[allow(deprecated)]
            Encoding::BIT_PACKED => true,
            Encoding::DELTA_BINARY_PACKED => is(&[P::INT32, P::INT64]),
            Encoding::DELTA_LENGTH_BYTE_ARRAY => is(&[P::BYTE_ARRAY]),
            Encoding::DELTA_BYTE_ARRAY => is(&[P::BYTE_ARRAY, P::FIXED_LEN_BYTE_ARRAY]),
            Encoding::BYTE_STREAM_SPLIT => is(&[
                P::INT32,
                P::INT64,
                P::FLOAT,
                P::DOUBLE,
                P::FIXED_LEN_BYTE_ARRAY,
            ]),
        };
        if !known {
            return Err(format!(
                "has pages of {} encoded as {encoding}, which cannot be read here",
                chunk.column_type()
            ));
        }
    }
    Ok(())
}

/// Whether the codec of a column is part of this build. Nothing is read.
fn can_decompress(chunk: &ColumnChunkMetaData) -> bool {
    let nothing = Arc::new(Bytes::new());
    SerializedPageReader::new(nothing, chunk, 0, Some(Vec::new())).is_ok()
}

fn reads_as(stored: &DataType, wanted: &DataType) -> bool {
    use DataType as T;
    match (stored, wanted) {
        (T::Dictionary(_, value), wanted) => reads_as(value, wanted),
        (T::Utf8 | T::LargeUtf8 | T::Utf8View, T::Utf8 | T::LargeUtf8 | T::Utf8View)
        | (
            T::Binary | T::LargeBinary | T::BinaryView,
            T::Binary | T::LargeBinary | T::BinaryView,
        ) => true,
        (T::Struct(stored), T::Struct(wanted)) => members_read_as(stored, wanted),
        (T::List(a) | T::LargeList(a), T::List(b) | T::LargeList(b)) => item_reads_as(a, b),
        (T::FixedSizeList(a, n), T::FixedSizeList(b, m)) => n == m && item_reads_as(a, b),
        (T::Map(a, _), T::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (T::Struct(a), T::Struct(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| item_reads_as(a, b))
            }
            _ => false,
        },
        (stored, wanted) if stored.is_nested() || wanted.is_nested() => false,
        (stored, wanted) => widens(stored, wanted).is_ok(),
    }
}

fn item_reads_as(stored: &Field, wanted: &Field) -> bool {
    (wanted.is_nullable() || !stored.is_nullable())
        && reads_as(stored.data_type(), wanted.data_type())
}

/// The same members, in any order; the table may have more of them that can be NULL.
fn members_read_as(stored: &Fields, wanted: &Fields) -> bool {
    let known = stored.iter().all(|member| {
        wanted
            .find(member.name())
            .is_some_and(|(_, wanted)| item_reads_as(member, wanted))
    });
    let complete = wanted
        .iter()
        .all(|member| member.is_nullable() || stored.find(member.name()).is_some());
    let common = stored.iter().any(|m| wanted.find(m.name()).is_some());
    known && complete && common
}

/// A type without the metadata of its fields, for a message.
fn plain(data_type: &DataType) -> DataType {
    let field = Field::new("c", data_type.clone(), true);
    let schema = Arc::new(Schema::new(vec![field]));
    let plain = crate::scan::schema::session_schema(&schema);
    plain
        .fields()
        .first()
        .map_or_else(|| data_type.clone(), |f| f.data_type().clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use parquet::basic::Compression;
    use parquet::schema::types::{ColumnDescriptor, ColumnPath, Type};

    use super::*;

    fn chunk(of: PhysicalType, codec: Compression, encoding: Encoding) -> ColumnChunkMetaData {
        let node = Type::primitive_type_builder("c", of).build().unwrap();
        let path = ColumnPath::new(vec!["c".to_owned()]);
        let column = ColumnDescriptor::new(Arc::new(node), 0, 0, path);
        ColumnChunkMetaData::builder(Arc::new(column))
            .set_compression(codec)
            .set_encodings(vec![encoding])
            .build()
            .unwrap()
    }

    #[test]
    fn pages_that_cannot_be_read_are_known_by_the_footer() {
        use PhysicalType as P;
        for (of, codec, encoding, readable) in [
            (P::INT32, Compression::SNAPPY, Encoding::PLAIN, true),
            (P::INT32, Compression::LZO, Encoding::PLAIN, false),
            (
                P::INT64,
                Compression::UNCOMPRESSED,
                Encoding::DELTA_BINARY_PACKED,
                true,
            ),
            (
                P::DOUBLE,
                Compression::UNCOMPRESSED,
                Encoding::DELTA_BINARY_PACKED,
                false,
            ),
            (
                P::DOUBLE,
                Compression::UNCOMPRESSED,
                Encoding::BYTE_STREAM_SPLIT,
                true,
            ),
            (
                P::BOOLEAN,
                Compression::UNCOMPRESSED,
                Encoding::BYTE_STREAM_SPLIT,
                false,
            ),
            (
                P::INT32,
                Compression::UNCOMPRESSED,
                Encoding::DELTA_BYTE_ARRAY,
                false,
            ),
        ] {
            let checked = check_pages(&chunk(of, codec, encoding));
            assert_eq!(
                checked.is_ok(),
                readable,
                "{of} {codec} {encoding}: {checked:?}"
            );
        }
    }

    #[test]
    fn a_type_fits_a_wider_one_of_its_kind_only() {
        use DataType as T;
        use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
        let at = |unit, zone: Option<&str>| T::Timestamp(unit, zone.map(Into::into));
        for (stored, wanted, expected) in [
            (at(Millisecond, None), at(Nanosecond, None), true),
            (at(Nanosecond, None), at(Millisecond, None), false),
            (
                at(Second, Some("UTC")),
                at(Microsecond, Some("+00:00")),
                true,
            ),
            (at(Second, Some("UTC")), at(Second, Some("Z")), true),
            (at(Second, Some("UTC")), at(Second, None), false),
            (
                at(Second, Some("+01:00")),
                at(Second, Some("+00:00")),
                false,
            ),
            (T::Time32(Second), T::Time32(Millisecond), true),
            (T::Time32(Millisecond), T::Time64(Nanosecond), true),
            (T::Time64(Nanosecond), T::Time64(Microsecond), false),
            (T::Decimal128(10, 2), T::Decimal128(12, 4), true),
            (T::Decimal128(10, 2), T::Decimal128(11, 4), false),
            (T::Decimal128(10, 4), T::Decimal128(20, 2), false),
            (T::Decimal64(10, 2), T::Decimal128(38, 10), true),
        ] {
            assert_eq!(fits(&stored, &wanted), expected, "{stored} {wanted}");
        }
    }
}
