//! Interleaved timing and the printed table.

use std::future::Future;
use std::time::{Duration, Instant};

/// One line of the scorecard.
struct Line {
    what: String,
    ours: String,
    baseline: String,
    ratio: Option<f64>,
    target: Option<f64>,
}

/// The lines so far.
#[derive(Default)]
pub(crate) struct Report(Vec<Line>);

impl Report {
    /// Adds a comparison of two durations.
    pub(crate) fn ratio(
        &mut self,
        what: &str,
        ours: Duration,
        baseline: Duration,
        target: Option<f64>,
    ) {
        let ratio = ours.as_secs_f64() / baseline.as_secs_f64();
        self.push(Line {
            what: what.to_owned(),
            ours: millis(ours),
            baseline: millis(baseline),
            ratio: Some(ratio),
            target,
        });
    }

    /// Adds a comparison of two counts.
    pub(crate) fn counts(&mut self, what: &str, ours: u64, baseline: u64, target: Option<f64>) {
        self.push(Line {
            what: what.to_owned(),
            ours: ours.to_string(),
            baseline: baseline.to_string(),
            ratio: Some(ours as f64 / baseline.max(1) as f64),
            target,
        });
    }

    /// Adds a figure without a baseline.
    pub(crate) fn note(&mut self, what: &str, value: impl ToString, limit: &str) {
        self.push(Line {
            what: what.to_owned(),
            ours: value.to_string(),
            baseline: limit.to_owned(),
            ratio: None,
            target: None,
        });
    }

    fn push(&mut self, line: Line) {
        eprintln!("{}", line.text());
        self.0.push(line);
    }

    /// Prints the whole table.
    pub(crate) fn print(&self) {
        println!(
            "{:<58} {:>12} {:>14} {:>7} {:>7}",
            "what", "ours", "baseline", "ratio", "target"
        );
        for line in &self.0 {
            println!("{}", line.text());
        }
    }
}

impl Line {
    fn text(&self) -> String {
        let number = |n: Option<f64>| n.map(|n| format!("{n:.2}")).unwrap_or_default();
        format!(
            "{:<58} {:>12} {:>14} {:>7} {:>7}{}",
            self.what,
            self.ours,
            self.baseline,
            number(self.ratio),
            number(self.target),
            match (self.ratio, self.target) {
                (Some(r), Some(t)) if r > t => "  MISSED",
                _ => "",
            }
        )
    }
}

fn millis(d: Duration) -> String {
    format!("{:.1} ms", d.as_secs_f64() * 1000.0)
}

/// The time of one run.
pub(crate) async fn time<F: Future>(work: F) -> (Duration, F::Output) {
    let start = Instant::now();
    let out = work.await;
    (start.elapsed(), out)
}

/// Best times of `ours` and `baseline`, run in turns; the argument is the round.
pub(crate) async fn best_of<A, B>(
    rounds: usize,
    mut ours: impl FnMut(usize) -> A,
    mut baseline: impl FnMut(usize) -> B,
) -> (Duration, Duration)
where
    A: Future,
    B: Future,
{
    let mut best = (Duration::MAX, Duration::MAX);
    for round in 0..rounds {
        best.1 = best.1.min(time(baseline(round)).await.0);
        best.0 = best.0.min(time(ours(round)).await.0);
    }
    best
}
