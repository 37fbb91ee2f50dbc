//! The types of columns, their names in SQL, and their literals: ordinary values that meet often, and the
//! limits of each type.

use super::random::Random;

/// Units of timestamps, by the digits after the second.
pub(super) const UNITS: [u8; 4] = [0, 3, 6, 9];

/// The type of a column or an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Signed(u8),
    Unsigned(u8),
    Real,
    Double,
    Bool,
    Text,
    Bytes,
    Date,
    /// Of the day, in nanoseconds.
    Time,
    /// Without a zone, by the digits after the second.
    Timestamp(u8),
    /// With the session's zone.
    Zoned(u8),
    Decimal(u8, u8),
    /// Of BIGINT.
    Numbers,
    /// Of VARCHAR.
    Words,
    /// `STRUCT<a INT, b VARCHAR>`.
    Pair,
}

use Type::*;

/// Decimals: narrow, ordinary, and with as many digits as there are.
pub(super) const DECIMALS: [(u8, u8); 6] = [(5, 2), (9, 0), (10, 2), (20, 4), (38, 0), (38, 10)];

impl Type {
    pub(super) fn random(random: &mut Random) -> Self {
        match random.below(20) {
            0..5 => random.choose(&[Signed(8), Signed(16), Signed(32), Signed(32), Signed(64)]),
            5 | 6 => random.choose(&[Unsigned(8), Unsigned(16), Unsigned(32), Unsigned(64)]),
            7 => Real,
            8 => Double,
            9 | 10 => Bool,
            11..14 => Text,
            14 => Bytes,
            15 => random.choose(&[Date, Date, Time]),
            16 => Timestamp(random.choose(&UNITS)),
            17 => match random.below(2) {
                0 => Zoned(random.choose(&UNITS)),
                _ => Timestamp(random.choose(&UNITS)),
            },
            18 => {
                let (precision, scale) = random.choose(&DECIMALS);
                Decimal(precision, scale)
            }
            _ => random.choose(&[Numbers, Words, Pair]),
        }
    }

    pub(super) fn sql(self) -> String {
        let fixed = match self {
            Signed(8) => "TINYINT",
            Signed(16) => "SMALLINT",
            Signed(32) => "INT",
            Signed(_) => "BIGINT",
            Unsigned(8) => "TINYINT UNSIGNED",
            Unsigned(16) => "SMALLINT UNSIGNED",
            Unsigned(32) => "INT UNSIGNED",
            Unsigned(_) => "BIGINT UNSIGNED",
            Real => "REAL",
            Double => "DOUBLE",
            Bool => "BOOLEAN",
            Text => "VARCHAR",
            Bytes => "BYTEA",
            Date => "DATE",
            Time => "TIME",
            Timestamp(digits) => return format!("TIMESTAMP({digits})"),
            Zoned(digits) => return format!("TIMESTAMP({digits}) WITH TIME ZONE"),
            Decimal(precision, scale) => return format!("DECIMAL({precision}, {scale})"),
            Numbers => "BIGINT[]",
            Words => "VARCHAR[]",
            Pair => "STRUCT<a INT, b VARCHAR>",
        };
        fixed.to_owned()
    }

    pub(super) fn is_integer(self) -> bool {
        matches!(self, Signed(_) | Unsigned(_))
    }

    pub(super) fn is_float(self) -> bool {
        matches!(self, Real | Double)
    }

    pub(super) fn is_numeric(self) -> bool {
        self.is_integer() || self.is_float() || matches!(self, Decimal(..))
    }

    pub(super) fn is_time(self) -> bool {
        matches!(self, Date | Timestamp(_) | Zoned(_))
    }

    /// Whether the engine defines grouping, equality joins and MIN on it: floats have NaN and two zeros, for
    /// which these depend on the plan.
    pub(super) fn is_groupable(self) -> bool {
        !self.is_float() && !self.is_nested()
    }

    pub(super) fn is_nested(self) -> bool {
        matches!(self, Numbers | Words | Pair)
    }

    /// Types whose comparison with this one the engine plans.
    pub(super) fn is_comparable(self, other: Self) -> bool {
        self == other
            || (self.is_numeric() && other.is_numeric())
            || (self.is_time() && other.is_time())
    }

    /// Types that this one can be cast to.
    pub(super) fn cast_targets(self, random: &mut Random) -> Self {
        let number = |random: &mut Random| match random.below(6) {
            0..3 => random.choose(&[Signed(8), Signed(16), Signed(32), Signed(64)]),
            3 => random.choose(&[Unsigned(8), Unsigned(16), Unsigned(32), Unsigned(64)]),
            4 => random.choose(&[Real, Double]),
            _ => {
                let (precision, scale) = random.choose(&DECIMALS);
                Decimal(precision, scale)
            }
        };
        match self {
            _ if self.is_numeric() && random.one_in(6) => Text,
            Signed(_) if random.one_in(12) => Bool,
            Signed(64) if random.one_in(10) => Timestamp(random.choose(&UNITS)),
            Signed(32) if random.one_in(10) => Date,
            _ if self.is_numeric() => number(random),
            Bool => random.choose(&[Signed(8), Signed(32), Signed(64), Text]),
            Text => match random.below(6) {
                0 => Date,
                1 => Timestamp(random.choose(&UNITS)),
                2 => Bytes,
                3 => Bool,
                _ => number(random),
            },
            Bytes | Time => Text,
            Date => match random.below(5) {
                0 => Text,
                1 => Signed(32),
                _ => Timestamp(random.choose(&UNITS)),
            },
            Timestamp(_) | Zoned(_) => match random.below(6) {
                0 => Text,
                1 => Signed(64),
                2 => Date,
                3 => Zoned(random.choose(&UNITS)),
                _ => Timestamp(random.choose(&UNITS)),
            },
            other => other,
        }
    }

