//! The statement that makes a table like this one: what `SHOW CREATE TABLE` shows.
//!
//! - `shown`: the statement of a table as it is now, for as long as the table is open.
//! - `statement`: the text, a function of where the table is, its name, and its metadata.
//! - `types`: types in SQL, and those that SQL has no name for.

mod shown;
mod statement;
mod types;

pub use shown::Definition;
pub use statement::Declared;
pub use types::{ARROW, arrow_type};
