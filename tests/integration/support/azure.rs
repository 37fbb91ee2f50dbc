//! A real Azure Blob server: Azurite, one per test process, started when first asked for.

use std::process::Command;
use std::time::{Duration, Instant};

use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};
use tokio::sync::OnceCell;

use super::server::{Server, free_ports, installed};

pub(crate) const CONTAINER: &str = "tables";
/// The account that every Azurite has; its key is public.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// `object_store` cannot create containers, and the request needs a signature.
const CREATE_CONTAINER: &str = r#"
const [port, account, key, container] = process.argv.slice(1);
const date = new Date().toUTCString(), version = '2021-12-02';
const text = ['PUT', '', '', '', '', '', '', '', '', '', '', '',
    `x-ms-date:${date}`, `x-ms-version:${version}`,
    `/${account}/${account}/${container}`, 'restype:container'].join('\n');
const signature = require('crypto')
    .createHmac('sha256', Buffer.from(key, 'base64')).update(text, 'utf8').digest('base64');
const request = require('http').request({
    host: '127.0.0.1', port, method: 'PUT', path: `/${account}/${container}?restype=container`,
    headers: { 'x-ms-date': date, 'x-ms-version': version, 'content-length': 0,
        authorization: `SharedKey ${account}:${signature}` },
}, answer => {
    answer.on('data', data => process.stderr.write(data));
    answer.on('end', () => process.exit([201, 409].includes(answer.statusCode) ? 0 : 1));
});
request.on('error', () => process.exit(1));
request.end();
"#;

pub(crate) struct AzureServer {
    endpoint: String,
    _server: Server,
}

impl AzureServer {
    /// `http://127.0.0.1:<port>`
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// A client of the server at `endpoint`, for the container [`CONTAINER`].
pub(crate) fn client(endpoint: &str) -> MicrosoftAzure {
    builder(endpoint).build().unwrap()
}

/// The settings of [`client`], to be changed further.
pub(crate) fn builder(endpoint: &str) -> MicrosoftAzureBuilder {
    MicrosoftAzureBuilder::new()
        .with_endpoint(format!("{endpoint}/{ACCOUNT}"))
        .with_allow_http(true)
        .with_account(ACCOUNT)
        .with_access_key(KEY)
        .with_container_name(CONTAINER)
}

/// This process' server.
pub(crate) async fn server() -> &'static AzureServer {
    static SERVER: OnceCell<AzureServer> = OnceCell::const_new();
    SERVER.get_or_init(start).await
}

async fn start() -> AzureServer {
    let program = [String::from("node"), installed("azure")];
    for _ in 0..3 {
        let [port] = free_ports();
        let server = Server::start(&program, |folder| {
            [
                "--blobHost",
                "127.0.0.1",
                "--blobPort",
                &port.to_string(),
                "--location",
                folder,
                "--silent",
                "--disableTelemetry",
                "--skipApiVersionCheck",
            ]
            .map(str::to_owned)
            .to_vec()
        });
        if is_ready(port).await {
            return AzureServer {
                endpoint: format!("http://127.0.0.1:{port}"),
                _server: server,
            };
        }
        eprintln!("the Azure server did not start:\n{}", server.log());
        server.stop();
    }
    panic!("the Azure server did not start");
}

async fn is_ready(port: u16) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut errors = String::new();
    while Instant::now() < deadline {
        let created = Command::new("node")
            .args([
                "-e",
                CREATE_CONTAINER,
                &port.to_string(),
                ACCOUNT,
                KEY,
                CONTAINER,
            ])
            .output()
            .unwrap();
        if created.status.success() {
            return true;
        }
        errors = String::from_utf8_lossy(&created.stderr).into_owned();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    eprintln!("the container was not created: {errors}");
    false
}
