//! What the crate says through `tracing`, at every level, while a guard lives.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// One event, or the beginning of a span.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub level: tracing::Level,
    pub target: String,
    /// The name of a span; `None` for an event.
    pub span: Option<&'static str>,
    /// `name=value` of each field, the message as it stands.
    pub text: String,
}

/// Everything that was said on this thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Capture {
    said: Arc<Mutex<Vec<Said>>>,
    spans: Arc<AtomicU64>,
}

impl Capture {
    /// Listens on this thread until the guard is dropped; a test's runtime has one thread.
    pub(crate) fn begin() -> (Self, DefaultGuard) {
        // While there is one dispatcher only, `tracing` lets the thread that comes by a place first decide
        // for all of them whether it is listened to; and other tests' threads have no subscriber.
        static SECOND: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Capture::default()));
        LazyLock::force(&SECOND);
        let capture = Self::default();
        let guard = tracing::subscriber::set_default(capture.clone());
        // What was decided for the subscribers of other tests does not hold for this one.
        tracing::callsite::rebuild_interest_cache();
        (capture, guard)
    }

    /// What was said so far by this crate.
    pub(crate) fn said(&self) -> Vec<Said> {
        self.said.lock().unwrap().clone()
    }

    /// The same as text.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for said in self.said() {
            writeln!(
                text,
                "{} {} {:?} {}",
                said.level, said.target, said.span, said.text
            )
            .unwrap();
        }
        text
    }

    fn push(&self, metadata: &'static Metadata<'static>, span: bool, text: String) {
        self.said.lock().unwrap().push(Said {
            level: *metadata.level(),
            target: metadata.target().to_owned(),
            span: span.then(|| metadata.name()),
            text,
        });
    }
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => write!(self.0, "{value:?} ").unwrap(),
            name => write!(self.0, "{name}={value:?} ").unwrap(),
        }
    }
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("datafusion_supertable")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text::default();
        span.record(&mut text);
        self.push(span.metadata(), true, text.0);
        Id::from_u64(self.spans.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.push(event.metadata(), false, text.0);
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}
