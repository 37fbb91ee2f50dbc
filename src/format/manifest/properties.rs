//! The keys of table properties that mean something to this crate.
//!
//! Owns the names. Does not own who sets them or what follows from them.

/// `column.default.<name>`: the default of a column that an `INSERT` leaves out, as SQL.
pub(crate) const COLUMN_DEFAULT: &str = "column.default.";

/// `column.initial_default.<field id>`: the value that rows have which were written before the
/// column was there, as text that casts to the column's type. Absent: they have NULL. It never
/// changes: that of an old row is not what an `INSERT` fills in today.
pub(crate) const INITIAL_DEFAULT: &str = "column.initial_default.";

/// `supertable.check.<name>`: a condition that every row must satisfy, as SQL.
pub(crate) const CHECK: &str = "supertable.check.";
