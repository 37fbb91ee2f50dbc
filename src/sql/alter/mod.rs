//! `ALTER TABLE` for supertables. DataFusion's SQL has no such statement, so it comes as a table
//! function, `supertable_alter('t', 'ADD COLUMN x INT')`, and as the statement itself through
//! [`sql`](crate::sql()) and the command line, which turn it into that function (`sql::calls`).
//!
//! - [`parse`]: the text of the changes, by sqlparser's rules for names, types and expressions.
//! - [`run`]: types and defaults resolved in a session, and the commit.

pub(crate) mod parse;
pub(crate) mod run;
