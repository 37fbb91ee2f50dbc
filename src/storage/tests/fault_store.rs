//! A store in memory whose answers get lost, come late, or lie.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

/// What happens to one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Carried out; the answer is a broken connection.
    AnswerLost,
    /// Carried out; the answer is a refusal, because the client repeated it.
    RefusedAfterSuccess,
    /// Not carried out; the answer is a server error.
    NotDone,
    /// Not carried out; the answer is a conflict although nothing conflicts.
    FalseConflict,
    /// Carried out later, if its condition still holds then; the answer is a broken connection.
    Late,
    /// Carried out, then another writer replaces the object; the answer is a broken connection.
    ThirdWriter,
    /// Not carried out; the answer is final.
    Forbidden,
    /// Carried out; the answer names no version.
    NoVersion,
    /// Carried out, and the answer is lost; so are this many answers to reads that follow.
    AnswerLostThenReadsFail(u32),
}

#[derive(Debug, Default)]
pub(super) struct FaultStore {
    inner: InMemory,
    faults: Mutex<VecDeque<Fault>>,
    late: Mutex<Vec<(Path, Bytes, PutMode)>>,
    failing_reads: Mutex<u32>,
    /// Every body that came into force, in order.
    history: Mutex<Vec<Bytes>>,
}

impl FaultStore {
    pub(super) fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub(super) fn times_in_force(&self, body: &Bytes) -> usize {
        self.history
            .lock()
            .unwrap()
            .iter()
            .filter(|b| *b == body)
            .count()
    }

    pub(super) fn planned(&self) -> usize {
        self.faults.lock().unwrap().len()
    }

    /// Carries out what is late.
    pub(super) async fn flush(&self) {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        for (path, body, mode) in late {
            let _ = self.apply(&path, body, mode).await;
        }
    }

    pub(super) async fn current(&self, path: &Path) -> Option<Bytes> {
        let found = self.inner.get(path).await.ok()?;
        Some(found.bytes().await.unwrap())
    }

    async fn apply(&self, path: &Path, body: Bytes, mode: PutMode) -> Result<PutResult> {
        let payload = PutPayload::from_bytes(body.clone());
        let put = self.inner.put_opts(path, payload, mode.into()).await?;
        self.history.lock().unwrap().push(body);
        Ok(put)
    }

    fn reads_fail(&self) -> Result<()> {
        let mut failing = self.failing_reads.lock().unwrap();
        if *failing == 0 {
            return Ok(());
        }
        *failing -= 1;
        Err(broken())
    }
}

fn broken() -> Error {
    Error::Generic {
        store: "FaultStore",
        source: "connection closed before the message completed".into(),
    }
}

fn refusal(path: &Path, mode: &PutMode) -> Error {
    let (path, source) = (path.to_string(), "refused".into());
    match mode {
        PutMode::Create => Error::AlreadyExists { path, source },
        _ => Error::Precondition { path, source },
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore")
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let fault = self.faults.lock().unwrap().pop_front();
        let body = Bytes::from(payload);
        let refused = refusal(location, &opts.mode);
        match fault.unwrap_or(Fault::None) {
            Fault::None => self.apply(location, body, opts.mode).await,
            Fault::AnswerLost => {
                let _ = self.apply(location, body, opts.mode).await;
                Err(broken())
            }
            Fault::AnswerLostThenReadsFail(reads) => {
                let _ = self.apply(location, body, opts.mode).await;
                *self.failing_reads.lock().unwrap() = reads;
                Err(broken())
            }
            Fault::RefusedAfterSuccess => {
                let _ = self.apply(location, body, opts.mode).await;
                Err(refused)
            }
            Fault::NotDone => Err(broken()),
            Fault::FalseConflict => Err(refused),
            Fault::Late => {
                let late = (location.clone(), body, opts.mode);
                self.late.lock().unwrap().push(late);
                Err(broken())
            }
            Fault::ThirdWriter => {
                let _ = self.apply(location, body, opts.mode).await;
                let other = format!("third writer {}", uuid::Uuid::new_v4());
                let _ = self.apply(location, other.into(), PutMode::Overwrite).await;
                Err(broken())
            }
            Fault::Forbidden => Err(Error::PermissionDenied {
                path: location.to_string(),
                source: "forbidden".into(),
            }),
            Fault::NoVersion => {
                self.apply(location, body, opts.mode).await?;
                Ok(PutResult {
                    e_tag: None,
                    version: None,
                })
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reads_fail()?;
        self.inner.get_opts(location, options).await
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
