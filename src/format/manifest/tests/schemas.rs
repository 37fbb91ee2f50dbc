//! Field ids: assigned everywhere Parquet keeps one, unique, and kept by the codec.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, UnionFields, UnionMode};

use crate::format::manifest::wire;
use crate::format::manifest::*;
use crate::format::tests::samples;

fn nested() -> Schema {
    let item = |name: &str, t| Arc::new(Field::new(name, t, true));
    let entries = Field::new(
        "entries",
        DataType::Struct(Fields::from(vec![
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::List(item("item", DataType::Int8)), true),
        ])),
        false,
    );
    Schema::new(vec![
        Field::new("a", DataType::Int32, false),
        Field::new("l", DataType::LargeList(item("item", DataType::Utf8)), true),
        Field::new(
            "f",
            DataType::FixedSizeList(item("item", DataType::Float32), 3),
            true,
        ),
        Field::new("m", DataType::Map(Arc::new(entries), false), true),
        Field::new_dictionary("d", DataType::Int16, DataType::Utf8, true),
        Field::new(
            "s",
            DataType::Struct(vec![Field::new("x", DataType::Date32, true)].into()),
            true,
        ),
    ])
    .with_metadata([("k".to_owned(), "v".to_owned())].into())
}

#[test]
fn every_nested_field_gets_an_id_of_its_own() {
    let (schema, next) = assign_field_ids(&nested(), 1).unwrap();
    let metadata = TableMetadata {
        schema: Arc::clone(&schema),
        next_field_id: next,
        ..samples::metadata()
    };
    metadata.check().unwrap();
    // a, l, item, f, item, m, key, value, item, d, s, x
    assert_eq!(next, 13);
    assert_eq!(metadata.field_by_id(6).unwrap().name(), "m");
    assert_eq!(schema.metadata(), nested().metadata());
    let bytes = wire::encode_metadata(&metadata).unwrap();
    assert_eq!(wire::decode_metadata(&bytes).unwrap(), metadata);
}

#[test]
fn a_field_without_a_valid_id_is_refused() {
    let with = |schema: Schema, next_field_id| TableMetadata {
        schema: Arc::new(schema),
        next_field_id,
        ..samples::metadata()
    };
    let id = |name: &str, id: &str| {
        Field::new(name, DataType::Int8, true)
            .with_metadata([(FIELD_ID_KEY.to_owned(), id.to_owned())].into())
    };
    assert!(matches!(
        with(nested(), 13).check(),
        Err(SchemaError::NoFieldId { .. })
    ));
    assert!(matches!(
        with(Schema::new(vec![id("a", "x")]), 5).check(),
        Err(SchemaError::NoFieldId { .. })
    ));
    assert!(matches!(
        with(Schema::new(vec![id("a", "5")]), 5).check(),
        Err(SchemaError::FieldIdOutOfRange { id: 5, .. })
    ));
    assert!(matches!(
        with(Schema::new(vec![id("a", "0")]), 5).check(),
        Err(SchemaError::FieldIdOutOfRange { id: 0, .. })
    ));
    assert!(matches!(
        with(Schema::new(vec![id("a", "1"), id("b", "1")]), 5).check(),
        Err(SchemaError::DuplicateFieldId { id: 1, .. })
    ));
    assert!(wire::encode_metadata(&with(nested(), 13)).is_err());
}

#[test]
fn members_of_a_union_have_ids_too() {
    let members = UnionFields::from_iter([
        (0, Arc::new(Field::new("i", DataType::Int32, true))),
        (1, Arc::new(Field::new("s", DataType::Utf8, true))),
    ]);
    let schema = Schema::new(vec![Field::new(
        "u",
        DataType::Union(members, UnionMode::Dense),
        true,
    )]);
    let (schema, next) = assign_field_ids(&schema, 1).unwrap();
    assert_eq!(next, 4);
    TableMetadata {
        schema,
        next_field_id: next,
        ..samples::metadata()
    }
    .check()
    .unwrap();
}

#[test]
fn ids_run_out_without_overflow() {
    assert_eq!(
        assign_field_ids(&nested(), i32::MAX).unwrap_err(),
        SchemaError::Exhausted
    );
}
