//! A scan of a supertable, as it travels.
//!
//! Owns the encoding of a scan: all that its rows depend on, and nothing that the process which reads has itself (its
//! object store, its cache of footers, its memory). Does not own how a file travels (`file_wire`), nor the envelope.
//!
//! Statistics travel per file, by which a scan knows the order of its files, and for the scan as a whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::config::TableParquetOptions;
use datafusion::common::{Result, ScalarValue, Statistics};
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::physical_expr::projection::{ProjectionExpr, ProjectionExprs};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::PhysicalExpr;
use datafusion_proto::protobuf;
use datafusion_proto_common::protobuf_common;
use object_store::path::Path;
use prost::Message;

use super::envelope::damaged;
use super::file_wire::{FileWire, Marks};
use crate::error::{Error, ErrorKind};
use crate::scan::ScanLocation;
use crate::scan::plan::statistics::ColumnIds;
use crate::scan::read::defaults::InitialDefaults;
use crate::scan::read::leave_out::Candidates;
use crate::scan::read::parts::{ScanSummary, SourceParts};
use crate::scan::read::source::SupertableSource;
use crate::table::Sidecars;

/// Encodes an expression.
pub(super) type Encode<'a> =
    &'a dyn Fn(&Arc<dyn PhysicalExpr>) -> Result<protobuf::PhysicalExprNode>;
/// Decodes an expression over a schema.
pub(super) type Decode<'a> =
    &'a dyn Fn(&protobuf::PhysicalExprNode, &Schema) -> Result<Arc<dyn PhysicalExpr>>;

/// A scan.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ScanWire {
    #[prost(string, tag = "1")]
    store_url: String,
    #[prost(string, tag = "2")]
    root: String,
    /// The table's columns, as far as superfiles hold them.
    #[prost(message, optional, tag = "3")]
    file_schema: Option<protobuf::Schema>,
    /// Columns of one value for each file.
    #[prost(message, optional, tag = "4")]
    constants: Option<protobuf::Schema>,
    /// Columns that the reader makes.
    #[prost(message, optional, tag = "5")]
    virtuals: Option<protobuf::Schema>,
    /// The columns with the ids of all fields.
    #[prost(message, optional, tag = "6")]
    stored: Option<protobuf::Schema>,
    #[prost(message, repeated, tag = "7")]
    defaults: Vec<DefaultWire>,
    #[prost(message, repeated, tag = "8")]
    projection: Vec<protobuf::ProjectionExpr>,
    #[prost(message, optional, tag = "9")]
    predicate: Option<protobuf::PhysicalExprNode>,
    #[prost(message, optional, tag = "10")]
    options: Option<protobuf_common::TableParquetOptions>,
    #[prost(message, repeated, tag = "11")]
    groups: Vec<GroupWire>,
    #[prost(message, repeated, tag = "12")]
    orderings: Vec<protobuf::PhysicalSortExprNodeCollection>,
    #[prost(uint64, optional, tag = "13")]
    limit: Option<u64>,
    #[prost(bool, tag = "14")]
    preserve_order: bool,
    #[prost(uint64, optional, tag = "15")]
    batch_size: Option<u64>,
    #[prost(bool, tag = "16")]
    indexed: bool,
    #[prost(message, optional, tag = "17")]
    statistics: Option<protobuf_common::Statistics>,
    #[prost(message, optional, tag = "18")]
    summary: Option<SummaryWire>,
}

#[derive(Clone, PartialEq, Message)]
struct DefaultWire {
    #[prost(string, tag = "1")]
    column: String,
    #[prost(message, optional, tag = "2")]
    value: Option<protobuf::ScalarValue>,
}

