//! The codec of what this crate adds to a physical plan.
//!
//! Owns which nodes travel, and that all others of this crate are refused. Does not own how a scan is written down
//! (`scan_wire`), nor DataFusion's own nodes.
//!
//! Invariant: a worker reads superfiles and sidecars of the version that the coordinator pinned, and touches neither
//! pointer, manifest nor WAL document. What changes a table stays with the coordinator.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::{Result, not_impl_err};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::physical_expr_common::physical_expr::proto_decode::PhysicalExprDecodeCtx;
use datafusion::physical_expr_common::physical_expr::proto_encode::PhysicalExprEncodeCtx;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use object_store::local::LocalFileSystem;
use prost::Message;

use super::envelope::{Kind, damaged, open, seal};
use super::functions::own_function;
use super::leaf::WorkerScanExec;
use super::scan_wire::ScanWire;
use crate::dml::write::gather::GatherAddressesExec;
use crate::error::{Error, ErrorKind};
use crate::scan::ScanLocation;
use crate::scan::read::leaving::CodecProbe;
use crate::scan::read::source::SupertableSource;
use crate::storage::{ExactStore, RetryPolicy, Storage};
use crate::table::Sidecars;

/// Sidecar readers of so many tables are kept.
const TABLES: usize = 1024;

/// A codec for scans of supertables, for plans that another process executes.
///
/// [`coordinator`](super::coordinator) and [`worker`](super::worker) use one. Embedders of another engine that ships
/// physical plans register it there, at both ends. Sinks and table functions are refused: statements that change a
/// table are committed by the process that plans them.
///
/// A worker resolves the object store from its own runtime: credentials do not travel.
#[derive(Default)]
pub struct SupertableCodec {
    /// The user's own, for all nodes that are not this crate's.
    inner: Option<Arc<dyn PhysicalExtensionCodec>>,
    /// Readers of sidecars, which keep what they read.
    sidecars: Mutex<HashMap<(String, String), Arc<Sidecars>>>,
}

impl fmt::Debug for SupertableCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupertableCodec")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl SupertableCodec {
    /// A codec for this crate's nodes, that leaves all others to `inner`.
    pub fn over(inner: Arc<dyn PhysicalExtensionCodec>) -> Self {
        Self {
            inner: Some(inner),
            ..Self::default()
        }
    }

    /// The reader of a table's sidecars.
    fn sidecars(&self, runtime: &RuntimeEnv, location: &ScanLocation) -> Result<Arc<Sidecars>> {
        let key = (
            location.store_url.as_str().to_owned(),
            location.root.as_ref().to_owned(),
        );
        let mut known = self.sidecars.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sidecars) = known.get(&key) {
            return Ok(Arc::clone(sidecars));
        }
        let sidecars = Arc::new(Sidecars::without_table(storage(runtime, location)?));
        if known.len() >= TABLES {
            known.clear();
        }
        known.insert(key, Arc::clone(&sidecars));
        Ok(sidecars)
    }

    fn encode_inner(
        &self,
        node: Arc<dyn ExecutionPlan>,
        into: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let Some(inner) = &self.inner else {
            return Err(stays(node.name()).into());
        };
        let mut content = Vec::new();
        inner.try_encode(node, &mut content, converter)?;
        seal(Kind::Inner, &content, into);
        Ok(())
    }
}

/// Why a node does not travel.
fn stays(node: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        node,
        "this part of a plan cannot be sent to a worker: it stays on the coordinator, as everything does that \
         changes a table, or that only one process can do",
    )
}

/// Where the sidecars are.
fn storage(runtime: &RuntimeEnv, location: &ScanLocation) -> Result<Storage> {
    if location.store_url == ObjectStoreUrl::local_filesystem() {
        let directory = LocalFileSystem::new().path_to_filesystem(&location.root)?;
        return Ok(Storage::local(directory, RetryPolicy::default()).map_err(Error::from)?);
    }
    let store = runtime.object_store(&location.store_url).map_err(|e| {
        Error::new(
            ErrorKind::Storage,
            location.store_url.as_str(),
            "this worker has no object store registered for it",
        )
        .with_source(e)
    })?;
    let store = Arc::new(ExactStore::new(store));
    Ok(Storage::new(store, &location.root, RetryPolicy::default()))
}

