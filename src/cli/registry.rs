//! The object stores of a CLI session: datafusion-cli's registry, and Azure on top.
//!
//! Owns which store answers for a URL. Does not own how S3, GCS and HTTP stores are built:
//! datafusion-cli does that and registers them here.
//!
//! Invariant: two Azure containers never share a store. DataFusion keys stores by scheme and host,
//! but `abfss://container@account…` carries the container in front of the host.

use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion_cli::object_storage::instrumented::InstrumentedObjectStoreRegistry;
use object_store::ObjectStore;
use url::Url;

use super::azure::{self, AzureOptions, Unconfigured};

/// The session's registry; `inner` is shared with the printer, which reports profiled requests.
#[derive(Debug)]
pub(super) struct StoreRegistry {
    inner: Arc<InstrumentedObjectStoreRegistry>,
}

impl StoreRegistry {
    pub(super) fn new(inner: Arc<InstrumentedObjectStoreRegistry>) -> Self {
        Self { inner }
    }
}

impl ObjectStoreRegistry for StoreRegistry {
    fn register_store(
        &self,
        url: &Url,
        store: Arc<dyn ObjectStore>,
    ) -> Option<Arc<dyn ObjectStore>> {
        let key = key(url);
        // datafusion-cli registers again what it just looked up, for every statement that names a
        // location; wrapping it once more would count each request twice.
        if let Ok(present) = self.inner.get_store(&key)
            && Arc::ptr_eq(&present, &store)
        {
            return Some(present);
        }
        self.inner.register_store(&key, store)
    }

    fn deregister_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        self.inner.deregister_store(&key(url))
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let key = key(url);
        let found = self.inner.get_store(&key);
        if found.is_ok() || !azure::is_azure_scheme(url.scheme()) {
            return found;
        }
        match azure::store(url, &AzureOptions::default()) {
            Ok(store) => {
                self.inner.register_store(&key, store);
                self.inner.get_store(&key)
            }
            // Not kept: the next statement may bring the options that are missing.
            Err(error) => Ok(Arc::new(Unconfigured::new(&error))),
        }
    }
}

/// The URL under which `url`'s store is kept: the URL itself, except that a container in front of
/// an Azure host becomes part of the host.
fn key(url: &Url) -> Url {
    if !azure::is_azure_scheme(url.scheme()) || url.username().is_empty() {
        return url.clone();
    }
    let host = url.host_str().unwrap_or_default();
    Url::parse(&format!("{}://{}.{host}/", url.scheme(), url.username()))
        .unwrap_or_else(|_| url.clone())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use object_store::memory::InMemory;

    fn registry() -> StoreRegistry {
        StoreRegistry::new(Arc::new(InstrumentedObjectStoreRegistry::new()))
    }

    #[test]
    fn containers_of_one_account_have_their_own_stores() {
        let registry = registry();
        let one = Url::parse("abfss://one@acct.dfs.core.windows.net/t").unwrap();
        let two = Url::parse("abfss://two@acct.dfs.core.windows.net/t").unwrap();
        registry.register_store(&one, Arc::new(InMemory::new()));
        registry.register_store(&two, Arc::new(InMemory::new()));
        let (a, b) = (
            registry.get_store(&one).unwrap(),
            registry.get_store(&two).unwrap(),
        );
        assert!(!Arc::ptr_eq(&a, &b));
    }

    #[test]
    fn registering_a_store_again_does_not_wrap_it_again() {
        let registry = registry();
        let url = Url::parse("s3://bucket/").unwrap();
        registry.register_store(&url, Arc::new(InMemory::new()));
        let first = registry.get_store(&url).unwrap();
        registry.register_store(&url, Arc::clone(&first));
        assert!(Arc::ptr_eq(&first, &registry.get_store(&url).unwrap()));
        assert_eq!(registry.inner.stores().len(), 1);
    }

    #[test]
    fn a_scheme_that_nobody_knows_is_still_an_error() {
        let url = Url::parse("ftp://host/").unwrap();
        assert!(registry().get_store(&url).is_err());
    }
}
