//! A store in memory that names states as GCS does: by generation, which listings leave out. It
//! proves that nothing here relies on ETags, not that the real service behaves.

use std::fmt;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    UpdateVersion,
};

#[derive(Debug, Default)]
pub(super) struct GenerationStore(InMemory);

impl fmt::Display for GenerationStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GenerationStore")
    }
}

fn missing_generation() -> Error {
    Error::Generic {
        store: "GenerationStore",
        source: "a conditional put needs a generation".into(),
    }
}

#[async_trait]
impl ObjectStore for GenerationStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        if let PutMode::Update(expected) = opts.mode {
            opts.mode = PutMode::Update(UpdateVersion {
                e_tag: Some(expected.version.ok_or_else(missing_generation)?),
                version: None,
            });
        }
        let put = self.0.put_opts(location, payload, opts).await?;
        Ok(PutResult {
            e_tag: None,
            version: put.e_tag,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let mut found = self.0.get_opts(location, options).await?;
        found.meta.version = found.meta.e_tag.take();
        Ok(found)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let nameless = |listed: Result<ObjectMeta>| {
            listed.map(|meta| ObjectMeta {
                e_tag: None,
                ..meta
            })
        };
        self.0.list(prefix).map(nameless).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
