//! The Parquet source of a superfile scan: DataFusion's own, with tombstones applied.
//!
//! Owns the wrapper type around `ParquetSource`. Two reasons make it a type of its own. Sidecars
//! are loaded when a file is opened, beside its data, and only for files that survive pruning and
//! limits. And a plan that leaves the process must not lose its tombstones: a plain `ParquetSource`
//! serialises without its extensions, which would resurrect deleted rows; an unknown source type is
//! refused by the serialiser instead.
//!
//! Invariant: every method that returns a new source returns it wrapped again.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, internal_err};
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileOpener, FileScanConfig, FileSource, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder, Time};
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr, SortOrderPushdownResult};
use datafusion_datasource::morsel::{MorselPlan, MorselPlanner, Morselizer};
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::async_reader::AsyncFileReader;

use crate::error::{Error, ErrorKind};
use crate::format::SuperfileId;
use crate::scan::read::bloom::{AskFirst, WantedKeys, is_first_piece};
use crate::scan::read::defaults::InitialDefaults;
use crate::scan::read::guard::Guarded;
use crate::scan::read::late::{evaluated_first, keeps_few, may_fail_in_reader};
use crate::scan::read::leave_out::{Candidates, LeftOut};
#[cfg(feature = "distributed")]
use crate::scan::read::leaving::{CodecProbe, without_codec};
use crate::scan::read::parts::{ScanSummary, SourceParts};
use crate::scan::read::reader::SuperfileReaders;
use crate::scan::row_address::ADDRESS_FILE;
use crate::scan::tombstones::mark::Tombstoned;
use crate::scan::tombstones::mask::{MaskedPlanner, with_positions};
use crate::scan::tombstones::selection::live_rows;
use crate::table::Sidecars;

/// Rows to decode at once, of files whose deleted rows are dropped afterwards, so that about `wanted` are left:
/// what is done for each batch is then not done for more of them. At most twice as many, which bounds memory.
fn rows_to_decode(wanted: usize, files: &[FileGroup]) -> usize {
    let marked = files.iter().flat_map(FileGroup::iter);
    let marks = marked.filter_map(|file| file.extension::<Arc<Tombstoned>>());
    let (rows, live) = marks.fold((0_u64, 0_u64), |(rows, live), mark| {
        (
            rows.saturating_add(mark.rows()),
            live.saturating_add(mark.live()),
        )
    });
    // A batch with a few rows too many would be cut in two: a sixteenth less, as no two are alike.
    let share = rows as f64 / live.max(1) as f64 * 15.0 / 16.0;
    (wanted as f64 * share.clamp(1.0, 2.0)) as usize
}

/// Whether a filter reads a list, a struct or a map. With `pushdown_filters` DataFusion 55 takes rows for which such
/// a filter is not true (kin of apache/datafusion#25268).
fn reads_nested(filter: &Arc<dyn PhysicalExpr>, schema: &Schema) -> bool {
    collect_columns(filter).iter().any(|column| {
        let field = schema.field_with_name(column.name());
        field.is_ok_and(|field| field.data_type().is_nested())
    })
}

/// A `ParquetSource` that applies tombstones.
#[derive(Clone)]
pub(crate) struct SupertableSource {
    inner: Arc<dyn FileSource>,
    readers: Arc<SuperfileReaders>,
    /// Bytes at a file's end that are read at once for its footer.
    footer_hint: Option<usize>,
    sidecars: Arc<Sidecars>,
    candidates: Arc<Candidates>,
    parts: Arc<SourceParts>,
    /// Rows of a batch that is handed on.
    batch_size: Option<usize>,
}

impl SupertableSource {
    /// Wraps `inner`, whose files carry tombstones that `sidecars` reads, and are read by `readers`.
    pub(crate) fn new(
        inner: ParquetSource,
        readers: Arc<SuperfileReaders>,
        sidecars: Arc<Sidecars>,
        candidates: Candidates,
        parts: SourceParts,
    ) -> Self {
        let footer_hint = inner.table_parquet_options().global.metadata_size_hint;
        let inner = inner.with_parquet_file_reader_factory(Arc::clone(&readers) as _);
        let inner = match footer_hint {
            Some(bytes) => inner.with_metadata_size_hint(bytes),
            None => inner,
        };
        Self {
            inner: Arc::new(inner),
            readers,
            footer_hint,
            sidecars,
            candidates: Arc::new(candidates),
            parts: Arc::new(parts),
            batch_size: None,
        }
    }

