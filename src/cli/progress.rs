//! Lines on the terminal that say how far a compaction, a vacuum or a long write is.
//!
//! Owns what is drawn (by `indicatif`), from the `tracing` events that long operations send. Does not own those events,
//! nor where they go (`logs`). Something is drawn only if the error output is a terminal.
//! Invariant: once the operation or its statement is over, the line is gone, so that what is
//! printed afterwards stands where it would have.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use tracing::Event;
use tracing::field::{Field, Visit};

/// What is over sooner is not worth a line.
const PATIENCE: Duration = Duration::from_millis(500);

const KNOWN_END: &str = "{prefix} [{bar:24}] {human_pos} of {human_len}, {msg} ({elapsed})";
const OPEN_END: &str = "{prefix} {spinner} {human_pos} rows, {msg} ({elapsed})";

static LINES: LazyLock<Lines> = LazyLock::new(Lines::default);

/// The place for progress, if the error output is a terminal.
pub(super) fn line() -> Option<ProgressLine> {
    std::io::stderr().is_terminal().then_some(ProgressLine)
}

/// See the module.
pub(super) struct ProgressLine;

impl ProgressLine {
    /// Shows what an event of the target [`PROGRESS`](crate::table::PROGRESS) says.
    pub(super) fn draw(&self, event: &Event<'_>) {
        let mut step = Progress::default();
        event.record(&mut step);
        LINES.draw(step, PATIENCE);
    }
}

/// Takes away what is drawn: the statement is over, however it ended.
pub(super) fn clear() {
    let over = std::mem::take(&mut *LINES.operations());
    over.into_values().for_each(Operation::end);
}

/// The operations that are under way, by name.
#[derive(Default)]
struct Lines {
    operations: Mutex<BTreeMap<String, Operation>>,
    drawn: MultiProgress,
}

struct Operation {
    since: Instant,
    line: Option<ProgressBar>,
}

impl Operation {
    fn end(self) {
        if let Some(line) = self.line {
            line.finish_and_clear();
        }
    }
}

impl Lines {
    fn operations(&self) -> MutexGuard<'_, BTreeMap<String, Operation>> {
        self.operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn draw(&self, step: Progress, patience: Duration) {
        let mut operations = self.operations();
        if step.is_last() {
            if let Some(over) = operations.remove(&step.operation) {
                over.end();
            }
            return;
        }
        let name = step.operation.clone();
        let operation = operations.entry(name).or_insert_with(|| Operation {
            since: Instant::now(),
            line: None,
        });
        if operation.since.elapsed() < patience {
            return;
        }
        let line = operation.line.get_or_insert_with(|| {
            let line = step.new_line().with_elapsed(operation.since.elapsed());
            self.drawn.add(line)
        });
        line.set_message(HumanBytes(step.bytes).to_string());
        line.set_position(step.done);
    }
}

/// How far an operation is.
#[derive(Debug, Default)]
struct Progress {
    operation: String,
    done: u64,
    /// 0 if it is not known.
    total: u64,
    bytes: u64,
}

impl Progress {
    fn is_last(&self) -> bool {
        self.total > 0 && self.done >= self.total
    }

    fn new_line(&self) -> ProgressBar {
        let (line, template) = match self.total {
            0 => (ProgressBar::new_spinner(), OPEN_END),
            total => (ProgressBar::new(total), KNOWN_END),
        };
        // A template that indicatif does not know would be a mistake of ours: its own style will do.
        let style = ProgressStyle::with_template(template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("#>.");
        line.with_style(style).with_prefix(self.operation.clone())
    }
}

impl Visit for Progress {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "done" => self.done = value,
            "total" => self.total = value,
            "bytes" => self.bytes = value,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "operation" {
            value.clone_into(&mut self.operation);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressDrawTarget;

    use super::*;

    fn step(operation: &str, done: u64, total: u64) -> Progress {
        Progress {
            operation: operation.to_owned(),
            done,
            total,
            bytes: 1 << 20,
        }
    }

    #[test]
    fn a_line_comes_only_for_what_takes_long_and_goes_at_the_end() {
        let lines = Lines {
            operations: Mutex::default(),
            drawn: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()),
        };
        let line = |name: &str| {
            let operations = lines.operations();
            operations
                .get(name)
                .and_then(|operation| operation.line.clone())
        };
        lines.draw(step("optimize", 1, 4), Duration::from_secs(3600));
        assert!(line("optimize").is_none());
        lines.draw(step("optimize", 2, 4), Duration::ZERO);
        lines.draw(step("write", 12_345, 0), Duration::ZERO);
        let (optimize, write) = (line("optimize"), line("write"));
        assert_eq!(optimize.as_ref().map(ProgressBar::position), Some(2));
        assert_eq!(write.as_ref().map(ProgressBar::position), Some(12_345));
        lines.draw(step("write", 20_000, 20_000), Duration::ZERO);
        assert!(line("write").is_none() && line("optimize").is_some());
        assert!(write.is_some_and(|line| line.is_finished()));
        lines.draw(step("optimize", 4, 4), Duration::ZERO);
        assert!(optimize.is_some_and(|line| line.is_finished()));
    }

    #[test]
    fn the_templates_are_ones_that_indicatif_knows() {
        for template in [KNOWN_END, OPEN_END] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