    /// A literal that is not NULL, of exactly this type.
    pub(super) fn literal(self, random: &mut Random) -> String {
        let name = self.sql();
        match self {
            Signed(bits) => {
                let max = i64::MAX >> (64 - bits);
                let value = match random.below(10) {
                    0 => max,
                    1 => -max - 1,
                    2 => max - 1,
                    3 => random.below(100) as i64,
                    _ => random.below(6) as i64 - 1,
                };
                match bits {
                    // The parser knows no literal for the least BIGINT.
                    64 if value == i64::MIN => format!("CAST('{value}' AS BIGINT)"),
                    64 if value >= 0 => value.to_string(),
                    64 => format!("({value})"),
                    _ => format!("CAST({value} AS {name})"),
                }
            }
            Unsigned(bits) => {
                let max = u64::MAX >> (64 - bits);
                let value = match random.below(8) {
                    0 => max,
                    1 => max / 2 + 1,
                    _ => random.below(5) as u64,
                };
                format!("CAST('{value}' AS {name})")
            }
            Real | Double => {
                let text = random.choose(&[
                    "0.0",
                    "-0.0",
                    "1.0",
                    "1.5",
                    "-2.25",
                    "3.0",
                    "100.5",
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    "1e30",
                    "16777217",
                    "0.1",
                    "2.5",
                ]);
                format!("CAST('{text}' AS {name})")
            }
            Bool => random.choose(&["TRUE", "FALSE"]).to_owned(),
            Text => random
                .choose(&[
                    "''",
                    "'a'",
                    "'A'",
                    "'ab'",
                    "'abc'",
                    "'b'",
                    "' '",
                    "'é'",
                    "'日本'",
                    "'a_c'",
                    "'%'",
                    "'a%b'",
                    "'it''s'",
                    "'1'",
                    "'01'",
                    "'2'",
                    "'-1'",
                    "'1.5'",
                    "'300'",
                    "'true'",
                    "'2024-02-29'",
                    "'a\\b'",
                    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1'",
                    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa2'",
                ])
                .to_owned(),
            Bytes => random
                .choose(&["X''", "X'00'", "X'ff'", "X'61'", "X'6162'", "X'00ff'"])
                .to_owned(),
            Date => {
                let day = random.choose(&[
                    "1970-01-01",
                    "2024-02-29",
                    "2024-03-01",
                    "1969-12-31",
                    "2024-01-01",
                    "9999-12-31",
                    "1900-01-01",
                ]);
                format!("DATE '{day}'")
            }
            Time => {
                let time =
                    random.choose(&["00:00:00", "12:30:00", "23:59:59.999999999", "01:02:03.5"]);
                format!("CAST('{time}' AS TIME)")
            }
            Timestamp(digits) | Zoned(digits) => {
                let second = random.choose(&[
                    "1970-01-01T00:00:00",
                    "2024-02-29T23:59:59",
                    "2024-01-01T00:00:00",
                    "1969-12-31T23:59:59",
                    "2024-10-27T01:30:00",
                    "2024-03-31T02:30:00",
                ]);
                let fraction = match digits {
                    0 => "",
                    3 => random.choose(&["", ".001", ".5"]),
                    6 => random.choose(&["", ".001", ".000001", ".001500"]),
                    _ => random.choose(&["", ".001", ".001234567", ".000000001"]),
                };
                let zone = if matches!(self, Zoned(_)) { "Z" } else { "" };
                format!("CAST('{second}{fraction}{zone}' AS {name})")
            }
            Decimal(precision, scale) => {
                let nines = |n: u8| "9".repeat(usize::from(n));
                let limit = match scale {
                    0 => nines(precision),
                    _ => format!("{}.{}", nines(precision - scale), nines(scale)),
                };
                let text = match random.below(8) {
                    0 => limit,
                    1 => format!("-{limit}"),
                    2 if scale > 0 => "1.5".to_owned(),
                    3 if scale >= 2 => random.choose(&["1.23", "1.24", "-0.01", "0.50"]).to_owned(),
                    4 if scale >= 4 => random.choose(&["1.2345", "1.2399", "2.5000"]).to_owned(),
                    _ => random.choose(&["0", "1", "2", "3", "-1", "100"]).to_owned(),
                };
                format!("CAST('{text}' AS {name})")
            }
            Numbers => random
                .choose(&[
                    "CAST([1] AS BIGINT[])",
                    "CAST([1, 2] AS BIGINT[])",
                    "CAST([3] AS BIGINT[])",
                    "CAST([NULL, 1] AS BIGINT[])",
                    "CAST([] AS BIGINT[])",
                    "CAST([2, NULL, 0] AS BIGINT[])",
                ])
                .to_owned(),
            Words => random
                .choose(&[
                    "['a']",
                    "['a', 'b']",
                    "[NULL, 'a']",
                    "CAST([] AS VARCHAR[])",
                    "['']",
                ])
                .to_owned(),
            Pair => {
                let a = random.choose(&["1", "2", "NULL", "-1"]);
                let b = random.choose(&["'a'", "''", "NULL"]);
                format!("named_struct('a', CAST({a} AS INT), 'b', CAST({b} AS VARCHAR))")
            }
        }
    }

    pub(super) fn null(self) -> String {
        format!("CAST(NULL AS {})", self.sql())
    }
}
