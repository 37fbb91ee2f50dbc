//! The session's settings, on their way to a worker.
//!
//! The engine starts each worker's session with defaults. What an expression yields can depend on a setting (the time
//! zone, how division by zero is taken), so all that differ from their defaults are sent along, in a header.

use datafusion::common::{Result, exec_datafusion_err};
use datafusion::config::ConfigOptions;
use datafusion::prelude::SessionConfig;
use datafusion_distributed::DistributedExt;
use tonic::metadata::{MetadataMap, MetadataValue};

/// The header's name.
const HEADER: &str = "x-supertable-settings";

/// Settings of a session that mean nothing to another process.
const LEFT_OUT: [&str; 2] = ["datafusion.catalog.", "datafusion.runtime."];

/// `config`, that sends its settings along.
pub(super) fn with_settings_sent(config: SessionConfig) -> Result<SessionConfig> {
    let defaults = ConfigOptions::default();
    let known = defaults.entries();
    let changed = config.options().entries().into_iter().filter(|entry| {
        let travels = entry.key.starts_with("datafusion.")
            && !LEFT_OUT.iter().any(|prefix| entry.key.starts_with(prefix));
        let default = known.iter().find(|known| known.key == entry.key);
        travels && default.is_some_and(|known| known.value != entry.value)
    });
    let changed: Vec<(String, Option<String>)> =
        changed.map(|entry| (entry.key, entry.value)).collect();
    if changed.is_empty() {
        return Ok(config);
    }
    let json = serde_json::to_vec(&changed)
        .map_err(|e| exec_datafusion_err!("the session's settings: {e}"))?;
    let mut headers = MetadataMap::new();
    let value = MetadataValue::try_from(hex(&json))
        .map_err(|e| exec_datafusion_err!("the session's settings: {e}"))?;
    headers.insert(HEADER, value);
    config.with_distributed_passthrough_headers(headers.into_headers())
}

/// Takes over the settings that came in `headers`.
pub(super) fn take_settings(headers: &MetadataMap, config: &mut SessionConfig) -> Result<()> {
    let Some(value) = headers.get(HEADER) else {
        return Ok(());
    };
    let damaged = || exec_datafusion_err!("the settings that came to this worker cannot be read");
    let json = unhex(value.as_bytes()).ok_or_else(damaged)?;
    let changed: Vec<(String, Option<String>)> =
        serde_json::from_slice(&json).map_err(|_| damaged())?;
    for (key, value) in changed {
        // A setting that has no value was given none.
        if let Some(value) = value {
            config.options_mut().set(&key, &value)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digits = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok()?;
        (pair.len() == 2).then(|| u8::from_str_radix(text, 16).ok())?
    };
    text.chunks(2).map(digits).collect()
}
