//! Building blocks of syntax trees.

use datafusion::common::{Result, internal_datafusion_err};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, LimitClause, ObjectName, OrderBy, OrderByExpr, OrderByKind, Query, SelectItem,
    SetExpr, Statement, TableAlias, TableFactor, TableWithJoins, With,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// `WITH with SELECT items FROM from WHERE selection ORDER BY order_by LIMIT limit`.
#[derive(Debug, Clone, Default)]
pub(super) struct Rows {
    pub(super) with: Option<With>,
    /// None are all columns.
    pub(super) items: Vec<SelectItem>,
    pub(super) from: Vec<TableWithJoins>,
    pub(super) selection: Option<Expr>,
    pub(super) order_by: Vec<OrderByExpr>,
    pub(super) limit: Option<Expr>,
}

impl Rows {
    /// The query.
    pub(super) fn query(self) -> Result<Query> {
        let dialect = GenericDialect {};
        let mut query = *Parser::new(&dialect)
            .try_with_sql("SELECT *")?
            .parse_query()?;
        let SetExpr::Select(select) = query.body.as_mut() else {
            return Err(internal_datafusion_err!("SELECT is not parsed as one"));
        };
        if !self.items.is_empty() {
            select.projection = self.items;
        }
        select.from = self.from;
        select.selection = self.selection;
        query.with = self.with;
        if !self.order_by.is_empty() {
            query.order_by = Some(OrderBy {
                kind: OrderByKind::Expressions(self.order_by),
                interpolate: None,
            });
        }
        query.limit_clause = self.limit.map(|limit| LimitClause::LimitOffset {
            limit: Some(limit),
            offset: None,
            limit_by: Vec::new(),
        });
        Ok(query)
    }

    /// The query as a statement.
    pub(super) fn statement(self) -> Result<Statement> {
        Ok(Statement::Query(Box::new(self.query()?)))
    }
}

/// A table without joins.
pub(super) fn alone(relation: TableFactor) -> TableWithJoins {
    TableWithJoins {
        relation,
        joins: Vec::new(),
    }
}

/// A subquery in FROM.
pub(super) fn derived(subquery: Query, alias: Option<TableAlias>) -> TableFactor {
    TableFactor::Derived {
        lateral: false,
        subquery: Box::new(subquery),
        alias,
        sample: None,
    }
}

/// `AS name`.
pub(super) fn alias(name: Ident) -> TableAlias {
    TableAlias {
        explicit: true,
        name,
        columns: Vec::new(),
        at: None,
    }
}

/// A name that is meant exactly so.
pub(super) fn exactly(name: impl Into<String>) -> Ident {
    Ident::with_quote('"', name)
}

/// A name as DataFusion understands it.
pub(super) fn normalized(name: &Ident, normalize: bool) -> String {
    match name.quote_style {
        None if normalize => name.value.to_ascii_lowercase(),
        _ => name.value.clone(),
    }
}

/// The parts of a name; none if one of them is not a plain name.
pub(super) fn parts(name: &ObjectName) -> Option<Vec<Ident>> {
    name.0.iter().map(|part| part.as_ident().cloned()).collect()
}

/// The last part of a name, as DataFusion understands it; empty if that is not a plain name.
pub(super) fn last_of(name: &ObjectName, normalize: bool) -> String {
    match parts(name).as_deref() {
        Some([.., name]) => normalized(name, normalize),
        _ => String::new(),
    }
}

/// The column `name` of what `qualifier` names.
pub(super) fn column(qualifier: &[Ident], name: Ident) -> Expr {
    match qualifier {
        [] => Expr::Identifier(name),
        qualifier => Expr::CompoundIdentifier(qualifier.iter().cloned().chain([name]).collect()),
    }
}
