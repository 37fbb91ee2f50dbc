//! Superfiles: writing them, and what their ends say.

pub(crate) mod bloom;
mod capture;
mod encoder;
mod encoding;
mod floats;
mod footer;
mod key_order;
mod renamed;
mod writer;

pub(crate) use bloom::{ColumnFilter, stored_type};
pub(crate) use encoding::Free;
pub(crate) use footer::{EndError, FileEnd, read_end};
pub(crate) use key_order::{Ascending, KeyOrders};
pub(crate) use writer::{HeldRows, RowIdSource, SuperfileWriter, WriteProgress, WriterOptions};
pub(crate) use writer::{check_not_null, footer_stats, null_count as footer_null_count};
