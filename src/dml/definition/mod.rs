//! The statement that makes a table like this one: what `SHOW CREATE TABLE` shows.
//!
//! - `shown`: the statement of a table as it is now, for as long as the table is open.
//! - `statement`: the text, a function of where the table is, its name, and its metadata.
//! - `quote`: names and literals in it.
//! - `types`: types in SQL, and those that SQL has no name for.
//! - `planner`: how a session understands those.

mod planner;
mod quote;
mod shown;
mod statement;
mod types;

pub(crate) use planner::understand_arrow_types;
pub(crate) use shown::Definition;
pub(crate) use statement::Declared;
