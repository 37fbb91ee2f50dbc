//! What the process says while it works: events to the error output where `RUST_LOG` asks for them.
//!
//! Owns the one `tracing` subscriber of the process: it hands this crate's events to the logger that also
//! takes DataFusion's records, so that one filter is for both, and the progress of long operations to the
//! line on the terminal. Does not own either of them. Without `RUST_LOG` nothing is logged.
//!
//! Spans are not printed: an event names what it is about itself.

use std::fmt::{self, Write};

use env_logger::Env;
use log::{Level, Record};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};

use super::progress::ProgressLine;
use crate::table::PROGRESS;

/// Sets up logging for the rest of the process; `progress` is shown, if there is a line for it.
pub(super) fn begin(progress: Option<ProgressLine>) {
    // A program that has set a logger or a subscriber already wants the messages elsewhere.
    let _ = env_logger::Builder::from_env(Env::default().default_filter_or("off")).try_init();
    let _ = tracing::subscriber::set_global_default(Logs { progress });
}

struct Logs {
    progress: Option<ProgressLine>,
}

fn level(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

impl Logs {
    fn is_logged(metadata: &Metadata<'_>) -> bool {
        let about = log::Metadata::builder()
            .level(level(metadata))
            .target(metadata.target())
            .build();
        log::logger().enabled(&about)
    }
}

impl Subscriber for Logs {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_progress = metadata.target() == PROGRESS && self.progress.is_some();
        metadata.is_event() && (is_progress || Self::is_logged(metadata))
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if metadata.target() == PROGRESS
            && let Some(progress) = &self.progress
        {
            progress.draw(event);
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        log::logger().log(
            &Record::builder()
                .level(level(metadata))
                .target(metadata.target())
                .args(format_args!("{}{}", text.message, text.fields))
                .build(),
        );
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// An event as one line: its message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
