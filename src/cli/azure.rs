//! Azure Blob Storage locations (`az://`, `azure://`, `adl://`, `abfs://`, `abfss://`), which
//! datafusion-cli does not know.
//!
//! Owns recognising such a location, the `azure.*` options of a statement, and building the store
//! from the `AZURE_*` environment and those options. Does not own when a store is built and where
//! it is kept: see the `registry` and `context` modules.
//!
//! Invariant: option values, which may be credentials, appear in no message and no `Debug` output.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::config::{ConfigEntry, ConfigExtension, ExtensionOptions};
use datafusion::common::config_err;
use datafusion::error::Result;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use url::Url;

/// Whether `scheme` is one of Azure's.
pub(super) fn is_azure_scheme(scheme: &str) -> bool {
    matches!(scheme, "az" | "azure" | "adl" | "abfs" | "abfss")
}

/// The `azure.*` options of `CREATE EXTERNAL TABLE` and `COPY`: every key that `object_store`'s
/// Azure builder knows (`account_name`, `access_key`, `sas_token`, `endpoint`, `use_emulator`, …).
#[derive(Clone, Default)]
pub(super) struct AzureOptions(BTreeMap<String, String>);

impl fmt::Debug for AzureOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl AzureOptions {
    /// The Azure options among a statement's options; `None` if there is none.
    pub(super) fn of_statement(options: &HashMap<String, String>) -> Result<Option<Self>> {
        let mut found = Self::default();
        for (key, value) in options {
            if key.starts_with("azure.") {
                found.set(key, value)?;
            }
        }
        Ok((!found.0.is_empty()).then_some(found))
    }
}

impl ExtensionOptions for AzureOptions {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let name = key.strip_prefix("azure.").unwrap_or(key);
        if name.parse::<AzureConfigKey>().is_err() {
            return config_err!("there is no Azure option \"azure.{name}\"");
        }
        self.0.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        // Names only: a value may be a credential.
        self.0
            .keys()
            .map(|key| ConfigEntry {
                key: key.clone(),
                value: None,
                description: "",
            })
            .collect()
    }
}

impl ConfigExtension for AzureOptions {
    const PREFIX: &'static str = "azure";
}

/// The store of the container that `url` names, configured by the `AZURE_*` environment and, over
/// it, by `options`.
pub(super) fn store(
    url: &Url,
    options: &AzureOptions,
) -> object_store::Result<Arc<dyn ObjectStore>> {
    let mut builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str());
    for (name, value) in &options.0 {
        if let Ok(key) = name.parse::<AzureConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    Ok(Arc::new(builder.build()?))
}

/// Stands in for a store that could not be configured: every use reports why.
///
/// datafusion-cli asks for the store before the statement's options can be applied, and replaces
/// whatever error it gets by "unsupported scheme"; so the reason has to travel inside a store.
#[derive(Debug)]
pub(super) struct Unconfigured {
    reason: String,
}

impl Unconfigured {
    pub(super) fn new(error: &object_store::Error) -> Self {
        Self {
            reason: error.to_string(),
        }
    }

    fn error(&self) -> object_store::Error {
        object_store::Error::Generic {
            store: "MicrosoftAzure",
            source: format!(
                "the store is not configured ({}); set the AZURE_STORAGE_* environment variables \
                 or OPTIONS ('azure.account_name' …)",
                self.reason
            )
            .into(),
        }
    }
}

impl fmt::Display for Unconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MicrosoftAzure(not configured)")
    }
}

#[async_trait]
impl ObjectStore for Unconfigured {
    async fn put_opts(
        &self,
        _: &Path,
        _: PutPayload,
        _: PutOptions,
    ) -> object_store::Result<PutResult> {
        Err(self.error())
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(self.error())
    }

    async fn get_opts(&self, _: &Path, _: GetOptions) -> object_store::Result<GetResult> {
        Err(self.error())
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        stream::iter([Err(self.error())]).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        stream::iter([Err(self.error())]).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        Err(self.error())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(self.error())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn options_of_other_stores_are_left_alone() {
        let options = HashMap::from([("aws.region".to_owned(), "x".to_owned())]);
        assert!(AzureOptions::of_statement(&options).unwrap().is_none());
    }

    #[test]
    fn an_option_that_azure_does_not_have_is_refused() {
        let options = HashMap::from([("azure.acount_name".to_owned(), "x".to_owned())]);
        assert!(AzureOptions::of_statement(&options).is_err());
    }

    #[test]
    fn values_of_options_are_not_printed() {
        let mut options = AzureOptions::default();
        options.set("azure.access_key", "c2VjcmV0").unwrap();
        assert!(!format!("{options:?} {:?}", options.entries()).contains("c2VjcmV0"));
    }

    #[test]
    fn options_configure_the_store() {
        let mut options = AzureOptions::default();
        options.set("azure.account_name", "acct").unwrap();
        options.set("azure.access_key", "c2VjcmV0").unwrap();
        let url = Url::parse("az://box/some/path/").unwrap();
        let text = store(&url, &options).unwrap().to_string();
        assert!(text.contains("acct") && text.contains("box"), "{text}");
    }

    #[tokio::test]
    async fn an_unconfigured_store_says_what_is_missing() {
        use object_store::ObjectStoreExt;
        let reason = object_store::Error::Generic {
            store: "MicrosoftAzure",
            source: "Account must be specified".into(),
        };
        let store = Unconfigured::new(&reason);
        let error = store.get(&Path::from("x")).await.unwrap_err().to_string();
        assert!(error.contains("Account must be specified"), "{error}");
    }
}
