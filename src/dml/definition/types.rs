//! The types of columns in SQL.
//!
//! DataFusion's SQL has no name for some types that a table can have (those of external files, of a query's result,
//! of a table that Rust made), and gives a `TIMESTAMP WITH TIME ZONE` the zone of the session that reads it. Those are
//! called `ARROW('…')`, with the type's name in Arrow, in which `arrow_cast` and `arrow_typeof` know it.

use arrow::datatypes::{DataType, Field, TimeUnit};

use super::quote::{literal, name};
use crate::scan::schema::with_fields;

/// How a type is called that SQL has no other name for; it takes the type's name in Arrow.
pub(super) const ARROW: &str = "ARROW";

/// The type of this name in Arrow.
pub(super) fn arrow_type(name: &str) -> Option<DataType> {
    name.parse().ok()
}

/// The type in SQL; none if nothing would be read as it.
pub(super) fn sql_type(data_type: &DataType) -> Option<String> {
    let plain = without_metadata(data_type);
    simple(&plain).or_else(|| {
        let arrow = plain.to_string();
        (arrow_type(&arrow)? == plain).then(|| format!("{ARROW}({})", literal(&arrow)))
    })
}

/// A type that DataFusion's own SQL has a name for.
fn simple(data_type: &DataType) -> Option<String> {
    Some(match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::UInt8 => "TINYINT UNSIGNED".to_owned(),
        DataType::UInt16 => "SMALLINT UNSIGNED".to_owned(),
        DataType::UInt32 => "INT UNSIGNED".to_owned(),
        DataType::UInt64 => "BIGINT UNSIGNED".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        // Which of them it is, the session says that reads the statement.
        DataType::Utf8 | DataType::Utf8View => "VARCHAR".to_owned(),
        DataType::Binary => "BYTEA".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time64(TimeUnit::Nanosecond) => "TIME".to_owned(),
        DataType::Timestamp(unit, None) => match unit {
            TimeUnit::Second => "TIMESTAMP(0)",
            TimeUnit::Millisecond => "TIMESTAMP(3)",
            TimeUnit::Microsecond => "TIMESTAMP(6)",
            TimeUnit::Nanosecond => "TIMESTAMP",
        }
        .to_owned(),
        DataType::Decimal128(precision, scale)
            if (0..=i16::from(*precision)).contains(&i16::from(*scale)) =>
        {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::Decimal256(precision @ 39.., scale)
            if (0..=i16::from(*precision)).contains(&i16::from(*scale)) =>
        {
            format!("DECIMAL({precision}, {scale})")
        }
        DataType::List(item)
            if item.is_nullable() && item.name() == Field::LIST_FIELD_DEFAULT_NAME =>
        {
            format!("{}[]", sql_type(item.data_type())?)
        }
        DataType::Struct(fields)
            if !fields.is_empty() && fields.iter().all(|f| f.is_nullable()) =>
        {
            let fields: Option<Vec<String>> = fields
                .iter()
                .map(|field| {
                    let sql = sql_type(field.data_type())?;
                    Some(format!("{} {sql}", name(field.name())))
                })
                .collect();
            format!("STRUCT<{}>", fields?.join(", "))
        }
        _ => return None,
    })
}

/// The type without what its nested fields carry beside their types: it is no part of a type's name.
fn without_metadata(data_type: &DataType) -> DataType {
    with_fields(data_type, |field| {
        let plain = without_metadata(field.data_type());
        Field::new(field.name(), plain, field.is_nullable()).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_not_be_read_as_the_type_has_no_name() {
        let list = |name: &str| DataType::List(Field::new(name, DataType::Int32, true).into());
        assert_eq!(sql_type(&list("item")).as_deref(), Some("INT[]"));
        assert_eq!(
            sql_type(&list("element")).as_deref(),
            Some("ARROW('List(Int32, field: ''element'')')")
        );
        // Arrow writes this name so that it is not read again.
        assert_eq!(sql_type(&list("it's")), None);
    }
}
