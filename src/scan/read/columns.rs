//! A superfile's columns under the names and in the types that the table has for them today.
//!
//! Owns the mapping from the columns of a file to those of a table, by field id: a file names its columns by
//! physical names, and is read as if it had been written with the names of today.
//! Everything that DataFusion does with a Parquet file goes by name (projection, pruning by row
//! groups, pages and Bloom filters, row filters, fields of structs), so the names are replaced in
//! one place, in the file's metadata as it comes from the reader, and all of it is right at once.
//! A file's own Arrow schema has plain types where the table declares views; the views are put back in the same
//! place. Does not own which columns a file lacks (DataFusion fills them in), nor other differences of types: a wider
//! type is a cast, which DataFusion adds, and so is a column of strings as a view of them.
//!
//! A file of this table carries the ids in its own schema; a column without one is none of the table's. An external file carries none that mean
//! anything here: its manifest entry says which field is which, by the names of the day when it was
//! external.
//!
//! Invariant: a column of the file is visible under a name only if it has the field id of the
//! table's column of that name. In particular a dropped column never comes back under the name of a
//! new one, and a column `_id` of an external file is never taken for row ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema};
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder,
    RowGroupMetaData,
};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr, SchemaDescriptor, Type, TypePtr};

use crate::format::manifest::{FIELD_ID_KEY, ROW_ID_FIELD_ID, field_id};
use crate::format::{ColumnSource, ExternalColumns};
use crate::scan::row_address::{RESERVED_PREFIX, stored_row_id_name};
use crate::scan::schema::declared_type;

/// A file's metadata under the names of `stored`, the table's numbered columns.
///
/// # Errors
/// The file's schema cannot be read.
pub(crate) fn renamed(
    metadata: Arc<ParquetMetaData>,
    stored: &Schema,
    external: Option<&ExternalColumns>,
) -> Result<Arc<ParquetMetaData>> {
    let file = metadata.file_metadata();
    if external.is_none() && is_current(file.schema(), stored) {
        return Ok(metadata);
    }
    let names = Names { external };
    let fields = names.root(file.schema().get_fields(), stored)?;
    let root = Type::group_type_builder(file.schema().name())
        .with_fields(fields)
        .build()?;
    let schema: SchemaDescPtr = Arc::new(SchemaDescriptor::new(Arc::new(root)));
    if schema.num_columns() != file.schema_descr().num_columns() {
        return Err(ParquetError::General(
            "renaming its columns lost one".to_owned(),
        ));
    }
    let arrow = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let arrow = relabelled(&arrow, &schema, stored);
    let row_groups = metadata
        .row_groups()
        .iter()
        .map(|group| row_group(group, &schema, external.is_some()))
        .collect::<Result<Vec<_>>>()?;
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        Some(key_values(file, &arrow, constants(stored, external))),
        Arc::clone(&schema),
        file.column_orders().cloned(),
    );
    let column_index = metadata.column_index().cloned().map(|mut index| {
        for group in index.iter_mut().filter(|_| external.is_some()) {
            for (column, index) in schema.columns().iter().zip(group) {
                if is_float(column) {
                    *index = ColumnIndexMetaData::NONE;
                }
            }
        }
        index
    });
    Ok(Arc::new(
        ParquetMetaDataBuilder::new(file)
            .set_row_groups(row_groups)
            .set_column_index(column_index)
            .set_offset_index(metadata.offset_index().cloned())
            .build(),
    ))
}

/// Whether each name of the file already means what it means in the table.
fn is_current(root: &Type, stored: &Schema) -> bool {
    root.get_fields().iter().all(|column| {
        let by_id = id_of(column).and_then(|id| {
            stored
                .fields()
                .iter()
                .find(|field| field_id(field) == Some(id))
        });
        match by_id {
            Some(field) => field.name() == column.name() && is_read_as_it_is(field.data_type()),
            None if is_row_id(column) => column.name() == stored_row_id_name(stored),
            None => stored.fields().find(column.name()).is_none(),
        }
    })
}

/// Whether DataFusion reads a column of this type as the table declares it, without help: a view of plain strings it
/// makes itself. The ids of nested fields are part of a column's type in memory: they must go.
fn is_read_as_it_is(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => {
            !matches!(value.as_ref(), DataType::Utf8View | DataType::BinaryView)
        }
        other => !other.is_nested(),
    }
}

