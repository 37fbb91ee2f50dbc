//! A GCS server: fake-gcs-server, one per test process, started when first asked for.
//!
//! It knows the JSON API, and of the XML API that `object_store` speaks only reads, listings and deletes. So
//! [`JsonWrites`] stands between the client and the server and turns writes into calls of the JSON API:
//!
//! | `object_store` sends | the server gets |
//! | --- | --- |
//! | `PUT`, with `x-goog-if-generation-match` or without | a multipart upload, with `ifGenerationMatch` |
//! | an XML multipart upload | its parts stay here; when it is completed, one upload as above |
//! | `PUT` with `x-goog-copy-source` | `rewriteTo`; conditional copies are refused |
//! | `GET` with `if-none-match` | the same; an answer of that ETag becomes a 304 |
//!
//! So it proves what the generation of an object is used for, atomicity on the server included. It does not prove
//! the wire format of writes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::lying_http::answer;
use super::server::{Server, free_ports, installed};

pub(crate) const BUCKET: &str = "tables";
const KEY: &str = r#"{"private_key": "none", "private_key_id": "none", "client_email": "none", "disable_oauth": true}"#;

pub(crate) struct GcsServer {
    endpoint: String,
    _server: Server,
}

impl GcsServer {
    /// `http://127.0.0.1:<port>`
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// This process' server.
pub(crate) async fn server() -> &'static GcsServer {
    static SERVER: OnceCell<GcsServer> = OnceCell::const_new();
    SERVER.get_or_init(start).await
}

/// A client of the server at `endpoint`, for the bucket [`BUCKET`].
pub(crate) fn client(endpoint: &str) -> GoogleCloudStorage {
    builder(endpoint)
        .with_http_connector(JsonWrites::default())
        .build()
        .unwrap()
}

/// The settings of [`client`], to be changed further, but for its connector.
pub(crate) fn builder(endpoint: &str) -> GoogleCloudStorageBuilder {
    GoogleCloudStorageBuilder::new()
        .with_base_url(endpoint)
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_service_account_key(KEY)
        .with_bucket_name(BUCKET)
}

async fn start() -> GcsServer {
    let program = installed("gcs");
    for _ in 0..3 {
        let [port] = free_ports();
        let endpoint = format!("http://127.0.0.1:{port}");
        let server = Server::start(std::slice::from_ref(&program), |_| {
            [
                "-backend=memory",
                "-scheme=http",
                "-host=127.0.0.1",
                &format!("-port={port}"),
                &format!("-public-host=127.0.0.1:{port}"),
                &format!("-external-url={endpoint}"),
                "-log-level=warn",
            ]
            .map(str::to_owned)
            .to_vec()
        });
        if is_ready(&endpoint).await {
            return GcsServer {
                endpoint,
                _server: server,
            };
        }
        eprintln!("the GCS server did not start:\n{}", server.log());
        server.stop();
    }
    panic!("the GCS server did not start");
}

/// `object_store` cannot create buckets.
async fn is_ready(endpoint: &str) -> bool {
    let options = ClientOptions::new()
        .with_allow_http(true)
        .with_timeout(Duration::from_secs(5));
    let client = ReqwestConnector::default().connect(&options).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let bucket = serde_json::json!({ "name": BUCKET }).to_string();
        let mut request = HttpRequest::new(bucket.into());
        *request.method_mut() = "POST".try_into().unwrap();
        *request.uri_mut() = format!("{endpoint}/storage/v1/b?project=tests")
            .parse()
            .unwrap();
        let json = "application/json".parse().unwrap();
        request.headers_mut().insert("content-type", json);
        if let Ok(answer) = client.execute(request).await {
            // Or it exists: the server was slow to say so.
            return answer.status().is_success() || answer.status().as_u16() == 409;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

type Uploads = HashMap<String, BTreeMap<usize, Bytes>>;

/// Makes connections on which writes go through the JSON API.
#[derive(Clone, Debug, Default)]
pub(crate) struct JsonWrites {
    uploads: Arc<Mutex<Uploads>>,
}

impl HttpConnector for JsonWrites {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(JsonWriter {
            server: ReqwestConnector::default().connect(options)?,
            uploads: Arc::clone(&self.uploads),
        }))
    }
}

#[derive(Debug)]
struct JsonWriter {
    server: HttpClient,
    uploads: Arc<Mutex<Uploads>>,
}

/// Where an object is, as its request has it.
struct Object {
    /// Of the server, without a slash at the end.
    base: String,
    bucket: String,
    /// Percent-encoded.
    name: String,
}

impl Object {
    fn of(request: &HttpRequest) -> Self {
        let uri = request.uri();
        let path = uri.path().strip_prefix('/').unwrap();
        let (bucket, name) = path.split_once('/').unwrap();
        Self {
            base: format!("http://{}", uri.authority().unwrap()),
            bucket: bucket.to_owned(),
            // Slashes are part of the name to the JSON API.
            name: name.replace('/', "%2F"),
        }
    }
}

