//! Mutations from INTENT to COMPLETE, on a store that crashes, loses answers and has latency.
//!
//! No Parquet here: a superfile is an object that says its label and its rows, so that the state of a table
//! is the set of its live (label, position) pairs, and a lost or doubled row shows.

mod conflicts;
mod crashes;
mod damage;
mod drops;
mod fencing;
mod restores;
mod round_trips;
mod throughput;
mod together;
mod travel;
mod vacuum;
mod world;
