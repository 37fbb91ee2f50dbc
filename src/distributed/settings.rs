//! What goes to a worker beside a plan.
//!
//! The engine starts each worker's session with defaults. What an expression yields can depend on a setting (the time
//! zone, how division by zero is taken), so all that differ from their defaults are sent along; and so are the functions
//! that were made for the statement ([`functions_wire`](super::functions_wire)). Both go as an extension of the
//! session's configuration, which the engine sends in headers.

use datafusion::common::{Result, exec_datafusion_err, extensions_options};
use datafusion::config::{ConfigExtension, ConfigOptions};
use datafusion::prelude::SessionConfig;
use datafusion_distributed::DistributedExt;

use crate::format::hex;

/// Settings of a session that mean nothing to another process.
const LEFT_OUT: [&str; 2] = ["datafusion.catalog.", "datafusion.runtime."];

extensions_options! {
    /// What goes beside a plan, in hexadecimal digits.
    pub(super) struct Beside {
        /// The settings that differ from their defaults.
        pub(super) settings: String, default = String::new()
        /// The functions.
        pub(super) functions: String, default = String::new()
        /// Whether the engine's functions were made anew for the settings.
        pub(super) remade: bool, default = false
    }
}

impl ConfigExtension for Beside {
    const PREFIX: &'static str = "supertable_plan";
}

/// `config`, that sends its settings and `functions` along, and whether others were `remade`.
pub(super) fn with_sent(
    config: SessionConfig,
    functions: &str,
    remade: bool,
) -> Result<SessionConfig> {
    let defaults = ConfigOptions::default().entries();
    let changed = config.options().entries().into_iter().filter(|entry| {
        let travels = entry.key.starts_with("datafusion.")
            && !LEFT_OUT.iter().any(|prefix| entry.key.starts_with(prefix));
        let default = defaults.iter().find(|known| known.key == entry.key);
        travels && default.is_some_and(|known| known.value != entry.value)
    });
    let changed: Vec<(String, Option<String>)> =
        changed.map(|entry| (entry.key, entry.value)).collect();
    let json = serde_json::to_vec(&changed)
        .map_err(|e| exec_datafusion_err!("the session's settings: {e}"))?;
    Ok(config.with_distributed_option_extension(Beside {
        settings: hex::encode(&json),
        functions: functions.to_owned(),
        remade,
    }))
}

/// Takes over settings that were sent along.
pub(super) fn take_settings(beside: &Beside, config: &mut SessionConfig) -> Result<()> {
    if beside.settings.is_empty() {
        return Ok(());
    }
    let damaged = || exec_datafusion_err!("the settings that came to this worker cannot be read");
    let json = hex::decode(&beside.settings).ok_or_else(damaged)?;
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
