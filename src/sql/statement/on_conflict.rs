//! `INSERT … ON CONFLICT (…) DO NOTHING | DO UPDATE SET …`: the `MERGE` that means the same.
//!
//! ```text
//! INSERT INTO t (k, v) rows                 MERGE INTO t USING (rows) AS excluded (k, v) ON t.k = excluded.k
//! ON CONFLICT (k) DO UPDATE SET v = f       WHEN MATCHED [AND c] THEN UPDATE SET v = f
//!   [WHERE c]                               WHEN NOT MATCHED THEN INSERT (k, v) VALUES (excluded.k, excluded.v)
//! ```
//!
//! As in PostgreSQL, a column without a table's name in front of it is the table's, and of rows with one key `DO NOTHING`
//! inserts one. Owns the rewrite. Does not own the plan of a `MERGE`, nor keys (`dml::keys`), which see to all others that
//! the table declares.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::{Result, internal_err};
use datafusion::sql::sqlparser::ast::{
    Assignment, BinaryOperator, ConflictTarget, DoUpdate, Expr, Ident, Merge, MergeAction,
    MergeClauseKind, MergeInsertKind, ObjectName, OnConflict, OnConflictAction, OnInsert, Query,
    SelectItem, SetExpr, Statement, TableAliasColumnDef, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::planner::Planner;
use super::target::Target;
use super::tree::{self, Rows};
use crate::error::{Error, ErrorKind};
use crate::format::manifest::UniqueKey;

/// What the rows that are to be inserted are called.
const EXCLUDED: &str = "excluded";
/// The number of a row among those with its key.
const NUMBER: &str = "__supertable_number";
/// What is filled with the parts of the statement.
const TEMPLATE: &str = "MERGE INTO t USING s ON a = b WHEN MATCHED THEN UPDATE SET a = b \
                        WHEN NOT MATCHED THEN INSERT (a) VALUES (b)";
const NUMBERED: &str = "SELECT *, row_number() OVER (PARTITION BY 1) AS __supertable_number";

/// The `MERGE` that inserts `rows`, which have the table's columns `columns`.
///
/// # Errors
/// The clause names no key of the table, or one of which the rows have no value.
pub(super) fn merge(
    planner: &Planner<'_>,
    target: &Target,
    columns: &[String],
    rows: Query,
    on: OnInsert,
) -> Result<Merge> {
    let refuse = |kind, why: String| Err(Error::new(kind, "ON CONFLICT", why).into());
    let OnInsert::OnConflict(on) = on else {
        let why = "use ON CONFLICT (…) DO UPDATE SET …; the new row is called excluded there";
        return Err(Error::new(ErrorKind::Unsupported, "ON DUPLICATE KEY UPDATE", why).into());
    };
    let key = key_columns(planner, target, &on)?;
    if let Some(missing) = key.iter().find(|column| !columns.contains(column)) {
        let why = format!("give each row a value for {missing}, which is part of the key");
        return refuse(ErrorKind::InvalidArgument, why);
    }
    let mut statements = Parser::parse_sql(&GenericDialect {}, TEMPLATE)?;
    let Some(Statement::Merge(mut merge)) = statements.pop() else {
        return internal_err!("MERGE is not parsed as one");
    };
    let (table, qualifier) = target.in_query(None, planner.normalize);
    let excluded = |column: &String| tree::column(&[Ident::new(EXCLUDED)], tree::exactly(column));
    let does_nothing = matches!(on.action, OnConflictAction::DoNothing);
    let rows = match does_nothing && !is_one_row(&rows) {
        true => one_of_each_key(rows, columns, &key)?,
        false => rows,
    };
    let mut alias = tree::alias(Ident::new(EXCLUDED));
    alias.columns = columns.iter().map(column_of_alias).collect();
    merge.source = tree::derived(rows, Some(alias));
    merge.table = table;
    let equal = |column: &String| Expr::BinaryOp {
        left: Box::new(tree::column(&qualifier, tree::exactly(column))),
        op: BinaryOperator::Eq,
        right: Box::new(excluded(column)),
    };
    merge.on = Box::new(all(key.iter().map(equal), BinaryOperator::And)?);
    if does_nothing {
        let matched = |kind| kind == MergeClauseKind::Matched;
        merge.clauses.retain(|c| !matched(c.clause_kind));
    }
    for clause in &mut merge.clauses {
        match &mut clause.action {
            MergeAction::Update(update) => {
                if let OnConflictAction::DoUpdate(DoUpdate {
                    assignments,
                    selection,
                }) = &on.action
                {
                    let mut names = OfTable {
                        columns: target.named_columns(&[], planner.normalize),
                        qualifier: &qualifier,
                        normalize: planner.normalize,
                        depth: 0,
                    };
                    clause.predicate = selection.clone();
                    let _ = clause.predicate.visit(&mut names);
                    update.assignments = assignments.clone();
                    for Assignment { value, .. } in &mut update.assignments {
                        let _ = value.visit(&mut names);
                    }
                }
            }
            MergeAction::Insert(insert) => {
                let named = |column: &String| ObjectName::from(tree::exactly(column));
                insert.columns = columns.iter().map(named).collect();
                if let MergeInsertKind::Values(values) = &mut insert.kind {
                    for row in &mut values.rows {
                        row.content = columns.iter().map(excluded).collect();
                    }
                }
            }
            MergeAction::Delete { .. } => {}
        }
    }
    Ok(merge)
}

/// The columns of the key that the clause means.
fn key_columns(planner: &Planner<'_>, target: &Target, on: &OnConflict) -> Result<Vec<String>> {
    let metadata = target
        .supertable("INSERT … ON CONFLICT")?
        .table()
        .metadata();
    let names = |key: &UniqueKey| -> Vec<String> {
        let names = metadata.columns_of(key).into_iter();
        names.map(str::to_owned).collect()
    };
    let refuse = |why: String| {
        let name = target.reference.to_string();
        Err(Error::new(ErrorKind::InvalidArgument, name, why).into())
    };
    match &on.conflict_target {
        Some(ConflictTarget::Columns(columns)) => {
            let wanted: BTreeSet<String> = (columns.iter())
                .map(|column| tree::normalized(column, planner.normalize))
                .collect();
            let is_it =
                |key: &&UniqueKey| names(key).into_iter().collect::<BTreeSet<_>>() == wanted;
            match metadata.keys.iter().find(is_it) {
                Some(key) => Ok(names(key)),
                None => {
                    let columns: Vec<String> = wanted.into_iter().collect();
                    let columns = columns.join(", ");
                    refuse(format!(
                        "({columns}) is no key of the table; ALTER TABLE … ADD UNIQUE ({columns}), or use MERGE INTO"
                    ))
                }
            }
        }
        Some(ConflictTarget::OnConstraint(name)) => {
            let parts = tree::parts(name).unwrap_or_default();
            let wanted = parts.last().map(|n| tree::normalized(n, planner.normalize));
            match (metadata.keys.iter()).find(|key| Some(&key.name) == wanted.as_ref()) {
                Some(key) => Ok(names(key)),
                None => refuse(format!("{name} is no key of the table")),
            }
        }
        None => match metadata.keys.as_slice() {
            [key] => Ok(names(key)),
            [] => refuse(
                "the table has no key; ALTER TABLE … ADD PRIMARY KEY (…), or use MERGE INTO"
                    .to_owned(),
            ),
            _ => refuse(
                "the table has several keys; name the columns of one of them: ON CONFLICT (…)"
                    .to_owned(),
            ),
        },
    }
}

fn is_one_row(rows: &Query) -> bool {
    matches!(rows.body.as_ref(), SetExpr::Values(values) if values.rows.len() == 1)
}

/// One of the rows with each key; those with a NULL in it have none.
fn one_of_each_key(rows: Query, columns: &[String], key: &[String]) -> Result<Query> {
    let column = |name: &String| Expr::Identifier(tree::exactly(name));
    let mut alias = tree::alias(tree::exactly("__supertable_rows"));
    alias.columns = columns.iter().map(column_of_alias).collect();
    let mut numbered = *Parser::new(&GenericDialect {})
        .try_with_sql(NUMBERED)?
        .parse_query()?;
    let SetExpr::Select(select) = numbered.body.as_mut() else {
        return internal_err!("SELECT is not parsed as one");
    };
    select.from = vec![tree::alone(tree::derived(rows, Some(alias)))];
    for item in &mut select.projection {
        if let SelectItem::ExprWithAlias {
            expr: Expr::Function(function),
            ..
        } = item
            && let Some(datafusion::sql::sqlparser::ast::WindowType::WindowSpec(window)) =
                &mut function.over
        {
            window.partition_by = key.iter().map(column).collect();
        }
    }
    let first = Expr::BinaryOp {
        left: Box::new(Expr::Identifier(Ident::new(NUMBER))),
        op: BinaryOperator::Eq,
        right: Box::new(Expr::value(datafusion::sql::sqlparser::ast::Value::Number(
            "1".to_owned(),
            false,
        ))),
    };
    let nulls = key.iter().map(|name| Expr::IsNull(Box::new(column(name))));
    Rows {
        items: columns
            .iter()
            .map(|name| SelectItem::UnnamedExpr(column(name)))
            .collect(),
        from: vec![tree::alone(tree::derived(
            numbered,
            Some(tree::alias(tree::exactly("__supertable_numbered"))),
        ))],
        selection: Some(all(nulls.chain([first]), BinaryOperator::Or)?),
        ..Rows::default()
    }
    .query()
}

fn column_of_alias(name: &String) -> TableAliasColumnDef {
    TableAliasColumnDef {
        name: tree::exactly(name),
        data_type: None,
    }
}

/// The conditions, put together.
fn all(conditions: impl Iterator<Item = Expr>, op: BinaryOperator) -> Result<Expr> {
    let joined = conditions.reduce(|left, right| Expr::BinaryOp {
        left: Box::new(left),
        op: op.clone(),
        right: Box::new(right),
    });
    match joined {
        Some(joined) => Ok(joined),
        None => internal_err!("a key has no columns"),
    }
}

/// Puts the table's name in front of its columns, outside of queries, which have names of their own.
struct OfTable<'a> {
    columns: Vec<String>,
    qualifier: &'a [Ident],
    normalize: bool,
    depth: usize,
}

impl VisitorMut for OfTable<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.depth = self.depth.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Identifier(name) = expr
            && self
                .columns
                .contains(&tree::normalized(name, self.normalize))
        {
            *expr = tree::column(self.qualifier, name.clone());
        }
        ControlFlow::Continue(())
    }
}