    /// Whether its rows say where they are, as those of a statement's target do.
    pub(crate) fn yields_addresses(&self) -> bool {
        let constants = self.inner.table_schema().table_partition_cols();
        constants.iter().any(|field| field.name() == ADDRESS_FILE)
    }

    /// What its rows depend on, beside the configuration of the scan.
    #[cfg(feature = "distributed")]
    pub(crate) fn parts(&self) -> &SourceParts {
        &self.parts
    }

    /// DataFusion's own source of it.
    #[cfg(feature = "distributed")]
    pub(crate) fn parquet(&self) -> Option<&ParquetSource> {
        self.inner.downcast_ref()
    }

    /// How columns that a superfile lacks are filled in.
    pub(crate) fn defaults(&self) -> Arc<InitialDefaults> {
        Arc::clone(&self.parts.defaults)
    }

    /// The keys that another part of the plan has found, by which superfiles are left out.
    fn wanted_keys(&self) -> Vec<WantedKeys> {
        let parquet = self.inner.downcast_ref::<ParquetSource>();
        let asks = parquet.is_some_and(|p| p.table_parquet_options().global.bloom_filter_on_read);
        let Some(predicate) = self.inner.filter().filter(|_| asks) else {
            return Vec::new();
        };
        let mut wanted = WantedKeys::learnt(&predicate, self.inner.table_schema().table_schema());
        wanted.retain(|keys| self.parts.filtered.contains(&keys.field_id()));
        wanted
    }

    fn wrap(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self {
            inner,
            ..self.clone()
        })
    }

    fn morselizers(
        &self,
        source: &dyn FileSource,
        store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Morselizers> {
        // The reader counts towards a limit what is dropped after it.
        let with_positions = match base_config.limit {
            None if self.parts.summary.tombstoned_rows > 0 && !may_fail_in_reader(source) => {
                with_positions(source)?
            }
            _ => None,
        };
        let with_positions = with_positions
            .map(|s| match self.batch_size {
                Some(wanted) => s.with_batch_size(rows_to_decode(wanted, &base_config.file_groups)),
                None => s,
            })
            .map(|s| s.create_morselizer(Arc::clone(&store), base_config, partition))
            .transpose()?;
        Ok(Morselizers {
            plain: source
                .create_morselizer(store, base_config, partition)?
                .into(),
            with_positions: with_positions.map(Arc::from),
        })
    }
}

