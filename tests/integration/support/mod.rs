//! What integration tests share: sessions, child processes and their deaths, real servers, stores that fail
//! on purpose.
// Each test module uses a part of it.
#![allow(dead_code)]

pub mod allocations;
pub mod azure;
pub mod capture;
pub mod child;
pub mod cloud;
pub mod disk;
pub mod disk_model;
pub mod fault_store;
pub mod gcs;
pub mod kill;
pub mod killed_table;
pub mod location;
pub mod lying_http;
pub mod programs;
pub mod s3;
pub mod server;
pub mod session;
pub mod sql;
pub mod trace;
