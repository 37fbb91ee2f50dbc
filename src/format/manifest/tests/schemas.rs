//! Field ids: assigned everywhere Parquet keeps one, unique, and kept by the codec.

use std::collections::{BTreeSet, HashSet};
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
    let (schema, next) = assign_field_ids(&nested(), 1, HashSet::new()).unwrap();
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
    let (schema, next) = assign_field_ids(&schema, 1, HashSet::new()).unwrap();
    assert_eq!(next, 4);
    TableMetadata {
        schema,
        next_field_id: next,
        keys: Vec::new(),
        ..samples::metadata()
    }
    .check()
    .unwrap();
}

#[test]
fn ids_run_out_without_overflow() {
    assert_eq!(
        assign_field_ids(&nested(), i32::MAX, HashSet::new()).unwrap_err(),
        SchemaError::Exhausted
    );
}

fn physical(fields: &Fields) -> Vec<&str> {
    fields.iter().map(|f| physical_name(f)).collect()
}

#[test]
fn a_field_whose_name_is_taken_or_was_gets_another_physical_name() {
    let member = |name: &str| Field::new(name, DataType::Int8, true);
    let schema = Schema::new(vec![
        member("a"),
        member("A"),
        member("_id"),
        member("a_2"),
        Field::new(
            "s",
            DataType::Struct(vec![member("x"), member("X")].into()),
            true,
        ),
    ]);
    let retired = BTreeSet::from([(0, "s".to_owned()), (5, "x".to_owned())]);
    let taken = taken_names(&Schema::empty(), &retired, 0);
    let (schema, next) = assign_field_ids(&schema, 1, taken).unwrap();
    assert_eq!(
        physical(schema.fields()),
        ["a", "A_2", "_id_3", "a_2_4", "s_5"]
    );
    let DataType::Struct(members) = schema.field(4).data_type() else {
        panic!("s is a struct");
    };
    assert_eq!(physical(members), ["x", "X_7"]);
    let metadata = TableMetadata {
        schema,
        next_field_id: next,
        ..samples::metadata()
    };
    metadata.check().unwrap();
    assert_eq!(taken_names(&metadata.schema, &retired, 5).len(), 2);
}

#[test]
fn a_renamed_field_keeps_its_physical_name_and_needs_none_once_it_has_its_name_back() {
    let field = Field::new("a", DataType::Int8, true);
    let renamed = renamed_field(&field, "b");
    assert_eq!(
        (renamed.name().as_str(), physical_name(&renamed)),
        ("b", "a")
    );
    assert_eq!(renamed_field(&renamed_field(&renamed, "c"), "a"), field);
}

#[test]
fn a_physical_name_that_two_fields_have_is_refused() {
    let named = |name: &str, id: i32, physical: &str| {
        let metadata = [
            (FIELD_ID_KEY, id.to_string()),
            (PHYSICAL_NAME_KEY, physical.to_owned()),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value));
        Field::new(name, DataType::Int8, true).with_metadata(metadata.into())
    };
    for (one, other) in [("p", "P"), ("p", "_id")] {
        let metadata = TableMetadata {
            schema: Arc::new(Schema::new(vec![named("a", 1, one), named("b", 2, other)])),
            next_field_id: 3,
            ..samples::metadata()
        };
        assert!(matches!(
            metadata.check(),
            Err(SchemaError::DuplicatePhysicalName { field, .. }) if field == "b"
        ));
    }
}

#[test]
fn a_table_remembers_the_physical_names_it_ever_had() {
    let before = samples::metadata();
    let mut after = before.clone();
    let fields = before.schema.fields().iter().skip(1).cloned();
    after.schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    assert!(!after.remembers_names_of(&before));
    after.retire_names_of(&before);
    assert!(after.remembers_names_of(&before));
    assert!(after.retired_names.contains(&(0, "id".to_owned())));
    after.retired_names.remove(&(0, "gone".to_owned()));
    assert!(!after.remembers_names_of(&before));
}

#[test]
fn a_key_that_cannot_be_one_is_refused() {
    let key = |name: &str, is_primary, columns: &[i32]| UniqueKey {
        name: name.to_owned(),
        is_primary,
        columns: columns.to_vec(),
    };
    let (primary, other) = (key("p", true, &[1]), key("o", false, &[2, 1]));
    let with = |keys: Vec<UniqueKey>| TableMetadata {
        keys,
        ..samples::metadata()
    };
    let good = with(vec![primary.clone(), other.clone()]);
    good.check().unwrap();
    let bytes = wire::encode_metadata(&good).unwrap();
    assert_eq!(wire::decode_metadata(&bytes).unwrap(), good);
    for (keys, bad) in [
        (vec![key("none", false, &[])], "none"),
        (vec![key("twice", false, &[1, 1])], "twice"),
        (vec![key("missing", false, &[77])], "missing"),
        (vec![key("nullable", true, &[2])], "nullable"),
        (vec![primary.clone(), key("p", false, &[2])], "p"),
        (vec![primary.clone(), key("second", true, &[1])], "second"),
    ] {
        assert!(
            matches!(with(keys).check(), Err(SchemaError::BadKey { name }) if name == bad),
            "{bad}"
        );
    }
}

#[test]
fn a_key_is_gained_unless_an_older_one_implies_it() {
    let with = |keys: &[&[i32]]| TableMetadata {
        keys: (keys.iter().enumerate())
            .map(|(i, columns)| UniqueKey {
                name: i.to_string(),
                is_primary: false,
                columns: columns.to_vec(),
            })
            .collect(),
        ..samples::metadata()
    };
    let gains = |before: &[&[i32]], after: &[&[i32]]| with(before).gains_key(&with(after));
    assert!(gains(&[], &[&[1]]));
    assert!(gains(&[&[1, 2]], &[&[1]]));
    assert!(gains(&[&[1]], &[&[1], &[2]]));
    assert!(!gains(&[&[1]], &[&[2, 1]]));
    assert!(!gains(&[&[1, 2]], &[&[2, 1]]));
    assert!(!gains(&[&[1], &[2]], &[]));
}