/// Whether a column of a file of the table's own holds row ids.
fn is_row_id(column: &Type) -> bool {
    id_of(column) == Some(ROW_ID_FIELD_ID)
}

fn id_of(node: &Type) -> Option<i32> {
    let info = node.get_basic_info();
    info.has_id().then(|| info.id())
}

/// How the fields of a file find those of the table.
struct Names<'a> {
    external: Option<&'a ExternalColumns>,
}

impl Names<'_> {
    fn root(&self, columns: &[TypePtr], stored: &Schema) -> Result<Vec<TypePtr>> {
        columns
            .iter()
            .enumerate()
            .map(|(i, column)| {
                if self.external.is_none() && is_row_id(column) {
                    return self.node(column, stored_row_id_name(stored), None, None);
                }
                match self.field(column, stored.fields()) {
                    Some(field) => {
                        let inner = Some(field.data_type());
                        self.node(column, field.name(), field_id(field), inner)
                    }
                    None => self.node(column, &hidden(i), None, None),
                }
            })
            .collect()
    }

    /// The field of the table, of those at the same place, that `node` of the file holds.
    fn field<'f>(&self, node: &Type, among: &'f Fields) -> Option<&'f FieldRef> {
        match (self.external, id_of(node)) {
            (Some(external), _) => among.iter().find(|field| {
                let stored = field_id(field).and_then(|id| external.get(&id));
                matches!(stored, Some(ColumnSource::Name(name)) if name == node.name())
            }),
            (None, Some(id)) => among.iter().find(|field| field_id(field) == Some(id)),
            (None, None) => None,
        }
    }

    /// `node` under another name and id, with what is in it renamed as `inner` has it.
    fn node(
        &self,
        node: &Type,
        name: &str,
        id: Option<i32>,
        inner: Option<&DataType>,
    ) -> Result<TypePtr> {
        let info = node.get_basic_info();
        let built = match node {
            Type::PrimitiveType {
                physical_type,
                type_length,
                scale,
                precision,
                ..
            } => Type::primitive_type_builder(name, *physical_type)
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_length(*type_length)
                .with_precision(*precision)
                .with_scale(*scale)
                .with_id(id)
                .build()?,
            Type::GroupType { fields, .. } => Type::group_type_builder(name)
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_id(id)
                .with_fields(self.children(node, fields, inner)?)
                .build()?,
        };
        Ok(Arc::new(built))
    }

    fn children(
        &self,
        node: &Type,
        children: &[TypePtr],
        inner: Option<&DataType>,
    ) -> Result<Vec<TypePtr>> {
        if let Some(DataType::Struct(fields)) = inner
            && !is_list(node)
            && !is_map(node)
        {
            return children
                .iter()
                .enumerate()
                .map(|(i, child)| match self.field(child, fields) {
                    Some(field) => self.node(child, field.name(), None, Some(field.data_type())),
                    None => self.node(child, &hidden(i), None, None),
                })
                .collect();
        }
        let item = match inner {
            Some(
                DataType::List(item)
                | DataType::LargeList(item)
                | DataType::FixedSizeList(item, _)
                | DataType::ListView(item)
                | DataType::LargeListView(item),
            ) if is_list(node) => Some(item.data_type()),
            _ => None,
        };
        children
            .iter()
            .map(|child| match item {
                Some(item) => self.repeated(child, item),
                None => self.node(child, child.name(), None, None),
            })
            .collect()
    }

    /// The repeated group of a list, whose one field is the item.
    fn repeated(&self, group: &Type, item: &DataType) -> Result<TypePtr> {
        let (Type::GroupType { fields, .. }, [element]) = (group, group_fields(group)) else {
            return self.node(group, group.name(), None, None);
        };
        // In files of old writers the group is the item itself; its fields keep their names.
        if fields.len() != 1 || group.name() == "array" || group.name().ends_with("_tuple") {
            return self.node(group, group.name(), None, None);
        }
        let element = self.node(element, element.name(), None, Some(item))?;
        let info = group.get_basic_info();
        Ok(Arc::new(
            Type::group_type_builder(group.name())
                .with_repetition(info.repetition())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_fields(vec![element])
                .build()?,
        ))
    }
}

