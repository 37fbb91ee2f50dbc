//! A line on the terminal that says how far a compaction or a vacuum is.
//!
//! Owns the drawing, from the `tracing` events that long operations send. Does not own those events, nor who
//! hears them (`logs`). There is a line only if the error output is a terminal. Invariant: once the operation is done the line is gone, so that what is printed
//! afterwards stands where it would have.

use std::fmt;
use std::io::{IsTerminal, Write};

use tracing::Event;
use tracing::field::{Field, Visit};

/// Characters of the bar.
const WIDTH: u64 = 24;

/// The line, if the error output is a terminal.
pub(super) fn line() -> Option<ProgressLine> {
    std::io::stderr().is_terminal().then_some(ProgressLine)
}

/// See the module.
pub(super) struct ProgressLine;

impl ProgressLine {
    /// Shows what an event of the target [`PROGRESS`](crate::table::PROGRESS) says.
    pub(super) fn draw(&self, event: &Event<'_>) {
        let mut step = Step::default();
        event.record(&mut step);
        // A terminal that cannot be written to shows no progress.
        let mut terminal = std::io::stderr().lock();
        let _ = write!(terminal, "\r\x1b[2K{step}");
        let _ = terminal.flush();
    }
}

/// How far an operation is.
#[derive(Debug, Default)]
struct Step {
    operation: String,
    done: u64,
    total: u64,
    bytes: u64,
}

impl Visit for Step {
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

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.done >= self.total {
            return Ok(());
        }
        let full = self.done.saturating_mul(WIDTH) / self.total.max(1);
        let bar: String = (0..WIDTH)
            .map(|at| if at < full { '#' } else { '.' })
            .collect();
        write!(
            f,
            "{} [{bar}] {} of {}, {:.1} MB",
            self.operation,
            self.done,
            self.total,
            self.bytes as f64 / 1e6
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Step;

    #[test]
    fn the_bar_fills_and_leaves_nothing_at_the_end() {
        let step = |done| Step {
            operation: "vacuum".to_owned(),
            done,
            total: 4,
            bytes: 1_500_000,
        };
        assert_eq!(
            step(1).to_string(),
            "vacuum [######..................] 1 of 4, 1.5 MB"
        );
        assert_eq!(step(4).to_string(), "");
        assert_eq!(Step::default().to_string(), "");
    }
}
