//! A process that executes parts of the statements of others.
//!
//! Owns the server's life, and which object stores it has: those that the environment describes, opened when a plan
//! first names them. Does not own what is executed (`distributed`).

use std::sync::Arc;

use datafusion::common::{Result, exec_datafusion_err};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion_cli::object_storage::instrumented::InstrumentedObjectStoreRegistry;
use object_store::ObjectStore;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use url::Url;

use super::args::{Args, Role};
use super::registry::StoreRegistry;
use super::session::runtime_with;
use crate::distributed::worker;

/// What a header may take.
const HEADER_BYTES: u32 = 1 << 20;

/// Executes what comes, until the process ends.
///
/// # Errors
/// The address cannot be listened at, or a limit cannot be applied.
pub(super) async fn run(args: &Args, role: &Role) -> Result<()> {
    let Role::Worker { listen } = role;
    let profiled = InstrumentedObjectStoreRegistry::new();
    let stores = EnvironmentStores(StoreRegistry::new(Arc::new(profiled)));
    let runtime = runtime_with(args, Arc::new(stores))?;
    let incoming = TcpIncoming::bind(*listen)
        .map_err(|e| exec_datafusion_err!("cannot listen at {listen}: {e}"))?
        .with_nodelay(Some(true));
    let address = incoming
        .local_addr()
        .map_err(|e| exec_datafusion_err!("cannot listen at {listen}: {e}"))?;
    println!("worker listens at http://{address}");
    Server::builder()
        // Conditions of statements come in a header.
        .http2_max_header_list_size(HEADER_BYTES)
        .add_service(worker().with_runtime_env(runtime).into_worker_server())
        .serve_with_incoming(incoming)
        .await
        .map_err(|e| exec_datafusion_err!("the worker ended: {e}"))
}

/// Stores that are opened, when they are first asked for, as the environment says.
#[derive(Debug)]
struct EnvironmentStores(StoreRegistry);

impl ObjectStoreRegistry for EnvironmentStores {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        self.0.register_store(url, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.0.deregister_store(url)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        if let Ok(known) = self.0.get_store(url) {
            return Ok(known);
        }
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?.to_ascii_lowercase();
            Some((name, value.into_string().ok()?))
        });
        let (store, _) = object_store::parse_url_opts(url, variables)?;
        self.0.register_store(url, Arc::from(store));
        self.0.get_store(url)
    }
}
