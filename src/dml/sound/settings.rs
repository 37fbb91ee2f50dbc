//! The session's settings, as functions in a plan share them.

use std::cell::OnceCell;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;

/// Settings that are copied once, if anything needs a copy.
pub(super) struct Settings<'a> {
    own: &'a ConfigOptions,
    shared: OnceCell<Arc<ConfigOptions>>,
}

impl<'a> Settings<'a> {
    pub(super) fn of(own: &'a ConfigOptions) -> Self {
        Self {
            own,
            shared: OnceCell::new(),
        }
    }

    pub(super) fn get(&self) -> &ConfigOptions {
        self.own
    }

    pub(super) fn shared(&self) -> &Arc<ConfigOptions> {
        self.shared.get_or_init(|| Arc::new(self.own.clone()))
    }
}