#[derive(Clone, PartialEq, Message)]
struct GroupWire {
    #[prost(message, repeated, tag = "1")]
    files: Vec<FileWire>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct SummaryWire {
    #[prost(uint64, tag = "1")]
    superfiles: u64,
    #[prost(uint64, tag = "2")]
    dropped: u64,
    #[prost(uint64, tag = "3")]
    pruned: u64,
    #[prost(uint64, tag = "4")]
    tombstoned_rows: u64,
    #[prost(uint64, tag = "5")]
    pruned_by_bloom_filters: u64,
}

impl ScanWire {
    /// The scan of `config`, whose source is `source`.
    ///
    /// # Errors
    /// `Unsupported` names what cannot travel.
    pub(super) fn of(
        config: &FileScanConfig,
        source: &SupertableSource,
        encode: Encode<'_>,
    ) -> Result<Self> {
        let refused = |what: &str| Error::new(ErrorKind::Unsupported, "scan", what);
        let parquet = source
            .parquet()
            .ok_or_else(|| refused("a scan that is not of Parquet cannot be sent to a worker"))?;
        if config.output_partitioning.is_some() || !config.constraints.is_empty() {
            return Err(refused("a scan with a partitioning cannot be sent to a worker").into());
        }
        let parts = source.parts();
        let table = parquet.table_schema();
        let options =
            protobuf_common::TableParquetOptions::try_from(parquet.table_parquet_options())?;
        if TableParquetOptions::try_from(&options)? != *parquet.table_parquet_options() {
            return Err(
                refused("an option of the Parquet reader cannot be sent to a worker").into(),
            );
        }
        let groups = config.file_groups.iter().map(|group| {
            let files = group.iter().map(|file| {
                let state = parts.in_place.get(&file.object_meta.location);
                FileWire::of(file, state)
            });
            Ok(GroupWire {
                files: files.collect::<Result<_>>()?,
            })
        });
        let defaults = parts.defaults.0.iter().map(|(column, value)| {
            Ok(DefaultWire {
                column: column.clone(),
                value: Some(protobuf::ScalarValue::try_from(value)?),
            })
        });
        let mut defaults = defaults.collect::<Result<Vec<_>>>()?;
        defaults.sort_by(|one, other| one.column.cmp(&other.column));
        let projection = parquet.projection().into_iter().flat_map(|p| p.iter());
        let projection = projection.map(|projected| {
            Ok(protobuf::ProjectionExpr {
                alias: projected.alias.clone(),
                expr: Some(encode(&projected.expr)?),
            })
        });
        let orderings = config.output_ordering.iter().map(|ordering| {
            let exprs = ordering.iter().map(|sort| {
                Ok(protobuf::PhysicalSortExprNode {
                    expr: Some(Box::new(encode(&sort.expr)?)),
                    asc: !sort.options.descending,
                    nulls_first: sort.options.nulls_first,
                })
            });
            Ok(protobuf::PhysicalSortExprNodeCollection {
                physical_sort_expr_nodes: exprs.collect::<Result<_>>()?,
            })
        });
        let virtuals: Vec<FieldRef> = table.virtual_columns().iter().cloned().collect();
        let constants: Vec<FieldRef> = table.table_partition_cols().iter().cloned().collect();
        Ok(Self {
            store_url: config.object_store_url.as_str().to_owned(),
            root: parts.location.root.as_ref().to_owned(),
            file_schema: Some(schema_wire(table.file_schema())?),
            constants: Some(schema_wire(&Schema::new(constants))?),
            virtuals: Some(schema_wire(&Schema::new(virtuals))?),
            stored: Some(schema_wire(&parts.stored)?),
            defaults,
            projection: projection.collect::<Result<_>>()?,
            predicate: parquet.filter().as_ref().map(encode).transpose()?,
            options: Some(options),
            groups: groups.collect::<Result<_>>()?,
            orderings: orderings.collect::<Result<_>>()?,
            limit: config.limit.map(|limit| limit as u64),
            preserve_order: config.preserve_order,
            batch_size: config.batch_size.map(|rows| rows as u64),
            indexed: parts.indexed,
            statistics: Some((&config.statistics()).into()),
            summary: Some(SummaryWire {
                superfiles: parts.summary.superfiles as u64,
                dropped: parts.summary.dropped as u64,
                pruned: parts.summary.pruned as u64,
                pruned_by_bloom_filters: parts.summary.pruned_by_bloom_filters as u64,
                tombstoned_rows: parts.summary.tombstoned_rows,
            }),
        })
    }

    /// Where the table's objects are.
    ///
    /// # Errors
    /// `Corrupt` if that is no place.
    pub(super) fn location(&self) -> Result<ScanLocation> {
        let root = Path::parse(&self.root);
        Ok(ScanLocation {
            store_url: ObjectStoreUrl::parse(&self.store_url)?,
            root: root.map_err(|e| damaged("a root is none").with_source(e))?,
        })
    }

