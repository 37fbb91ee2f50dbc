//! What a manifest entry says of the order that a superfile was written in, and with which others.
//!
//! Owns the values. Does not own their encoding (`manifest::entry_wire`), nor what follows from them
//! (`table::compaction`). They travel with the entry through change sets and restores.
//!
//! Superfiles that one compaction wrote along one key are a *run*: within it their rows follow one another, so
//! their bounds overlap no more than the key makes them. Which run a superfile belongs to cannot be seen from its
//! bounds, and planning must not open files; hence this record. Columns are named by field id, so renaming one
//! changes nothing. A superfile without the record, as all are that statements write, is in no order.

use super::ids::SuperfileId;

/// How the rows of a run follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Along a Z-order curve.
    ZOrder,
    /// Along a Hilbert curve.
    Hilbert,
    /// In the order that the table declares.
    Declared,
    /// As they were stored before.
    Stored,
}

/// What rows are ordered along.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterKey {
    /// How.
    pub layout: Layout,
    /// By which columns, as field ids.
    pub columns: Vec<i32>,
}

/// What a manifest entry says of a superfile's order; see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clustering {
    /// What its rows are ordered along.
    pub key: ClusterKey,
    /// Which superfiles it was written with.
    pub run: SuperfileId,
    /// The bytes of what the run was made from.
    pub bytes: u64,
}
