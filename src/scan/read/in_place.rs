//! Files that are read where their owner has them: whether they still are what they were.
//!
//! Owns what two states of an object are told apart by, and a store wrapper that compares it whenever such a file
//! is read. Does not own where the files are or what was recorded of them ([`InPlace`]).
//!
//! A superfile of the table's own never changes. A file of others may be written anew at any moment, and its footer can
//! be the same afterwards, byte for byte: one value in the middle of a page is other, neither least nor greatest, and
//! as long as the one before. And a session keeps footers. So every answer of the store about such a file, also about
//! a page, must be of the state that was taken in; the store says with each answer of which state it is, so that costs
//! no request.
//!
//! | store | a state is known by |
//! | --- | --- |
//! | S3, GCS, Azure, whatever gives ETags | the ETag |
//! | the local disk | modification time and size, which a copy of a directory can keep, as it cannot keep an inode |
//!
//! Invariant: bytes of a watched file are those of its recorded state, or the read is an error that says what to do.
//! On a local disk a file can change between being opened and being read; it is looked at again after it was read.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    OBJECT_STORE_COALESCE_DEFAULT, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result, coalesce_ranges,
};

use crate::error::{Error, ErrorKind};
use crate::format::InPlace;
use crate::format::manifest::SuperfileEntry;
use crate::scan::location::ScanLocation;

/// What the state of an object of the store at `url` is told by.
pub(crate) fn tag_of(meta: &ObjectMeta, url: &ObjectStoreUrl) -> String {
    match &meta.e_tag {
        Some(tag) if !is_disk(url) => tag.clone(),
        _ => format!("{}-{}", meta.last_modified.timestamp_micros(), meta.size),
    }
}

/// Whether it is the local disk.
pub(crate) fn is_disk(url: &ObjectStoreUrl) -> bool {
    *url == ObjectStoreUrl::local_filesystem()
}

/// `inner`, some of whose objects are read in one state only.
#[derive(Debug)]
pub(crate) struct InPlaceStore {
    inner: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
    tags: HashMap<Path, String>,
}

/// Those of `entries` that are read where others have them, and the states in which they are.
pub(crate) fn in_place(
    entries: &[Arc<SuperfileEntry>],
    location: &ScanLocation,
) -> HashMap<Path, String> {
    let watched = |entry: &Arc<SuperfileEntry>| {
        let file = entry.in_place.as_ref()?;
        let path = file.place().resolve(&location.root);
        Some((path, file.tag().to_owned()))
    };
    entries.iter().filter_map(watched).collect()
}

impl InPlaceStore {
    /// Watches the files of `tags`; the store itself if there are none.
    pub(crate) fn over(
        inner: Arc<dyn ObjectStore>,
        url: &ObjectStoreUrl,
        tags: &HashMap<Path, String>,
    ) -> Arc<dyn ObjectStore> {
        match tags.is_empty() {
            true => inner,
            false => Arc::new(Self {
                inner,
                url: url.clone(),
                tags: tags.clone(),
            }),
        }
    }

    /// Watches one object at `path`, which a listing may have under another name.
    pub(crate) fn one(
        inner: Arc<dyn ObjectStore>,
        url: &ObjectStoreUrl,
        path: &Path,
        file: &InPlace,
    ) -> Self {
        Self {
            inner,
            url: url.clone(),
            tags: HashMap::from([(path.clone(), file.tag().to_owned())]),
        }
    }

    fn check(&self, path: &Path, meta: &ObjectMeta, tag: &str) -> Result<()> {
        match tag_of(meta, &self.url) == tag {
            true => Ok(()),
            false => Err(changed(path)),
        }
    }

    async fn read(&self, path: &Path, options: GetOptions, tag: &str) -> Result<GetResult> {
        let found = self.inner.get_opts(path, options).await?;
        self.check(path, &found.meta, tag)?;
        let (meta, range) = (found.meta.clone(), found.range.clone());
        let attributes = found.attributes.clone();
        // Callers ask for pieces that they want as a whole.
        let bytes = found.bytes().await?;
        if bytes.len() as u64 != range.end.saturating_sub(range.start) {
            return Err(changed(path));
        }
        if is_disk(&self.url) {
            self.check(path, &self.inner.head(path).await?, tag)?;
        }
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed()),
            meta,
            range,
            attributes,
        })
    }

    /// What a failure comes from: a file that was cut is one that changed.
    async fn explain(
        &self,
        path: &Path,
        tag: &str,
        error: object_store::Error,
    ) -> object_store::Error {
        let error = match own(error) {
            Ok(own) => return wrapped(own),
            Err(object_store::Error::NotFound { .. }) => return gone(path),
            Err(error) => error,
        };
        match self.inner.head(path).await {
            Ok(now) if tag_of(&now, &self.url) != tag => changed(path),
            Err(object_store::Error::NotFound { .. }) => gone(path),
            _ => error,
        }
    }
}

