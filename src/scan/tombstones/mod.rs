//! Deleted rows: how a scan leaves them out.

mod filter;
pub(crate) mod mark;
pub(crate) mod mask;
pub(crate) mod selection;
