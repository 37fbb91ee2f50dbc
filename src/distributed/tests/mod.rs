//! The codec by round trip and by damage, and how scans are dealt out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod codec;
mod dealt;
mod travel;