impl FileSource for SupertableSource {
    fn create_file_opener(
        &self,
        _object_store: Arc<dyn ObjectStore>,
        _base_config: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        internal_err!("a superfile is opened through its morselizer")
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let metrics = self.inner.metrics();
        if base_config.limit.is_some() || self.inner.filter().is_some() {
            self.readers.ahead().be_cautious();
        }
        let late = evaluated_first(self.inner.as_ref());
        let wanted = self.wanted_keys();
        let morselizers = |source: &dyn FileSource| {
            self.morselizers(source, Arc::clone(&object_store), base_config, partition)
        };
        Ok(Box::new(TombstoneMorselizer {
            usual: morselizers(self.inner.as_ref())?,
            late: match (late, self.inner.filter()) {
                (Some(source), Some(predicate)) => Some((predicate, morselizers(&source)?)),
                _ => None,
            },
            readers: Arc::clone(&self.readers),
            footer_hint: self.footer_hint,
            sidecars: Arc::clone(&self.sidecars),
            partition,
            left_out: self.candidates.left_out(self.inner.filter().as_ref())?,
            files_left_out: MetricBuilder::new(metrics)
                .counter("superfiles_left_out_by_keys", partition),
            wanted: Arc::new(wanted),
            files_without: MetricBuilder::new(metrics)
                .counter("superfiles_left_out_by_bloom_filters", partition),
            metrics: metrics.clone(),
            files_late: MetricBuilder::new(metrics).counter("files_late_materialized", partition),
            sidecars_opened: MetricBuilder::new(metrics).counter("sidecars_opened", partition),
            load_time: MetricBuilder::new(metrics).subset_time("sidecar_load_time", partition),
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self {
            inner: self.inner.with_batch_size(batch_size),
            batch_size: Some(batch_size),
            ..self.clone()
        })
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScanSummary {
            superfiles,
            dropped,
            pruned,
            pruned_by_bloom_filters,
            tombstoned_rows,
        } = self.parts.summary;
        match t {
            DisplayFormatType::Default | DisplayFormatType::Verbose => write!(
                f,
                ", superfiles={superfiles}, superfiles_pruned={pruned}, \
                 tombstoned_rows={tombstoned_rows}"
            )?,
            DisplayFormatType::TreeRender => {
                writeln!(f, "superfiles={superfiles}")?;
                writeln!(f, "superfiles_pruned={pruned}")?;
                writeln!(f, "tombstoned_rows={tombstoned_rows}")?;
            }
        }
        let late = match (evaluated_first(self.inner.as_ref()), self.inner.filter()) {
            (Some(_), Some(predicate)) => self.candidates.late(&predicate),
            _ => 0,
        };
        for (what, superfiles) in [
            ("superfiles_dropped", dropped),
            (
                "superfiles_pruned_by_bloom_filters",
                pruned_by_bloom_filters,
            ),
            ("late_materialized", late),
        ] {
            match t {
                _ if superfiles == 0 => {}
                DisplayFormatType::TreeRender => writeln!(f, "{what}={superfiles}")?,
                _ => write!(f, ", {what}={superfiles}")?,
            }
        }
        self.inner.fmt_extra(t, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        target_partitions: usize,
        repartition_file_min_size: usize,
        output_ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> Result<Option<FileScanConfig>> {
        // The returned configuration is a clone of `config`, which holds this wrapper.
        self.inner.repartitioned(
            target_partitions,
            repartition_file_min_size,
            output_ordering,
            config,
        )
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        // What stands above the scan evaluates the others.
        let schema = self.inner.table_schema().table_schema();
        let sound: Vec<bool> = filters.iter().map(|f| !reads_nested(f, schema)).collect();
        let offered = filters.into_iter().zip(&sound).filter(|(_, sound)| **sound);
        let offered = offered.map(|(filter, _)| filter).collect();
        let pushed = self.inner.try_pushdown_filters(offered, config)?;
        let mut answers = pushed.filters.into_iter();
        let filters = sound.into_iter().map(|sound| match sound {
            true => answers.next().unwrap_or(PushedDown::No),
            false => PushedDown::No,
        });
        Ok(FilterPushdownPropagation {
            filters: filters.collect(),
            updated_node: pushed.updated_node.map(|inner| self.wrap(inner)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        eq_properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        self.readers.ahead().be_cautious();
        Ok(match self.inner.try_pushdown_sort(order, eq_properties)? {
            SortOrderPushdownResult::Exact { inner } => SortOrderPushdownResult::Exact {
                inner: self.wrap(inner),
            },
            SortOrderPushdownResult::Inexact { inner } => SortOrderPushdownResult::Inexact {
                inner: self.wrap(inner),
            },
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self
            .inner
            .try_pushdown_projection(projection)?
            .map(|inner| self.wrap(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }

    /// Leaves it to this crate's codec; without that the plan does not leave the process.
    #[cfg(feature = "distributed")]
    fn try_to_proto(
        &self,
        _base: &FileScanConfig,
        ctx: &datafusion::physical_plan::proto::ExecutionPlanEncodeCtx<'_>,
    ) -> Result<Option<datafusion_proto::protobuf::PhysicalPlanNode>> {
        match ctx.encode_child(&CodecProbe::plan()) {
            Ok(_) => Ok(None),
            Err(_) => Err(without_codec().into()),
        }
    }
}

/// DataFusion's own for the files of a scan.
#[derive(Clone)]
struct Morselizers {
    plain: Arc<dyn Morselizer>,
    /// The same with the rows' positions as last column, if rows may be dropped after they are read.
    with_positions: Option<Arc<dyn Morselizer>>,
}

/// Loads a file's tombstones before the inner morselizer plans it.
struct TombstoneMorselizer {
    usual: Morselizers,
    /// For files of which the predicate keeps few rows, and that predicate.
    late: Option<(Arc<dyn PhysicalExpr>, Morselizers)>,
    readers: Arc<SuperfileReaders>,
    footer_hint: Option<usize>,
    sidecars: Arc<Sidecars>,
    partition: usize,
    /// Superfiles that hold none of the keys that a source has.
    left_out: Arc<HashSet<Path>>,
    files_left_out: Count,
    /// What the rows' keys are among, as far as it was found while the plan ran.
    wanted: Arc<Vec<WantedKeys>>,
    files_without: Count,
    metrics: ExecutionPlanMetricsSet,
    files_late: Count,
    sidecars_opened: Count,
    load_time: Time,
}

impl fmt::Debug for TombstoneMorselizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TombstoneMorselizer")
            .field("inner", &self.usual.plain)
            .finish_non_exhaustive()
    }
}

impl Morselizer for TombstoneMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        if self.wanted.is_empty() || self.left_out.contains(&file.object_meta.location) {
            return self.plan_rows(file);
        }
        Ok(Box::new(AskFirst {
            inner: self.plan_rows(file.clone())?,
            file,
            wanted: Arc::clone(&self.wanted),
            readers: Arc::clone(&self.readers),
            sidecars: Arc::clone(&self.sidecars),
            left_out: self.files_without.clone(),
        }))
    }
}

impl TombstoneMorselizer {
    fn plan_rows(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        if self.left_out.contains(&file.object_meta.location) {
            self.files_left_out.add(usize::from(is_first_piece(&file)));
            return Ok(Box::new(LeftOut));
        }
        // The session's own store for the local disk follows links wherever they lead. A file that is not the
        // table's own has no id here: it may be anywhere.
        if let Some(id) = file.extension::<SuperfileId>() {
            self.sidecars.check_superfile(id)?;
        }
        let morselizers = match &self.late {
            Some((predicate, late))
                if (file.statistics.as_deref())
                    .is_some_and(|known| keeps_few(predicate, known)) =>
            {
                self.files_late.add(1);
                late
            }
            _ => &self.usual,
        };
        // A file without tombstones keeps every optimisation that a row selection would turn off.
        let path = file.object_meta.location.clone();
        if file.extension::<Arc<Tombstoned>>().is_none() {
            return Ok(Guarded::over(morselizers.plain.plan_file(file)?, path));
        }
        let reader = self.readers.create_reader(
            self.partition,
            file.clone(),
            self.footer_hint,
            &self.metrics,
        )?;
        let planner = LoadTombstones {
            morselizers: morselizers.clone(),
            reader,
            sidecars: Arc::clone(&self.sidecars),
            sidecars_opened: self.sidecars_opened.clone(),
            load_time: self.load_time.clone(),
            file,
        };
        Ok(Guarded::over(Box::new(planner), path))
    }
}

struct LoadTombstones {
    morselizers: Morselizers,
    reader: Box<dyn AsyncFileReader + Send>,
    sidecars: Arc<Sidecars>,
    sidecars_opened: Count,
    load_time: Time,
    file: PartitionedFile,
}

impl fmt::Debug for LoadTombstones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadTombstones")
            .field("file", &self.file.object_meta.location)
            .finish_non_exhaustive()
    }
}

impl MorselPlanner for LoadTombstones {
    fn plan(mut self: Box<Self>) -> Result<Option<MorselPlan>> {
        Ok(Some(MorselPlan::new().with_pending_planner(async move {
            let mut file = self.file;
            let Some(mark) = file.extension::<Arc<Tombstoned>>().cloned() else {
                return internal_err!("a file lost its tombstone mark while it was opened");
            };
            let (sidecars, load_time) = (&self.sidecars, &self.load_time);
            let sidecars_opened = &self.sidecars_opened;
            let positions = mark.positions(|sidecar| async move {
                let _timer = load_time.timer();
                sidecars_opened.add(1);
                Ok(sidecars.positions(&sidecar).await?)
            });
            // The footer comes from the session's cache, or is put there for the inner reader.
            let footer = async { Ok(self.reader.get_metadata(None).await?) };
            let (positions, metadata) = futures::try_join!(positions, footer)?;
            let may_mask = self.morselizers.with_positions.is_some();
            let access = live_rows(
                &metadata,
                file.range.as_ref(),
                positions,
                mark.rows(),
                may_mask,
            );
            let Some(access) = access else {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    file.object_meta.location.as_ref(),
                    format!("has not the {} rows that the manifest says", mark.rows()),
                )
                .into());
            };
            file.range = None;
            let file = file.with_extension(access.plan);
            match &self.morselizers.with_positions {
                Some(with_positions) if access.masked => {
                    let inner = with_positions.plan_file(file)?;
                    Ok(MaskedPlanner::boxed(inner, positions))
                }
                _ => self.morselizers.plain.plan_file(file),
            }
        })))
    }
}