fn group_fields(node: &Type) -> &[TypePtr] {
    match node {
        Type::GroupType { fields, .. } => fields,
        Type::PrimitiveType { .. } => &[],
    }
}

fn is_list(node: &Type) -> bool {
    let info = node.get_basic_info();
    info.converted_type() == ConvertedType::LIST
        || matches!(info.logical_type_ref(), Some(LogicalType::List))
}

fn is_map(node: &Type) -> bool {
    let info = node.get_basic_info();
    matches!(
        info.converted_type(),
        ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE
    ) || matches!(info.logical_type_ref(), Some(LogicalType::Map))
}

/// A name that no column of a table can have.
fn hidden(at: usize) -> String {
    format!("{RESERVED_PREFIX}dropped_{at}")
}

/// The Arrow schema that the file's writer meant, under the new names and with the views of `stored`.
fn relabelled(arrow: &Schema, parquet: &SchemaDescriptor, stored: &Schema) -> Schema {
    let fields: Vec<FieldRef> = arrow
        .fields()
        .iter()
        .zip(parquet.root_schema().get_fields())
        .map(|(field, node)| {
            let mut metadata = field.metadata().clone();
            metadata.remove(FIELD_ID_KEY);
            if let Some(id) = id_of(node) {
                metadata.insert(FIELD_ID_KEY.to_owned(), id.to_string());
            }
            let field = relabel(field, node).with_metadata(metadata);
            Arc::new(match stored.fields().find(field.name()) {
                Some((_, wanted)) => {
                    let data_type = declared_type(field.data_type(), wanted.data_type());
                    field.with_data_type(data_type)
                }
                None => field,
            })
        })
        .collect();
    let mut metadata = arrow.metadata().clone();
    metadata.remove(CONSTANTS_KEY);
    Schema::new_with_metadata(fields, metadata)
}

/// `field` with the name of `node`, and without the ids of what is nested in it.
fn relabel(field: &Field, node: &Type) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.remove(FIELD_ID_KEY);
    Field::new(
        node.name(),
        relabel_type(field.data_type(), node),
        field.is_nullable(),
    )
    .with_metadata(metadata)
}

fn relabel_type(data_type: &DataType, node: &Type) -> DataType {
    let item = |item: &FieldRef| -> FieldRef {
        // The repeated group, and in it the item; the item's own name is the reader's business.
        let inner = match group_fields(node) {
            [repeated] => match group_fields(repeated) {
                [element] => element,
                _ => repeated,
            },
            _ => return Arc::clone(item),
        };
        Arc::new(relabel(item, inner).with_name(item.name()))
    };
    match data_type {
        DataType::Struct(fields) if fields.len() == group_fields(node).len() => DataType::Struct(
            fields
                .iter()
                .zip(group_fields(node))
                .map(|(field, node)| Arc::new(relabel(field, node)))
                .collect(),
        ),
        DataType::List(field) => DataType::List(item(field)),
        DataType::LargeList(field) => DataType::LargeList(item(field)),
        DataType::FixedSizeList(field, n) => DataType::FixedSizeList(item(field), *n),
        DataType::Map(entries, sorted) => DataType::Map(item_of_map(entries, node), *sorted),
        other => other.clone(),
    }
}

/// The entries of a map, whose names stay.
fn item_of_map(entries: &FieldRef, node: &Type) -> FieldRef {
    let ([repeated], DataType::Struct(fields)) = (group_fields(node), entries.data_type()) else {
        return Arc::clone(entries);
    };
    let inner: Fields = fields
        .iter()
        .zip(group_fields(repeated))
        .map(|(field, node)| Arc::new(relabel(field, node).with_name(field.name())))
        .collect();
    match inner.len() == fields.len() {
        true => Arc::new(
            entries
                .as_ref()
                .clone()
                .with_data_type(DataType::Struct(inner)),
        ),
        false => Arc::clone(entries),
    }
}

/// Columns of which all rows of the file have the same value, as text, or NULL: by today's names.
pub(crate) type Constants = BTreeMap<String, Option<String>>;

/// The key of the file's metadata, and so of its Arrow schema's, that holds [`Constants`] as JSON.
pub(crate) const CONSTANTS_KEY: &str = "supertable.constants";

