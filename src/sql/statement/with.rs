//! The queries of a `WITH`, where DataFusion would not look for them: in the parts of a MERGE or an INSERT.
//!
//! Owns giving them to every outermost query in a part, and making a query of a table's name that means one of
//! them. What is deeper sees them from there, and a name that is given twice is refused by DataFusion.

use std::ops::ControlFlow;

use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::ast::{
    Ident, Query, SetExpr, TableFactor, VisitMut, VisitorMut, With,
};

use super::tree::{self, Rows, normalized};

/// Whether `with` gives a query this name.
pub(super) fn defines(with: &With, name: &Ident, normalize: bool) -> bool {
    let name = normalized(name, normalize);
    with.cte_tables
        .iter()
        .any(|table| normalized(&table.alias.name, normalize) == name)
}

/// `query` with `with` around it.
pub(super) fn around(query: Query, with: Option<With>) -> Query {
    match (with, &query.with) {
        (None, _) => query,
        (Some(with), None) => Query {
            with: Some(with),
            ..query
        },
        (Some(with), Some(_)) => Query {
            with: Some(with),
            body: Box::new(SetExpr::Query(Box::new(query))),
            order_by: None,
            limit_clause: None,
            fetch: None,
            locks: Vec::new(),
            for_clause: None,
            settings: None,
            format_clause: None,
            pipe_operators: Vec::new(),
        },
    }
}

/// Makes `with` known in `part` of a statement.
///
/// # Errors
/// Only if a query cannot be built, which is a mistake here.
pub(super) fn push(with: &With, normalize: bool, part: &mut impl VisitMut) -> Result<()> {
    let mut pushing = Pushing {
        with,
        normalize,
        depth: 0,
    };
    match part.visit(&mut pushing) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Pushing<'a> {
    with: &'a With,
    normalize: bool,
    /// How many queries the visited place is in.
    depth: usize,
}

impl VisitorMut for Pushing<'_> {
    type Break = DataFusionError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        if self.depth == 0 {
            let inner = std::mem::replace(query, empty());
            *query = around(inner, Some(self.with.clone()));
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Self::Break> {
        self.depth = self.depth.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let own_name = match tree::parts(name).as_deref() {
            Some([own_name]) if self.depth == 0 => own_name.clone(),
            _ => return ControlFlow::Continue(()),
        };
        if !defines(self.with, &own_name, self.normalize) {
            return ControlFlow::Continue(());
        }
        let alias = alias.clone().unwrap_or_else(|| tree::alias(own_name));
        let mut plain = factor.clone();
        if let TableFactor::Table { alias, .. } = &mut plain {
            *alias = None;
        }
        let query = Rows {
            from: vec![tree::alone(plain)],
            ..Rows::default()
        };
        match query.query() {
            Ok(query) => *factor = tree::derived(query, Some(alias)),
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

fn empty() -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Values(datafusion::sql::sqlparser::ast::Values {
            explicit_row: false,
            value_keyword: false,
            rows: Vec::new(),
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
