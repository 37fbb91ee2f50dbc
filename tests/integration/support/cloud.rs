//! The object stores that real servers stand for, as one type.

use std::sync::Arc;
use std::time::Duration;

use object_store::client::HttpConnector;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::gcs::JsonWrites;
use super::lying_http::LyingConnector;
use super::{azure, gcs, location, s3};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cloud {
    S3,
    Azure,
    Gcs,
}

pub(crate) const CLOUDS: [Cloud; 3] = [Cloud::S3, Cloud::Azure, Cloud::Gcs];

impl Cloud {
    /// Where this process' server is, started if need be.
    pub(crate) async fn endpoint(self) -> &'static str {
        match self {
            Self::S3 => s3::server().await.endpoint(),
            Self::Azure => azure::server().await.endpoint(),
            Self::Gcs => gcs::server().await.endpoint(),
        }
    }

    /// A prefix on this process' server, as text.
    pub(crate) async fn location(self, prefix: &str) -> String {
        match self {
            Self::S3 => location::s3(prefix).await,
            Self::Azure => location::azure(prefix).await,
            Self::Gcs => location::gcs(prefix).await,
        }
    }

    /// The URL of a prefix, for a session.
    pub(crate) fn url(self, prefix: &str) -> String {
        match self {
            Self::S3 => format!("s3://{}/{prefix}/", s3::BUCKET),
            Self::Azure => format!("az://{}/{prefix}/", azure::CONTAINER),
            Self::Gcs => format!("gs://{}/{prefix}/", gcs::BUCKET),
        }
    }

    /// A client that tells the truth.
    pub(crate) fn client(self, endpoint: &str) -> Arc<dyn ObjectStore> {
        match self {
            Self::S3 => Arc::new(s3::client(endpoint)),
            Self::Azure => Arc::new(azure::client(endpoint)),
            Self::Gcs => Arc::new(gcs::client(endpoint)),
        }
    }

    /// A client of the server at `endpoint` whose connections lie.
    pub(crate) fn lying(
        self,
        endpoint: &str,
        retry: RetryConfig,
        connector: &LyingConnector,
    ) -> Arc<dyn ObjectStore> {
        match self {
            Self::Gcs => {
                let connector = connector.clone().over(JsonWrites::default());
                self.connected(endpoint, retry, connector)
            }
            _ => self.connected(endpoint, retry, connector.clone()),
        }
    }

    fn connected(
        self,
        endpoint: &str,
        retry: RetryConfig,
        connector: impl HttpConnector,
    ) -> Arc<dyn ObjectStore> {
        match self {
            Self::S3 => Arc::new(
                s3::builder(endpoint)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .unwrap(),
            ),
            Self::Azure => Arc::new(
                azure::builder(endpoint)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .unwrap(),
            ),
            Self::Gcs => Arc::new(
                gcs::builder(endpoint)
                    .with_retry(retry)
                    .with_http_connector(connector)
                    .build()
                    .unwrap(),
            ),
        }
    }
}

/// Retries of the client library, so many, without the waits between them.
pub(crate) fn quick_retries(max_retries: usize) -> RetryConfig {
    RetryConfig {
        max_retries,
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(1),
            max_backoff: Duration::from_millis(5),
            base: 2.0,
        },
        ..RetryConfig::default()
    }
}
