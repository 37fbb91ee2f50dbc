//! What integration tests share: child processes and real servers.
// Each test module uses a part of it.
#![allow(dead_code)]

pub mod azure;
pub mod child;
pub mod location;
pub mod lying_http;
pub mod s3;
pub mod server;
