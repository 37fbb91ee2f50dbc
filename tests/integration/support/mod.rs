//! What the integration tests share.

pub mod fault_store;