impl PhysicalExtensionCodec for SupertableCodec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        // A scan asks whether this codec is there.
        if node.is::<CodecProbe>() {
            return Ok(());
        }
        if node.is::<GatherAddressesExec>() {
            seal(Kind::GatherAddresses, &[], buf);
            return Ok(());
        }
        let scan = match node.downcast_ref::<WorkerScanExec>() {
            Some(leaf) => leaf.scan().downcast_ref::<DataSourceExec>(),
            None => node.downcast_ref::<DataSourceExec>(),
        };
        let config = scan.and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>());
        let source = config.and_then(|config| config.file_source.downcast_ref());
        let Some((config, source)) = config.zip(source) else {
            return self.encode_inner(node, buf, converter);
        };
        let source: &SupertableSource = source;
        let encode = |expr: &Arc<dyn PhysicalExpr>| converter.physical_expr_to_proto(expr, self);
        let wire = ScanWire::of(config, source, &encode)?;
        seal(Kind::Scan, &wire.encode_to_vec(), buf);
        Ok(())
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let (kind, content) = open(buf)?;
        match (kind, inputs, &self.inner) {
            (Kind::GatherAddresses, [input], _) => {
                Ok(Arc::new(GatherAddressesExec::new(Arc::clone(input))))
            }
            (Kind::Scan, [], _) => {
                let wire = ScanWire::decode(content)
                    .map_err(|e| damaged("it is not a scan").with_source(e))?;
                let runtime = ctx.runtime_env();
                let sidecars = self.sidecars(&runtime, &wire.location()?)?;
                let within = PhysicalPlanDecodeContext::new(ctx, self);
                let decode =
                    |expr: &_, schema: &_| converter.proto_to_physical_expr(expr, schema, &within);
                // Decoders of others are not written for every content.
                let scan = || wire.scan(&runtime, sidecars, &decode);
                let config = std::panic::catch_unwind(AssertUnwindSafe(scan))
                    .map_err(|_| damaged("a part of it is none"))??;
                let scan = DataSourceExec::from_data_source(config);
                Ok(Arc::new(WorkerScanExec::new(scan)))
            }
            (Kind::Inner, inputs, Some(inner)) => inner.try_decode(content, inputs, ctx, converter),
            _ => Err(damaged("it has other inputs than it had").into()),
        }
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        match &self.inner {
            // Its name is enough.
            _ if own_function(node.name()).is_some() => Ok(()),
            Some(inner) => inner.try_encode_udf(node, buf),
            None => Ok(()),
        }
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        match (own_function(name), &self.inner) {
            (Some(own), _) if buf.is_empty() => Ok(own),
            (_, Some(inner)) => inner.try_decode_udf(name, buf),
            _ => not_impl_err!("a worker does not have the function {name}"),
        }
    }

    fn try_encode_expr(
        &self,
        node: &Arc<dyn PhysicalExpr>,
        buf: &mut Vec<u8>,
        ctx: &PhysicalExprEncodeCtx<'_>,
    ) -> Result<()> {
        match &self.inner {
            Some(inner) => inner.try_encode_expr(node, buf, ctx),
            None => not_impl_err!("the expression {node} cannot be sent to a worker"),
        }
    }

    fn try_decode_expr(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn PhysicalExpr>],
        ctx: &PhysicalExprDecodeCtx<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match &self.inner {
            Some(inner) => inner.try_decode_expr(buf, inputs, ctx),
            None => not_impl_err!("an expression of another codec came to this worker"),
        }
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        match &self.inner {
            Some(inner) => inner.try_encode_udaf(node, buf),
            None => Ok(()),
        }
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        match &self.inner {
            Some(inner) => inner.try_decode_udaf(name, buf),
            None => not_impl_err!("a worker does not have the aggregate function {name}"),
        }
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        match &self.inner {
            Some(inner) => inner.try_encode_udwf(node, buf),
            None => Ok(()),
        }
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        match &self.inner {
            Some(inner) => inner.try_decode_udwf(name, buf),
            None => not_impl_err!("a worker does not have the window function {name}"),
        }
    }
}
