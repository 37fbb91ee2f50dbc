//! Statements that change rows, in forms that DataFusion's parser or planner does not take: `WITH … DELETE`,
//! `DELETE … USING`, `UPDATE … FROM`, `ORDER BY … LIMIT` on either, `RETURNING`, `DEFAULT` as a value, MERGE's
//! `UPDATE SET *` and `INSERT *`, `INSERT INTO t BY NAME`; and `CREATE TABLE` with an order or options.
//!
//! Where an equivalent form exists that DataFusion plans, the syntax tree is rewritten into that. Otherwise the
//! statement's rows are planned as a query, by DataFusion, and flow into the change: what a name means, which
//! column is ambiguous and what a `WITH` shadows is then decided as in a `SELECT`.
//!
//! - `read`: from text to statements of these forms; everything else is left to DataFusion.
//! - `planner`: from such a statement to its plan, under `EXPLAIN` and `PREPARE` too.
//! - `target`: the table that a statement changes.
//! - `change`: `DELETE` and `UPDATE`; `merge` and `insert`: those; `on_conflict`: an `INSERT` that is a `MERGE`.
//! - `create`: `CREATE TABLE` with `WITH ORDER` and `OPTIONS`.
//! - `columns`: which columns of the table are meant, and values in their types; for statements without text, too.
//! - `with`: the queries of a `WITH` where DataFusion would not look for them.
//! - `default`: `DEFAULT` as a value.
//! - `returning`: the changed rows as a result.
//! - `row_ids`: literals that are compared with row ids; this is done to every statement's text.
//! - `stand_in`: text for the command line, which parses statements itself.
//! - `tree`: building blocks of syntax trees.
//!
//! Invariant: a form that is not understood is refused, or left to DataFusion, which refuses it.

mod change;
mod columns;
mod create;
mod default;
mod insert;
mod merge;
mod on_conflict;
mod plan;
mod planner;
mod read;
mod returning;
mod row_ids;
mod stand_in;
mod target;
mod tree;
mod with;

pub(crate) use columns::{common, named, no_column, set_twice, typed};
pub(crate) use create::without_clauses;
pub(crate) use plan::plan;
pub(crate) use read::read;
pub(crate) use row_ids::with_exact_row_ids;
pub(crate) use stand_in::creations;
#[cfg(feature = "cli")]
pub(crate) use {read::Own, stand_in::with_stand_ins};
