//! What integration tests share: sessions, child processes and their deaths, real servers, stores that fail
//! on purpose.
// Each test module uses a part of it.
#![allow(dead_code)]

pub(crate) mod allocations;
pub(crate) mod azure;
pub(crate) mod capture;
pub(crate) mod child;
pub(crate) mod cloud;
pub(crate) mod disk;
pub(crate) mod disk_model;
pub(crate) mod fault_store;
pub(crate) mod gcs;
pub(crate) mod kill;
pub(crate) mod killed_table;
pub(crate) mod location;
pub(crate) mod lying_http;
pub(crate) mod programs;
pub(crate) mod s3;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod sql;
pub(crate) mod trace;
