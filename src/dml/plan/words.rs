//! Statements in words, for the WAL document and the history: what was written is known as a plan only.
//!
//! Owns what people read. Invariant: its length and its cost do not grow with the rows of a `VALUES`.

use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::dml::{InsertOp, MergeIntoAction, MergeIntoClauseKind, MergeIntoOp};
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, Values, WriteOp};

/// So many rows of a `VALUES` are told.
const ROWS: usize = 8;

/// A `DELETE` or `UPDATE` in words.
pub(crate) fn describe(op: &WriteOp, table: &TableReference, input: &LogicalPlan) -> String {
    let mut words = format!("{} {table}", op.name().to_uppercase());
    let mut node = input;
    loop {
        match node {
            LogicalPlan::Projection(p) if matches!(op, WriteOp::Update) => {
                let sets: Vec<String> = p
                    .expr
                    .iter()
                    .filter_map(|e| match e {
                        Expr::Alias(a) if !matches!(a.expr.as_ref(), Expr::Column(_)) => {
                            Some(format!("{} = {}", a.name, a.expr))
                        }
                        _ => None,
                    })
                    .collect();
                if !sets.is_empty() {
                    words.push_str(&format!(" SET {}", sets.join(", ")));
                }
            }
            LogicalPlan::Filter(f) => words.push_str(&format!(" WHERE {}", f.predicate)),
            LogicalPlan::Limit(_) => words.push_str(" LIMIT"),
            _ => {}
        }
        match node.inputs().first() {
            Some(next) => node = next,
            None => break,
        }
    }
    words
}

/// A `MERGE` in words.
pub(crate) fn describe_merge(table: &TableReference, merge: &MergeIntoOp) -> String {
    let mut words = format!("MERGE INTO {table} ON {}", merge.on);
    for clause in &merge.clauses {
        let kind = match clause.kind.canonical() {
            MergeIntoClauseKind::Matched => "MATCHED",
            MergeIntoClauseKind::NotMatchedBySource => "NOT MATCHED BY SOURCE",
            _ => "NOT MATCHED",
        };
        words.push_str(&format!(" WHEN {kind}"));
        if let Some(predicate) = &clause.predicate {
            words.push_str(&format!(" AND {predicate}"));
        }
        words.push_str(match &clause.action {
            MergeIntoAction::Delete => " THEN DELETE",
            MergeIntoAction::Update(_) => " THEN UPDATE",
            _ => " THEN INSERT",
        });
    }
    words
}

/// `INSERT INTO table` with where its rows, those of `input`, come from.
pub(crate) fn describe_insert(op: InsertOp, table: &TableReference, input: &LogicalPlan) -> String {
    let op = match op {
        InsertOp::Overwrite => "INSERT OVERWRITE",
        _ => "INSERT INTO",
    };
    // The outermost projection is DataFusion's, which puts the columns in the table's order.
    let query = match input {
        LogicalPlan::Projection(projection) => projection.input.as_ref(),
        other => other,
    };
    let rows = match values(query) {
        Some(values) => list(values),
        None => select(query),
    };
    format!("{op} {table} {rows}")
}

/// The rows of a statement that lists them.
fn values(mut plan: &LogicalPlan) -> Option<&Values> {
    loop {
        plan = match plan {
            LogicalPlan::Values(values) => return Some(values),
            LogicalPlan::Projection(projection) if is_plain(projection) => &projection.input,
            LogicalPlan::SubqueryAlias(alias) => &alias.input,
            _ => return None,
        };
    }
}

fn is_plain(projection: &Projection) -> bool {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
    projection.expr.iter().all(|expr| match expr {
        Expr::Alias(alias) => is_column(&alias.expr),
        Expr::Cast(cast) => is_column(&cast.expr),
        other => is_column(other),
    })
}

fn list(values: &Values) -> String {
    let mut rows: Vec<String> = values
        .values
        .iter()
        .take(ROWS)
        .map(|row| format!("({})", joined(row)))
        .collect();
    match values.values.len().saturating_sub(ROWS) {
        0 => {}
        more => rows.push(format!("and {more} more")),
    }
    format!("VALUES {}", rows.join(", "))
}

fn select(query: &LogicalPlan) -> String {
    let mut words = match query {
        LogicalPlan::Projection(projection) => format!("SELECT {}", joined(&projection.expr)),
        _ => "SELECT *".to_owned(),
    };
    let (mut tables, mut conditions) = (Vec::new(), Vec::new());
    let walked = query.apply(|node| {
        match node {
            LogicalPlan::TableScan(scan) => tables.push(scan.table_name.to_string()),
            LogicalPlan::Filter(filter) => {
                conditions.push(filter.predicate.human_display().to_string());
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if walked.is_ok() && !tables.is_empty() {
        words.push_str(&format!(" FROM {}", tables.join(", ")));
    }
    if !conditions.is_empty() {
        words.push_str(&format!(" WHERE {}", conditions.join(" AND ")));
    }
    words
}

fn joined(exprs: &[Expr]) -> String {
    let exprs: Vec<String> = exprs
        .iter()
        .map(|e| e.human_display().to_string())
        .collect();
    exprs.join(", ")
}