    /// The scan, of the store that `runtime` has.
    ///
    /// # Errors
    /// `Corrupt` if it holds what no scan has; `runtime` does not know the store.
    pub(super) fn scan(
        &self,
        runtime: &RuntimeEnv,
        sidecars: Arc<Sidecars>,
        decode: Decode<'_>,
    ) -> Result<FileScanConfig> {
        let location = self.location()?;
        let table = TableSchema::builder(schema(self.file_schema.as_ref())?)
            .with_table_partition_cols(fields(self.constants.as_ref())?)
            .with_virtual_columns(fields(self.virtuals.as_ref())?)
            .build();
        let all = Arc::clone(table.table_schema());
        let options = self.options.as_ref().ok_or_else(|| damaged("no options"))?;
        let mut parquet = ParquetSource::new(table)
            .with_table_parquet_options(TableParquetOptions::try_from(options)?);
        if let Some(predicate) = &self.predicate {
            parquet = parquet.with_predicate(decode(predicate, &all)?);
        }
        let (mut groups, mut in_place, mut marks) = (Vec::new(), HashMap::new(), Marks::default());
        for group in &self.groups {
            let mut files = Vec::new();
            for file in &group.files {
                in_place.extend(file.state()?);
                files.push(file.file(&mut marks)?);
            }
            groups.push(FileGroup::new(files));
        }
        let parts = SourceParts {
            location: location.clone(),
            stored: schema(self.stored.as_ref())?,
            defaults: Arc::new(InitialDefaults(self.defaults()?)),
            in_place,
            indexed: self.indexed,
            // Keys that are found while a plan runs are found where its source is read.
            filtered: HashSet::new(),
            summary: self.summary()?,
        };
        // Which keys a source has is learnt where the source is read.
        let ids = ColumnIds::of(&parts.stored);
        let candidates = Candidates::new(Vec::new(), location, Arc::clone(&all), ids);
        let readers = parts.readers(runtime)?;
        let source = SupertableSource::new(parquet, readers, sidecars, candidates, parts);
        let defaults = source.defaults();
        let source = source
            .try_pushdown_projection(&self.projection(&all, decode)?)?
            .ok_or_else(|| damaged("a projection is none"))?;
        let statistics = match &self.statistics {
            Some(known) => Statistics::try_from(known)?,
            None => Statistics::new_unknown(&all),
        };
        if statistics.column_statistics.len() > all.fields().len() {
            return Err(damaged("there are statistics of more columns than there are").into());
        }
        let url = ObjectStoreUrl::parse(&self.store_url)?;
        let mut config = FileScanConfigBuilder::new(url, source)
            .with_file_groups(groups)
            .with_output_ordering(self.orderings(&all, decode)?)
            .with_statistics(statistics)
            .with_limit(self.limit.map(whole).transpose()?)
            .with_batch_size(self.batch_size.map(whole).transpose()?)
            .with_expr_adapter(Some(defaults))
            .build();
        config.preserve_order = self.preserve_order;
        Ok(config)
    }

    fn defaults(&self) -> Result<HashMap<String, ScalarValue>> {
        let value = |default: &DefaultWire| {
            let value = default.value.as_ref();
            let value = value.ok_or_else(|| damaged("a default has no value"))?;
            Ok((default.column.clone(), ScalarValue::try_from(value)?))
        };
        self.defaults.iter().map(value).collect()
    }

    fn projection(&self, table: &SchemaRef, decode: Decode<'_>) -> Result<ProjectionExprs> {
        let projected = self.projection.iter().map(|projected| {
            let expr = projected.expr.as_ref();
            let expr = expr.ok_or_else(|| damaged("a column has no expression"))?;
            Ok(ProjectionExpr::new(
                decode(expr, table)?,
                projected.alias.clone(),
            ))
        });
        Ok(ProjectionExprs::new(projected.collect::<Result<Vec<_>>>()?))
    }

    fn orderings(&self, table: &SchemaRef, decode: Decode<'_>) -> Result<Vec<LexOrdering>> {
        let ordering = |collection: &protobuf::PhysicalSortExprNodeCollection| {
            let exprs = collection.physical_sort_expr_nodes.iter().map(|sort| {
                let expr = sort.expr.as_deref();
                let expr = expr.ok_or_else(|| damaged("an order has no expression"))?;
                let options = SortOptions {
                    descending: !sort.asc,
                    nulls_first: sort.nulls_first,
                };
                Ok(PhysicalSortExpr::new(decode(expr, table)?, options))
            });
            let exprs = exprs.collect::<Result<Vec<_>>>()?;
            Ok(LexOrdering::new(exprs).ok_or_else(|| damaged("an order is none"))?)
        };
        self.orderings.iter().map(ordering).collect()
    }

    fn summary(&self) -> Result<ScanSummary> {
        let summary = self.summary.as_ref();
        let summary = summary.ok_or_else(|| damaged("no summary"))?;
        Ok(ScanSummary {
            superfiles: whole(summary.superfiles)?,
            dropped: whole(summary.dropped)?,
            pruned: whole(summary.pruned)?,
            pruned_by_bloom_filters: whole(summary.pruned_by_bloom_filters)?,
            tombstoned_rows: summary.tombstoned_rows,
        })
    }
}

/// `schema`, as it travels.
///
/// # Errors
/// A type that Protocol Buffers of DataFusion do not have, or have otherwise.
fn schema_wire(schema: &Schema) -> Result<protobuf::Schema> {
    let wire = protobuf::Schema::try_from(schema)?;
    if Schema::try_from(&wire)? != *schema {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "scan",
            "a column's type cannot be sent to a worker",
        )
        .into());
    }
    Ok(wire)
}

fn schema(wire: Option<&protobuf::Schema>) -> Result<SchemaRef> {
    let wire = wire.ok_or_else(|| damaged("a schema is missing"))?;
    Ok(Arc::new(Schema::try_from(wire)?))
}

fn fields(wire: Option<&protobuf::Schema>) -> Result<Vec<FieldRef>> {
    Ok(schema(wire)?.fields().iter().cloned().collect())
}

fn whole(number: u64) -> Result<usize> {
    Ok(usize::try_from(number).map_err(|_| damaged("a number is too large"))?)
}
