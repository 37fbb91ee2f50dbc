//! Space-filling curves: one order of rows that keeps those together which are alike in several columns.
//!
//! Owns the place of a point on a curve. Does not own what a point is (`dml::cluster`).
//!
//! A Z-order curve interleaves the bits of the coordinates (G. M. Morton, "A computer oriented geodetic data
//! base and a new technique in file sequencing", IBM, 1966). A Hilbert curve, besides, never jumps: points next to
//! each other on it are neighbours in space, so a stretch of it covers a more compact region. It is computed here
//! for any number of dimensions as in J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings
//! 707, 2004. (Crates for this are for two or three dimensions, or no longer looked after.)
//!
//! Invariant: different points have different places, and places compare as bytes do.

/// Bits of a coordinate.
pub(crate) const BITS: u32 = 16;

/// Which curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// Morton's.
    ZOrder,
    /// Hilbert's.
    Hilbert,
}

impl Curve {
    /// What it is called where one is asked for.
    pub fn name(self) -> &'static str {
        match self {
            Self::ZOrder => "zorder",
            Self::Hilbert => "hilbert",
        }
    }

    /// Bytes of a place in so many dimensions.
    pub fn place_len(dimensions: usize) -> usize {
        dimensions * (BITS as usize / 8)
    }

    /// Appends the place of `point`, which is used up, to `places`: [`place_len`](Self::place_len) bytes.
    pub fn place(self, point: &mut [u16], places: &mut Vec<u8>) {
        if self == Self::Hilbert {
            transpose(point, BITS);
        }
        interleave(point, BITS, places);
    }
}

/// The bits of the coordinates in turn, the most significant ones first.
fn interleave(point: &[u16], bits: u32, places: &mut Vec<u8>) {
    let (mut byte, mut filled) = (0_u8, 0);
    for bit in (0..bits).rev() {
        for coordinate in point {
            byte = byte << 1 | u8::from(coordinate >> bit & 1 == 1);
            filled += 1;
            if filled == 8 {
                places.push(byte);
                (byte, filled) = (0, 0);
            }
        }
    }
    if filled > 0 {
        places.push(byte << (8 - filled));
    }
}

/// Skilling's transform: afterwards the coordinates' interleaved bits are the place on a Hilbert curve.
fn transpose(point: &mut [u16], bits: u32) {
    let Some((first, others)) = point.split_first_mut() else {
        return;
    };
    // From the most significant bit down to the last but one: undo the turns of the inner cubes.
    for bit in (1..bits).rev() {
        let (bit, below) = (1_u16 << bit, (1_u16 << bit) - 1);
        if *first & bit != 0 {
            *first ^= below;
        }
        for other in others.iter_mut() {
            if *other & bit != 0 {
                *first ^= below;
            } else {
                let swapped = (*first ^ *other) & below;
                *first ^= swapped;
                *other ^= swapped;
            }
        }
    }
    // Gray code.
    let mut previous = *first;
    for other in others.iter_mut() {
        *other ^= previous;
        previous = *other;
    }
    let mut flipped = 0;
    for bit in (1..bits).rev() {
        if previous & (1 << bit) != 0 {
            flipped ^= (1 << bit) - 1;
        }
    }
    for coordinate in point {
        *coordinate ^= flipped;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// All points of a cube, in the order of their places.
    fn walk(dimensions: usize, bits: u32, hilbert: bool) -> Vec<Vec<u16>> {
        let side = 1_usize << bits;
        let mut walk = BTreeMap::new();
        for n in 0..side.pow(dimensions as u32) {
            let point: Vec<u16> = (0..dimensions)
                .map(|d| (n / side.pow(d as u32) % side) as u16)
                .collect();
            let mut used_up = point.clone();
            if hilbert {
                transpose(&mut used_up, bits);
            }
            let mut place = Vec::new();
            interleave(&used_up, bits, &mut place);
            assert_eq!(walk.insert(place, point), None, "two points at one place");
        }
        walk.into_values().collect()
    }

    #[test]
    fn a_z_order_curve_visits_quarter_after_quarter() {
        let expected = [
            [0, 0],
            [0, 1],
            [1, 0],
            [1, 1],
            [0, 2],
            [0, 3],
            [1, 2],
            [1, 3],
        ];
        assert_eq!(walk(2, 2, false)[..8], expected);
    }

    #[test]
    fn a_hilbert_curve_steps_from_neighbour_to_neighbour() {
        for (dimensions, bits) in [(1, 6), (2, 1), (2, 5), (3, 3), (4, 2), (5, 2)] {
            let walk = walk(dimensions, bits, true);
            assert_eq!(walk.len(), 1 << (dimensions as u32 * bits));
            for step in walk.windows(2) {
                let distance: u32 = std::iter::zip(&step[0], &step[1])
                    .map(|(a, b)| u32::from(a.abs_diff(*b)))
                    .sum();
                assert_eq!(distance, 1, "{dimensions} dimensions: {step:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn different_points_have_different_places_of_one_length(
            points in proptest::collection::vec((any::<u16>(), any::<u16>(), any::<u16>()), 2..40),
            hilbert: bool,
        ) {
            let curve = if hilbert { Curve::Hilbert } else { Curve::ZOrder };
            let mut places = BTreeMap::new();
            for (a, b, c) in points {
                let mut place = Vec::new();
                curve.place(&mut [a, b, c], &mut place);
                prop_assert_eq!(place.len(), Curve::place_len(3));
                let other = places.insert(place, (a, b, c));
                prop_assert!(other.is_none_or(|other| other == (a, b, c)));
            }
        }
    }
}
