//! What a manifest entry says of the order that a superfile was written in, and with which others.
//!
//! Owns the values and their bytes. Does not own where they are kept: a manifest entry has them among its
//! statistics (see [`SuperfileStats`](super::SuperfileStats)), so they travel with it through change sets and
//! restores. Does not own what follows from them (`table::compaction`).
//!
//! Superfiles that one compaction wrote along one key are a *run*: within it their rows follow one another, so
//! their bounds overlap no more than the key makes them. Which run a superfile belongs to cannot be seen from its
//! bounds, and planning must not open files; hence this record. Columns are named by field id, so renaming one
//! changes nothing. A superfile without the record, as all are that statements write, is in no order.
//!
//! ```text
//! offset  size  field
//! 0       1     layout: 1 Z-order, 2 Hilbert, 3 the declared order, 4 as stored
//! 1       16    run: the id of the first superfile that was written of it
//! 17      8     bytes, u64 LE: what the run's sources took
//! 25      4×n   field ids of the columns, i32 LE, at most 8 for a curve
//! ```
//!
//! Bytes that are none of this, as those of a later version may be, say nothing: the superfile counts as being in no
//! order, and is written anew some day.

use uuid::Uuid;

use super::ids::SuperfileId;

/// Bytes before the field ids.
const FIXED_LEN: usize = 25;
/// Bytes of a field id.
const FIELD_ID_LEN: usize = 4;

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

impl Layout {
    const fn code(self) -> u8 {
        match self {
            Self::ZOrder => 1,
            Self::Hilbert => 2,
            Self::Declared => 3,
            Self::Stored => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [Self::ZOrder, Self::Hilbert, Self::Declared, Self::Stored]
            .into_iter()
            .find(|layout| layout.code() == code)
    }
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

impl Clustering {
    /// The bytes that say so.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED_LEN + self.key.columns.len() * FIELD_ID_LEN);
        bytes.push(self.key.layout.code());
        bytes.extend(self.run.as_uuid().as_bytes());
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend(self.key.columns.iter().flat_map(|id| id.to_le_bytes()));
        bytes
    }

    /// The inverse of [`to_bytes`](Self::to_bytes); `None` if these bytes are nothing of it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (fixed, ids) = bytes.split_first_chunk::<FIXED_LEN>()?;
        let (layout, rest) = fixed.split_first()?;
        let (run, rest) = rest.split_first_chunk::<16>()?;
        let (size, _) = rest.split_first_chunk::<8>()?;
        let (ids, []) = ids.as_chunks::<FIELD_ID_LEN>() else {
            return None;
        };
        Some(Self {
            key: ClusterKey {
                layout: Layout::from_code(*layout)?,
                columns: ids.iter().map(|id| i32::from_le_bytes(*id)).collect(),
            },
            run: Uuid::from_bytes(*run).into(),
            bytes: u64::from_le_bytes(*size),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use proptest::prelude::*;

    use super::*;
    use crate::format::SuperfileStats;

    #[test]
    fn the_bytes_are_those_of_the_table_above() {
        let clustering = Clustering {
            key: ClusterKey {
                layout: Layout::Hilbert,
                columns: vec![1, 258],
            },
            run: Uuid::from_u128(0x0102).into(),
            bytes: 0x0304,
        };
        let mut expected = vec![2];
        expected.extend([0; 14]);
        expected.extend([1, 2, 4, 3, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0]);
        assert_eq!(clustering.to_bytes(), expected);
    }

    #[test]
    fn a_superfile_says_what_it_was_told_and_its_other_facts_stay() {
        let mut stats = SuperfileStats::default();
        assert_eq!(stats.clustering(), None);
        stats.set_source("elsewhere".to_owned());
        let clustering = Clustering {
            key: ClusterKey {
                layout: Layout::Stored,
                columns: vec![],
            },
            run: Uuid::from_u128(7).into(),
            bytes: u64::MAX,
        };
        stats.set_clustering(&clustering);
        assert_eq!(stats.clustering(), Some(clustering));
        assert_eq!(stats.source(), Some("elsewhere"));
        assert!(stats.adopted().is_empty());
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_and_nothing_panics(
            layout in 1_u8..5,
            columns in proptest::collection::vec(any::<i32>(), 0..9),
            run: u128,
            bytes: u64,
            cut in 0_usize..80,
            noise in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let clustering = Clustering {
                key: ClusterKey { layout: Layout::from_code(layout).unwrap(), columns },
                run: Uuid::from_u128(run).into(),
                bytes,
            };
            let encoded = clustering.to_bytes();
            prop_assert_eq!(Clustering::from_bytes(&encoded), Some(clustering));
            let cut = cut.min(encoded.len() - 1);
            let shorter = Clustering::from_bytes(&encoded[..cut]);
            prop_assert!(shorter.is_none_or(|some| some.to_bytes() == encoded[..cut]));
            let some = Clustering::from_bytes(&noise);
            prop_assert!(some.is_none_or(|some| some.to_bytes() == noise));
        }
    }
}