/// This crate's own error about a file that is read in place, if `error` is one.
pub(crate) fn own(error: object_store::Error) -> std::result::Result<Error, object_store::Error> {
    match error {
        object_store::Error::Generic { store, source } => match source.downcast::<Error>() {
            Ok(own) => Ok(*own),
            Err(source) => Err(object_store::Error::Generic { store, source }),
        },
        error => Err(error),
    }
}

/// What can be done about a table that lacks a file.
const WAY_OUT: &str = "or delete its rows by a condition that by its bounds holds for all of them (supertable_files \
                       shows those), which does not read it, or restore a version from before it was added";

fn wrapped(error: Error) -> object_store::Error {
    object_store::Error::Generic {
        store: "InPlaceStore",
        source: Box::new(error),
    }
}

fn changed(path: &Path) -> object_store::Error {
    wrapped(Error::new(
        ErrorKind::Corrupt,
        path.as_ref(),
        format!(
            "this file was added where it is (supertable_add_files), and has been changed since; put back what was there, {WAY_OUT}"
        ),
    ))
}

fn gone(path: &Path) -> object_store::Error {
    wrapped(Error::new(
        ErrorKind::NotFound,
        path.as_ref(),
        format!(
            "this file was added where it is (supertable_add_files), and is not there any more; put it back, {WAY_OUT}"
        ),
    ))
}

impl fmt::Display for InPlaceStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for InPlaceStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.tags.get(location) {
            Some(tag) if !options.head => match self.read(location, options, tag).await {
                Ok(found) => Ok(found),
                Err(error) => Err(self.explain(location, tag, error).await),
            },
            _ => self.inner.get_opts(location, options).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        if !self.tags.contains_key(location) {
            return self.inner.get_ranges(location, ranges).await;
        }
        let get = |range| self.get_range(location, range);
        coalesce_ranges(ranges, get, OBJECT_STORE_COALESCE_DEFAULT).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use object_store::local::LocalFileSystem;
    use object_store::memory::InMemory;

    use super::*;
    use crate::format::ExternalPath;

    /// A store that watches `f`, which holds "before", and the store below.
    async fn watched(
        inner: Arc<dyn ObjectStore>,
        url: &str,
    ) -> (InPlaceStore, Arc<dyn ObjectStore>) {
        let url = ObjectStoreUrl::parse(url).unwrap();
        let path = Path::from("f");
        inner.put(&path, "before".into()).await.unwrap();
        let tag = tag_of(&inner.head(&path).await.unwrap(), &url);
        let file = InPlace::new(ExternalPath::parse("/f").unwrap(), tag).unwrap();
        let store = InPlaceStore::one(Arc::clone(&inner), &url, &path, &file);
        (store, inner)
    }

    async fn kind_of(store: &InPlaceStore, range: Range<u64>) -> (ErrorKind, ErrorKind) {
        let path = Path::from("f");
        let one = store.get_range(&path, range.clone()).await.unwrap_err();
        let many = store.get_ranges(&path, &[range]).await.unwrap_err();
        (own(one).unwrap().kind(), own(many).unwrap().kind())
    }

    async fn other_bytes_of_one_length_are_no_answer(inner: Arc<dyn ObjectStore>, url: &str) {
        let (store, inner) = watched(inner, url).await;
        let path = Path::from("f");
        assert_eq!(store.get_range(&path, 1..4).await.unwrap(), "efo");
        let pieces = store.get_ranges(&path, &[0..1, 5..6]).await.unwrap();
        assert_eq!(pieces, ["b", "e"]);
        // A disk's clock may be coarse.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        inner.put(&path, "behind".into()).await.unwrap();
        let changed = (ErrorKind::Corrupt, ErrorKind::Corrupt);
        assert_eq!(kind_of(&store, 1..4).await, changed);
        inner.put(&path, "cut".into()).await.unwrap();
        assert_eq!(kind_of(&store, 2..6).await, changed);
        inner.delete(&path).await.unwrap();
        let gone = (ErrorKind::NotFound, ErrorKind::NotFound);
        assert_eq!(kind_of(&store, 1..4).await, gone);
        // What is not watched is read as it is.
        inner.put(&Path::from("g"), "g".into()).await.unwrap();
        assert_eq!(store.get_range(&Path::from("g"), 0..1).await.unwrap(), "g");
    }

    #[tokio::test]
    async fn a_file_that_changed_in_memory_is_an_error() {
        other_bytes_of_one_length_are_no_answer(Arc::new(InMemory::new()), "mem://b").await;
    }

    #[tokio::test]
    async fn a_file_that_changed_on_the_disk_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let inner = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        other_bytes_of_one_length_are_no_answer(Arc::new(inner), "file:///").await;
    }
}
