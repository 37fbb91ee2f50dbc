//! The statement of a table as it is now, for as long as the table is open.
//!
//! Owns the texts: DataFusion borrows one for as long as it has the table's provider, while the table changes. So a text
//! stays; there is one for each state of the table that was shown.

use std::sync::OnceLock;

use super::statement::{Declared, create_statement};
use crate::format::manifest::TableMetadata;

/// How a table is created, whatever becomes of it.
#[derive(Debug)]
pub(crate) struct Definition {
    declared: Declared,
    first: Cell,
}

type Cell = OnceLock<Box<Shown>>;

/// What the table was shown as once.
#[derive(Debug)]
struct Shown {
    text: String,
    next: Cell,
}

impl Definition {
    /// Of a table that is created so.
    pub(crate) fn new(declared: Declared) -> Self {
        Self {
            declared,
            first: Cell::new(),
        }
    }

    /// The statement that makes an empty table with this metadata; none if a column has a type that no statement
    /// can name.
    pub(crate) fn text(&self, metadata: &TableMetadata) -> Option<&str> {
        let wanted = create_statement(&self.declared, metadata)?;
        let mut slot = &self.first;
        loop {
            // Another thread may fill the slot first, with another text.
            let shown = slot.get_or_init(|| {
                Box::new(Shown {
                    text: wanted.clone(),
                    next: Cell::new(),
                })
            });
            if shown.text == wanted {
                return Some(&shown.text);
            }
            slot = &shown.next;
        }
    }
}
