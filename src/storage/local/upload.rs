//! Multipart uploads: an object written piece by piece, visible and durable when completed.
//!
//! Owns the temporary file of one upload. Does not own publishing.
//!
//! Invariant: an upload with a missing or failed part cannot be completed. One that is aborted or
//! dropped leaves nothing; a crash leaves a temporary file.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{MultipartUpload, PutPayload, PutResult, Result, UploadPart};

use super::blocking::blocking;
use super::directory::Directory;
use super::durable::locked;
use super::paths::{generic, io_error};
use super::publish::Condition;
use super::stage::Staged;

#[derive(Debug)]
pub(super) struct LocalUpload {
    directory: Arc<Directory>,
    key: Path,
    /// Where the next part begins.
    offset: u64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// `None` once completed or aborted.
    staged: Option<Staged>,
    written: u64,
}

impl LocalUpload {
    pub(super) fn new(directory: Arc<Directory>, key: Path, staged: Staged) -> Self {
        Self {
            directory,
            key,
            offset: 0,
            state: Arc::new(Mutex::new(State {
                staged: Some(staged),
                written: 0,
            })),
        }
    }
}

#[async_trait]
impl MultipartUpload for LocalUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let offset = self.offset;
        let length = data.content_length() as u64;
        self.offset += length;
        let (state, key) = (Arc::clone(&self.state), self.key.clone());
        Box::pin(blocking(move || {
            let mut state = locked(&state);
            let Some(staged) = &mut state.staged else {
                return Err(generic(format!("{key}: the upload has ended")));
            };
            staged
                .write_at(offset, &data)
                .map_err(|e| io_error(&key, "write", e))?;
            state.written += length;
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (key, expected) = (self.key.clone(), self.offset);
        let directory = Arc::clone(&self.directory);
        let state = Arc::clone(&self.state);
        blocking(move || {
            let mut state = locked(&state);
            let (Some(mut staged), written) = (state.staged.take(), state.written) else {
                return Err(generic(format!("{key}: the upload has ended")));
            };
            drop(state);
            if written != expected {
                return Err(generic(format!(
                    "{key}: {written} of {expected} bytes were written, so the upload is given up"
                )));
            }
            directory.finish(&key, &mut staged, &Condition::Anything)
        })
        .await
    }

    async fn abort(&mut self) -> Result<()> {
        let state = Arc::clone(&self.state);
        blocking(move || {
            drop(locked(&state).staged.take());
            Ok(())
        })
        .await
    }
}
