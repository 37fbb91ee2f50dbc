//! A real S3 server: SeaweedFS, one per test process, started when first asked for.

use std::time::{Duration, Instant};

use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStoreExt, PutPayload, RetryConfig};
use tokio::sync::OnceCell;

use super::server::{Server, free_ports, installed};

pub(crate) const BUCKET: &str = "tables";
pub(crate) const ACCESS_KEY: &str = "supertable";
pub(crate) const SECRET_KEY: &str = "supertable-secret";
pub(crate) const REGION: &str = "us-east-1";

pub(crate) struct S3Server {
    endpoint: String,
    _server: Server,
}

impl S3Server {
    /// `http://127.0.0.1:<port>`
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The variables by which a program that reads the usual AWS environment finds this server.
    pub(crate) fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", self.endpoint.clone()),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", REGION.into()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into()),
        ]
    }
}

/// This process' server.
pub(crate) async fn server() -> &'static S3Server {
    static SERVER: OnceCell<S3Server> = OnceCell::const_new();
    SERVER.get_or_init(start).await
}

/// A client of the server at `endpoint`, for the bucket [`BUCKET`].
pub(crate) fn client(endpoint: &str) -> AmazonS3 {
    builder(endpoint).build().unwrap()
}

/// The settings of [`client`], to be changed further.
pub(crate) fn builder(endpoint: &str) -> AmazonS3Builder {
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region(REGION)
        .with_bucket_name(BUCKET)
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET_KEY)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
}

async fn start() -> S3Server {
    let program = installed("s3");
    // A port can be taken between finding it free and listening on it.
    for _ in 0..3 {
        let (endpoint, server) = try_start(&program);
        if is_ready(&endpoint).await {
            return S3Server {
                endpoint,
                _server: server,
            };
        }
        eprintln!("the S3 server did not start:\n{}", server.log());
        server.stop();
    }
    panic!("the S3 server did not start");
}

fn try_start(program: &str) -> (String, Server) {
    let ports = free_ports::<8>();
    let server = Server::start(&[program.to_owned()], |folder| {
        let identities = serde_json::json!({ "identities": [{
            "name": "tests",
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }]});
        let config = format!("{folder}/identities.json");
        std::fs::write(&config, identities.to_string()).unwrap();
        let mut arguments: Vec<String> = [
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-filer",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=64",
            "-volume.max=20",
        ]
        .map(str::to_owned)
        .to_vec();
        let names = [
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
            "s3.port",
            "s3.port.grpc",
        ];
        for (name, port) in names.iter().zip(ports) {
            arguments.push(format!("-{name}={port}"));
        }
        arguments.push(format!("-dir={folder}"));
        arguments.push(format!("-filer.localSocket={folder}/filer.sock"));
        arguments.push(format!("-s3.localSocket={folder}/s3.sock"));
        arguments.push(format!("-s3.config={config}"));
        arguments
    });
    (format!("http://127.0.0.1:{}", ports[6]), server)
}

async fn is_ready(endpoint: &str) -> bool {
    let retry = RetryConfig {
        max_retries: 0,
        ..RetryConfig::default()
    };
    let options = ClientOptions::new()
        .with_allow_http(true)
        .with_timeout(Duration::from_secs(5));
    let client = builder(endpoint)
        .with_retry(retry)
        .with_client_options(options)
        .build()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        // The first upload of an administrator creates the bucket.
        let put = client
            .put(&Path::from("ready"), PutPayload::from_static(b"yes"))
            .await;
        if put.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}
