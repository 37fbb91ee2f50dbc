//! Recovery of what dead writers began.

pub(crate) mod recover;

pub use recover::RecoveryReport;
