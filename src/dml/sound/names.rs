//! Names of columns that a rewrite adds to a plan.

use std::cell::Cell;

use datafusion::common::Column;

/// Hands out names that no other column of a statement has.
#[derive(Debug, Default)]
pub(super) struct Names(Cell<usize>);

impl Names {
    /// A new column; `role` says in plans what it is for.
    pub(super) fn column(&self, role: &str) -> Column {
        let number = self.0.get() + 1;
        self.0.set(number);
        Column::new_unqualified(format!("__{role}_{number}"))
    }
}