fn parameter(request: &HttpRequest, name: &str) -> Option<String> {
    let query = request.uri().query()?;
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn header(request: &HttpRequest, name: &str) -> Option<String> {
    Some(request.headers().get(name)?.to_str().unwrap().to_owned())
}

fn post(uri: String, content_type: &str, body: Bytes) -> HttpRequest {
    let mut request = HttpRequest::new(body.into());
    *request.method_mut() = "POST".try_into().unwrap();
    *request.uri_mut() = uri.parse().unwrap();
    let content_type = content_type.parse().unwrap();
    request.headers_mut().insert("content-type", content_type);
    request
}

impl JsonWriter {
    /// Uploads an object, if it has this generation; answers as the XML API does.
    async fn upload(
        &self,
        object: &Object,
        generation: Option<String>,
        body: &[u8],
    ) -> Result<HttpResponse, HttpError> {
        let boundary = Uuid::new_v4().simple().to_string();
        let decoded = url::form_urlencoded::parse(format!("n={}", object.name).as_bytes())
            .next()
            .unwrap()
            .1
            .into_owned();
        let metadata = serde_json::json!({ "name": decoded });
        let whole = [
            format!("--{boundary}\r\ncontent-type: application/json\r\n\r\n{metadata}\r\n--{boundary}\r\ncontent-type: application/octet-stream\r\n\r\n").as_bytes(),
            body,
            format!("\r\n--{boundary}--").as_bytes(),
        ]
        .concat();
        let condition = match generation {
            Some(generation) => format!("&ifGenerationMatch={generation}"),
            None => String::new(),
        };
        let uri = format!(
            "{}/upload/storage/v1/b/{}/o?uploadType=multipart{condition}",
            object.base, object.bucket
        );
        let content_type = format!("multipart/related; boundary={boundary}");
        let found = self
            .server
            .execute(post(uri, &content_type, whole.into()))
            .await?;
        if !found.status().is_success() {
            return Ok(found);
        }
        let written: serde_json::Value =
            serde_json::from_slice(&found.into_body().bytes().await?).unwrap();
        let e_tag = format!("\"{}\"", written["etag"].as_str().unwrap());
        let generation = written["generation"].as_str().unwrap();
        let mut done = answer(200);
        let headers = done.headers_mut();
        headers.insert("etag", e_tag.parse().unwrap());
        headers.insert("x-goog-generation", generation.parse().unwrap());
        Ok(done)
    }

    async fn copy(&self, request: &HttpRequest, from: &str) -> Result<HttpResponse, HttpError> {
        if header(request, "x-goog-if-generation-match").is_some() {
            return Ok(answer(501));
        }
        let to = Object::of(request);
        let (bucket, name) = from.split_once('/').unwrap();
        let uri = format!(
            "{}/storage/v1/b/{bucket}/o/{name}/rewriteTo/b/{}/o/{}",
            to.base, to.bucket, to.name
        );
        let copied = post(uri, "application/json", Bytes::from_static(b"{}"));
        self.server.execute(copied).await
    }

    fn begin(&self) -> HttpResponse {
        let id = Uuid::new_v4().simple().to_string();
        let xml = format!(
            "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
        );
        self.uploads.lock().unwrap().insert(id, BTreeMap::new());
        let mut begun = answer(200);
        *begun.body_mut() = xml.into();
        begun
    }

    fn keep(&self, id: &str, part: usize, body: Bytes) -> HttpResponse {
        let mut uploads = self.uploads.lock().unwrap();
        let Some(upload) = uploads.get_mut(id) else {
            return answer(404);
        };
        upload.insert(part, body);
        let mut kept = answer(200);
        let e_tag = format!("\"part {part}\"").parse().unwrap();
        kept.headers_mut().insert("etag", e_tag);
        kept
    }

    async fn complete(&self, id: &str, object: &Object) -> Result<HttpResponse, HttpError> {
        // Gone once it is completed, as on the real server.
        let Some(parts) = self.uploads.lock().unwrap().remove(id) else {
            return Ok(answer(404));
        };
        let body = parts.into_values().collect::<Vec<_>>().concat();
        let mut done = self.upload(object, None, &body).await?;
        if let Some(e_tag) = done.headers().get("etag") {
            let e_tag = e_tag.to_str().unwrap().replace('"', "&quot;");
            *done.body_mut() = format!(
                "<CompleteMultipartUploadResult><ETag>{e_tag}</ETag></CompleteMultipartUploadResult>"
            )
            .into();
        }
        Ok(done)
    }
}

#[async_trait]
impl HttpService for JsonWriter {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let upload = parameter(&request, "uploadId");
        match (request.method().as_str(), upload) {
            ("PUT", Some(upload)) => {
                let part = parameter(&request, "partNumber").unwrap().parse().unwrap();
                let body = request.into_body().collect().await?.to_bytes();
                Ok(self.keep(&upload, part, body))
            }
            ("PUT", None) => {
                if let Some(from) = header(&request, "x-goog-copy-source") {
                    return self.copy(&request, &from).await;
                }
                let object = Object::of(&request);
                let generation = header(&request, "x-goog-if-generation-match");
                let body = request.into_body().collect().await?.to_bytes();
                self.upload(&object, generation, &body).await
            }
            ("POST", Some(upload)) => self.complete(&upload, &Object::of(&request)).await,
            ("POST", None) => Ok(self.begin()),
            ("DELETE", Some(upload)) => {
                self.uploads.lock().unwrap().remove(&upload);
                Ok(answer(204))
            }
            _ => {
                let known = header(&request, "if-none-match");
                let mut found = self.server.execute(request).await?;
                let same = found
                    .headers()
                    .get("etag")
                    .is_some_and(|e_tag| Some(e_tag.to_str().unwrap()) == known.as_deref());
                if same && found.status().is_success() {
                    found = answer(304);
                }
                Ok(found)
            }
        }
    }
}
