//! Recovery: ends what dead or slow writers began.
//!
//! `recover` lists the documents, looks at them until it is clear whose owners are dead, and says what it did in a
//! [`RecoveryReport`]; `document` decides about one and carries the decision out.

mod document;
pub(crate) mod recover;
mod report;

pub(crate) use report::RecoveryReport;
