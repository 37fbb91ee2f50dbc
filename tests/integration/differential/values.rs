//! The types of columns and their literals: ordinary values, and those at which engines and file formats
//! differ.
//!
//! Invariant: a literal means the same in all dialects for which its type is used.

use rand::Rng;

use super::generate::{Dialect, Generator};

/// Longer than what bounds in statistics keep: equal up to there, and one that has no next value.
const LONG_A: &str =
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1'";
const LONG_B: &str =
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2'";
const LONG_MAX: &str = "'\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}'";

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first column: small integers, on which arithmetic is safe.
    Key,
    Int,
    Big,
    Text,
    Bool,
    Double,
    Date,
    Real,
    Decimal,
    Huge,
    Timestamp,
    Zoned,
    Small,
    Unsigned,
    /// A decimal with as many digits after the point as there is room for.
    Fine,
    Bytes,
}

impl Kind {
    /// The type's name in both dialects.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Key | Self::Big => "BIGINT",
            Self::Int => "INT",
            Self::Text => "VARCHAR",
            Self::Bool => "BOOLEAN",
            Self::Double => "DOUBLE",
            Self::Date => "DATE",
            Self::Real => "REAL",
            Self::Decimal => "DECIMAL(10, 2)",
            Self::Huge => "DECIMAL(38, 0)",
            Self::Timestamp => "TIMESTAMP",
            Self::Zoned => "TIMESTAMP WITH TIME ZONE",
            Self::Small => "SMALLINT",
            Self::Unsigned => "BIGINT UNSIGNED",
            Self::Fine => "DECIMAL(38, 18)",
            Self::Bytes => "BYTEA",
        }
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::Double | Self::Real)
    }
}

impl Generator {
    /// A literal that is not NULL; for a key it may be `{P:…}`, the parameter with its value.
    pub(super) fn value(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Key if self.parameter.is_some() && self.one_in(2) => {
                format!("{{P:{}}}", self.parameter.unwrap_or_default())
            }
            Kind::Key => self.rng.random_range(-3..40).to_string(),
            Kind::Int => self.pick(&["0", "1", "-1", "7", "2147483647", "-2147483648", "42"]),
            Kind::Big => self.pick(&[
                "0",
                "1",
                "-1",
                "9223372036854775807",
                "-9223372036854775807",
                "4294967296",
                "17",
            ]),
            Kind::Text => self.pick(&[
                "''", "'a'", "'A'", "'ab'", "'abc'", "'b'", "' '", "'é'", "'日本'", "'zz'",
                "'a_c'", "'%'", "'it''s'", "'NULL'", LONG_A, LONG_B, LONG_MAX,
            ]),
            Kind::Bool => self.pick(&["TRUE", "FALSE"]),
            Kind::Double | Kind::Real => {
                let shared = [
                    "0.0", "1.5", "-2.25", "100.0", "0.5", "{INF}", "-{INF}", "3.0",
                ];
                let odd = ["{NAN}", "{NAN}", "(-0.0)", "-{INF}"];
                let odd_one = self.dialect == Dialect::Full && self.one_in(3);
                let text = if odd_one {
                    self.pick(&odd)
                } else {
                    self.pick(&shared)
                };
                match kind {
                    Kind::Real => format!("CAST({text} AS REAL)"),
                    _ => text,
                }
            }
            Kind::Date => self.pick(&[
                "DATE '1970-01-01'",
                "DATE '2024-02-29'",
                "DATE '1900-12-31'",
                "DATE '2024-03-01'",
                "DATE '9999-12-31'",
            ]),
            Kind::Decimal => {
                let v = self.pick(&["0", "0.01", "-0.01", "99999999.99", "-99999999.99", "5.5"]);
                format!("CAST('{v}' AS DECIMAL(10, 2))")
            }
            Kind::Huge => {
                let v = self.pick(&[
                    "0",
                    "1",
                    "99999999999999999999999999999999999999",
                    "-99999999999999999999999999999999999999",
                    "170141183460469231731687303715",
                ]);
                format!("CAST('{v}' AS DECIMAL(38, 0))")
            }
            Kind::Small => {
                let v = self.pick(&["0", "1", "-1", "32767", "-32768", "300"]);
                format!("CAST({v} AS SMALLINT)")
            }
            Kind::Unsigned => {
                let v = self.pick(&["0", "1", "9223372036854775808", "18446744073709551615"]);
                format!("CAST('{v}' AS BIGINT UNSIGNED)")
            }
            Kind::Fine => {
                let v = self.pick(&[
                    "0",
                    "0.000000000000000001",
                    "-0.000000000000000001",
                    "99999999999999999999.999999999999999999",
                    "-99999999999999999999.999999999999999999",
                    "1",
                ]);
                format!("CAST('{v}' AS DECIMAL(38, 18))")
            }
            Kind::Bytes => self.pick(&["X''", "X'00'", "X'ff'", "X'00ff'", "X'ffffff'", "X'61'"]),
            Kind::Timestamp | Kind::Zoned => {
                let v = self.pick(&[
                    "1970-01-01T00:00:00",
                    "2024-02-29T23:59:59.999999999",
                    "1969-12-31T23:59:59.5",
                    "2024-10-27T02:30:00",
                    "2262-04-11T23:47:16.854775807",
                    "1677-09-21T00:12:43.145224193",
                ]);
                // Near the ends of the range there is no room for another zone.
                let zones: &[&str] = match kind == Kind::Zoned {
                    true if v.starts_with("2024") => &["Z", "+05:30", "-11:00"],
                    true => &["Z"],
                    false => &[""],
                };
                let zone = self.pick(zones);
                format!("CAST('{v}{zone}' AS {})", kind.sql())
            }
        }
    }

    pub(super) fn value_or_null(&mut self, kind: Kind) -> String {
        if self.one_in(5) {
            "NULL".to_owned()
        } else {
            self.value(kind)
        }
    }
}