fn constants(stored: &Schema, external: Option<&ExternalColumns>) -> Constants {
    let constant = |field: &FieldRef| match external?.get(&field_id(field)?)? {
        ColumnSource::Constant(text) => Some((field.name().clone(), text.clone())),
        ColumnSource::Name(_) => None,
    };
    stored.fields().iter().filter_map(constant).collect()
}

/// The file's key-value pairs, with ours in place of those of the same name.
fn key_values(file: &FileMetaData, arrow: &Schema, constants: Constants) -> Vec<KeyValue> {
    let others = file.key_value_metadata().into_iter().flatten();
    let mut pairs: Vec<KeyValue> = others
        .filter(|pair| pair.key != ARROW_SCHEMA_META_KEY && pair.key != CONSTANTS_KEY)
        .cloned()
        .collect();
    if !constants.is_empty() {
        let json = serde_json::json!(constants).to_string();
        pairs.push(KeyValue::new(CONSTANTS_KEY.to_owned(), json));
    }
    pairs.push(KeyValue::new(
        ARROW_SCHEMA_META_KEY.to_owned(),
        encode_arrow_schema(arrow),
    ));
    pairs
}

fn row_group(
    group: &RowGroupMetaData,
    schema: &SchemaDescPtr,
    external: bool,
) -> Result<RowGroupMetaData> {
    let columns = group
        .columns()
        .iter()
        .zip(schema.columns())
        .map(|(chunk, column)| column_chunk(chunk, column, external))
        .collect::<Result<Vec<_>>>()?;
    let mut builder = RowGroupMetaData::builder(Arc::clone(schema))
        .set_num_rows(group.num_rows())
        .set_sorting_columns(group.sorting_columns().cloned())
        .set_total_byte_size(group.total_byte_size())
        .set_column_metadata(columns);
    if let Some(ordinal) = group.ordinal() {
        builder = builder.set_ordinal(ordinal);
    }
    if let Some(offset) = group.file_offset() {
        builder = builder.set_file_offset(offset);
    }
    builder.build()
}

fn column_chunk(
    chunk: &ColumnChunkMetaData,
    column: &ColumnDescPtr,
    external: bool,
) -> Result<ColumnChunkMetaData> {
    let distrusted = external && is_float(column);
    let mut builder = ColumnChunkMetaData::builder(Arc::clone(column))
        .set_encodings_mask(*chunk.encodings_mask())
        .set_num_values(chunk.num_values())
        .set_compression_codec(chunk.compression_codec())
        .set_total_compressed_size(chunk.compressed_size())
        .set_total_uncompressed_size(chunk.uncompressed_size())
        .set_data_page_offset(chunk.data_page_offset())
        .set_index_page_offset(chunk.index_page_offset())
        .set_dictionary_page_offset(chunk.dictionary_page_offset())
        .set_bloom_filter_offset(chunk.bloom_filter_offset())
        .set_bloom_filter_length(chunk.bloom_filter_length())
        .set_offset_index_offset(chunk.offset_index_offset())
        .set_offset_index_length(chunk.offset_index_length())
        .set_unencoded_byte_array_data_bytes(chunk.unencoded_byte_array_data_bytes())
        .set_repetition_level_histogram(chunk.repetition_level_histogram().cloned())
        .set_definition_level_histogram(chunk.definition_level_histogram().cloned());
    if !distrusted {
        builder = builder
            .set_column_index_offset(chunk.column_index_offset())
            .set_column_index_length(chunk.column_index_length());
    }
    if let Some(statistics) = chunk.statistics()
        && !distrusted
        && !(external && statistics.is_min_max_deprecated())
    {
        builder = builder.set_statistics(statistics.clone());
    }
    if let Some(path) = chunk.file_path() {
        builder = builder.set_file_path(path.to_owned());
    }
    if let Some(stats) = chunk.page_encoding_stats() {
        builder = builder.set_page_encoding_stats(stats.clone());
    } else if let Some(mask) = chunk.page_encoding_stats_mask() {
        builder = builder.set_page_encoding_stats_mask(*mask);
    }
    builder.build()
}

/// Whether a footer's bounds of this column say nothing: other writers leave NaNs out of them.
fn is_float(column: &ColumnDescPtr) -> bool {
    matches!(
        column.physical_type(),
        PhysicalType::FLOAT | PhysicalType::DOUBLE
    ) || matches!(column.logical_type_ref(), Some(LogicalType::Float16))
}
