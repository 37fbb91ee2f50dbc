//! An HTTP connection whose conditional writes get lost, refused or left undone, between
//! `object_store`'s client and a real server. The client's own retries happen above it, so it produces
//! the false conflicts that those retries produce.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

/// What happens to the conditional writes, one after the other, over and over.
#[derive(Clone, Copy, Debug)]
pub enum Lie {
    /// None: the truth.
    Truth,
    /// Done, and the connection breaks in a way that the client takes for "not sent".
    DoneAndBroken,
    /// Done, and the connection breaks before an answer.
    DoneAndSilent,
    /// Done, and answered with this status.
    DoneAnd(u16),
    /// Not done, and answered with this status.
    NotDoneBut(u16),
}

/// Makes connections that lie.
#[derive(Clone, Debug)]
pub struct LyingConnector {
    lies: Arc<[Lie]>,
    told: Arc<AtomicUsize>,
}

impl LyingConnector {
    pub fn new(lies: &[Lie]) -> Self {
        Self {
            lies: lies.into(),
            told: Arc::default(),
        }
    }

    /// How many conditional writes came by.
    pub fn writes(&self) -> usize {
        self.told.load(Ordering::Relaxed)
    }
}

impl HttpConnector for LyingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(LyingService {
            honest: ReqwestConnector::default().connect(options)?,
            connector: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct LyingService {
    honest: HttpClient,
    connector: LyingConnector,
}

#[async_trait]
impl HttpService for LyingService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let headers = request.headers();
        let conditional = request.method().as_str() == "PUT"
            && (headers.contains_key("if-match") || headers.contains_key("if-none-match"));
        if !conditional {
            return self.honest.execute(request).await;
        }
        let number = self.connector.told.fetch_add(1, Ordering::Relaxed);
        let lies = &self.connector.lies;
        let broken = |kind| HttpError::new(kind, io::Error::from(io::ErrorKind::ConnectionReset));
        match lies[number % lies.len()] {
            Lie::Truth => self.honest.execute(request).await,
            Lie::DoneAndBroken => {
                self.honest.execute(request).await?;
                Err(broken(HttpErrorKind::Request))
            }
            Lie::DoneAndSilent => {
                self.honest.execute(request).await?;
                Err(broken(HttpErrorKind::Interrupted))
            }
            Lie::DoneAnd(status) => {
                let mut answer = self.honest.execute(request).await?;
                *answer.status_mut() = status.try_into().unwrap();
                Ok(answer)
            }
            Lie::NotDoneBut(status) => {
                // Any answer serves as the envelope.
                let mut other = request.clone();
                *other.method_mut() = "HEAD".try_into().unwrap();
                let mut answer = self.honest.execute(other).await?;
                *answer.status_mut() = status.try_into().unwrap();
                Ok(answer)
            }
        }
    }
}
