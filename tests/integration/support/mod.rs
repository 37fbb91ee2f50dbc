//! What integration tests share: child processes, real servers, a store that fails on purpose.
// Each test module uses a part of it.
#![allow(dead_code)]

pub mod allocations;
pub mod azure;
pub mod capture;
pub mod child;
pub mod fault_store;
pub mod location;
pub mod lying_http;
pub mod s3;
pub mod server;
