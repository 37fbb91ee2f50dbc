//! Whether a Parquet file can be a superfile of a table, and what its manifest entry says of it.
//!
//! Owns the comparison of the file's columns with the table's, and the file's statistics, both from
//! its footer. Does not read or write anything.
//!
//! The file's columns are found by name: it carries no field ids that mean anything here. Its entry
//! keeps which field of the table each of them is ([`StoredAs`]), so a later change of names cannot
//! confuse them. Bounds of floats are not believed: other writers leave NaNs out of them.
//!
//! Invariant: a file that is accepted is read, by the scan, as rows that an `INSERT` of the same
//! values would have written; whatever else it holds, or lacks, is refused.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use parquet::arrow::parquet_to_arrow_schema;
use parquet::file::metadata::ParquetMetaData;

use crate::error::{Error, ErrorKind, Result};
use crate::format::ids::MAX_SUPERFILE_ROWS;
use crate::format::manifest::{CHECK, COLUMN_DEFAULT, TableMetadata, field_id};
use crate::format::stats::{ColumnStats, StatValue, StoredAs, SuperfileStats};
use crate::scan::columns::{Adopted, renamed};
use crate::table::evolution::{initial_text, initial_value, widens};
use crate::table::{footer_null_count, footer_stats};

/// Longest bound of a constant column that is recorded, in bytes.
const MAX_BOUND_BYTES: usize = 128;

/// What a table's entry will say of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Adoption {
    /// Its rows.
    pub(crate) rows: u64,
    /// Where it has the table's columns, and their statistics.
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
pub(crate) fn adopt(
    file: &Arc<ParquetMetaData>,
    size: u64,
    name: &str,
    metadata: &TableMetadata,
    hive: &[(String, Option<String>)],
) -> Result<Adoption> {
    let refuse = |why: String| Error::new(ErrorKind::InvalidArgument, name, why);
    let rows = check_layout(file, size).map_err(|why| refuse(why.to_owned()))?;
    let footer = file.file_metadata();
    let arrow = parquet_to_arrow_schema(footer.schema_descr(), footer.key_value_metadata())
        .map_err(|e| refuse("its columns cannot be read".to_owned()).with_source(e))?;
    let mut adopted = Adopted::new();
    let mut taken = 0;
    for field in metadata.schema.fields() {
        let Some(id) = field_id(field) else { continue };
        if let Some((_, stored)) = arrow.fields().find(field.name()) {
            taken += 1;
            check_type(stored, field).map_err(|why| refuse(format!("its column {why}")))?;
            adopted.insert(id, StoredAs::Name(field.name().clone()));
            name_members(field.data_type(), &mut adopted);
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
        adopted.insert(id, StoredAs::Constant(text.map(StatValue::Utf8)));
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
    let stats = statistics(file, metadata, &adopted, rows, name)?;
    Ok(Adoption { rows, stats })
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
    let default = format!("{COLUMN_DEFAULT}{name}");
    if metadata.properties.contains_key(&default) || metadata.initial_default(id).is_some() {
        return Err(format!(
            "it lacks the column {name}, which has a default; use INSERT INTO … SELECT instead"
        ));
    }
    Ok(())
}

/// Records the members of a column, and of what is in it, under the names they have today.
fn name_members(data_type: &DataType, adopted: &mut Adopted) {
    match data_type {
        DataType::Struct(fields) => {
            for field in fields {
                if let Some(id) = field_id(field) {
                    adopted.insert(id, StoredAs::Name(field.name().clone()));
                }
                name_members(field.data_type(), adopted);
            }
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            name_members(item.data_type(), adopted);
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
    adopted: &Adopted,
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
    let named = renamed(Arc::clone(file), &metadata.schema, Some(adopted)).map_err(unreadable)?;
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
        let Some(id) = field_id(field) else { continue };
        match adopted.get(&id) {
            Some(StoredAs::Constant(text)) => {
                let stats_of_it = constant_stats(field, text.as_ref(), rows)?;
                stats.columns.insert(id, stats_of_it);
            }
            Some(StoredAs::Name(_)) if !field.is_nullable() => {
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
    for (id, stored) in adopted {
        stats.set_adopted(*id, stored.clone());
    }
    Ok(stats)
}

fn constant_stats(field: &Field, text: Option<&StatValue>, rows: u64) -> Result<ColumnStats> {
    let value = match text {
        Some(StatValue::Utf8(text)) => {
            StatValue::from_scalar(&initial_value(field.name(), text, field.data_type())?)
        }
        _ => return Ok(ColumnStats::new(None, None, Some(rows), MAX_BOUND_BYTES)),
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
    match reads_as(stored.data_type(), field.data_type()) {
        true => Ok(()),
        false => Err(format!(
            "{} has the type {}, the table's has {}; use INSERT INTO … SELECT with a CAST instead",
            field.name(),
            plain(stored.data_type()),
            plain(field.data_type())
        )),
    }
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
