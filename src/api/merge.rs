//! `MERGE`, clause by clause.
//!
//! Owns the builder, and the plan that SQL makes of its text. Does not own what becomes of the plan.

use std::fmt;

use datafusion::common::{Column, DFSchema, Result, TableReference};
use datafusion::logical_expr::dml::{
    MergeIntoAction, MergeIntoClause, MergeIntoClauseKind, MergeIntoOp,
};
use datafusion::logical_expr::expr_rewriter::normalize_col_with_schemas_and_ambiguity_check;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, WriteOp};
use futures::future::BoxFuture;

use super::change::assigned;
use super::handle::{Handle, Target};
use super::report::ChangeReport;
use super::rows::RowSource;
use crate::error::{Error, ErrorKind};
use crate::sql::statement::common;

/// By what the table's columns are qualified.
const TARGET: &str = "target";
/// By what the columns of the rows that are merged are qualified.
const SOURCE: &str = "source";

/// A `MERGE`: rows of a source are compared with the table's, and for each pair, and each row without a partner, the
/// first clause that applies says what is done. [`Supertable::merge`](crate::Supertable::merge) makes one.
///
/// Columns of the table are called `target.c`, those of the source `source.c`, in every expression, whatever their
/// names were before. `c` alone will do where only one of them has such a column. What is set or inserted is named by
/// the table's columns alone.
///
/// Clauses are tried in the order in which they were added. A clause with a condition applies where that is true. A
/// row to which none applies stays as it is. Two rows of the source that would change the same row are an error of
/// [`ErrorKind::Constraint`].
///
/// ```
/// # use datafusion::prelude::*;
/// # use datafusion_supertable::{Result, Supertable};
/// # async fn example(table: Supertable, news: DataFrame) -> Result<()> {
/// let report = table
///     .merge(news, col("target.id").eq(col("source.id")))
///     .when_matched_delete(col("source.gone"))
///     .when_matched_update(None, [("v", col("source.v"))])
///     .when_not_matched_insert(
///         not(col("source.gone")),
///         [("id", col("source.id")), ("v", col("source.v"))],
///     )
///     .execute()
///     .await?;
/// println!("{} came, {} changed", report.rows_inserted, report.rows_updated);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before execute() is awaited"]
pub struct MergeBuilder {
    handle: Handle,
    source: RowSource,
    on: Expr,
    clauses: Vec<Clause>,
}

struct Clause {
    kind: MergeIntoClauseKind,
    condition: Option<Expr>,
    action: Action,
}

enum Action {
    Update(Vec<(String, Expr)>),
    UpdateAll,
    Insert(Vec<(String, Expr)>),
    InsertAll,
    Delete,
}

impl fmt::Debug for MergeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergeBuilder")
            .field("on", &self.on)
            .field("clauses", &self.clauses.len())
            .finish_non_exhaustive()
    }
}

impl MergeBuilder {
    pub(super) fn new(handle: Handle, source: RowSource, on: Expr) -> Self {
        Self {
            handle,
            source,
            on,
            clauses: Vec::new(),
        }
    }

    /// `WHEN MATCHED [AND condition] THEN UPDATE SET …`: sets columns of a row that has a partner.
    pub fn when_matched_update<C: Into<String>>(
        self,
        condition: impl Into<Option<Expr>>,
        assignments: impl IntoIterator<Item = (C, Expr)>,
    ) -> Self {
        let action = Action::Update(pairs(assignments));
        self.when(MergeIntoClauseKind::Matched, condition, action)
    }

    /// `WHEN MATCHED [AND condition] THEN UPDATE SET *`: sets all columns that the source has, too.
    pub fn when_matched_update_all(self, condition: impl Into<Option<Expr>>) -> Self {
        self.when(MergeIntoClauseKind::Matched, condition, Action::UpdateAll)
    }

    /// `WHEN MATCHED [AND condition] THEN DELETE`: deletes a row that has a partner.
    pub fn when_matched_delete(self, condition: impl Into<Option<Expr>>) -> Self {
        self.when(MergeIntoClauseKind::Matched, condition, Action::Delete)
    }

    /// `WHEN NOT MATCHED [AND condition] THEN INSERT …`: a new row for a row of the source that has no partner. Columns
    /// that are left out get their defaults, or NULL.
    pub fn when_not_matched_insert<C: Into<String>>(
        self,
        condition: impl Into<Option<Expr>>,
        values: impl IntoIterator<Item = (C, Expr)>,
    ) -> Self {
        let action = Action::Insert(pairs(values));
        self.when(MergeIntoClauseKind::NotMatchedByTarget, condition, action)
    }

    /// `WHEN NOT MATCHED [AND condition] THEN INSERT *`: the same with all columns that the table and the source have
    /// in common.
    pub fn when_not_matched_insert_all(self, condition: impl Into<Option<Expr>>) -> Self {
        let kind = MergeIntoClauseKind::NotMatchedByTarget;
        self.when(kind, condition, Action::InsertAll)
    }

    /// `WHEN NOT MATCHED BY SOURCE [AND condition] THEN UPDATE SET …`: sets columns of a row of the table that has no
    /// partner.
    pub fn when_not_matched_by_source_update<C: Into<String>>(
        self,
        condition: impl Into<Option<Expr>>,
        assignments: impl IntoIterator<Item = (C, Expr)>,
    ) -> Self {
        let action = Action::Update(pairs(assignments));
        self.when(MergeIntoClauseKind::NotMatchedBySource, condition, action)
    }

    /// `WHEN NOT MATCHED BY SOURCE [AND condition] THEN DELETE`: deletes a row of the table that has no partner.
    pub fn when_not_matched_by_source_delete(self, condition: impl Into<Option<Expr>>) -> Self {
        let kind = MergeIntoClauseKind::NotMatchedBySource;
        self.when(kind, condition, Action::Delete)
    }

    fn when(
        mut self,
        kind: MergeIntoClauseKind,
        condition: impl Into<Option<Expr>>,
        action: Action,
    ) -> Self {
        self.clauses.push(Clause {
            kind,
            condition: condition.into(),
            action,
        });
        self
    }

    /// Carries the `MERGE` out, in one version.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if there is no clause, or a column is not there; [`ErrorKind::Constraint`] if a
    /// new row violates a condition of the table, or two rows of the source change one of the table's. Those of every
    /// change, as [`Supertable`](crate::Supertable#errors) lists them.
    pub fn execute(self) -> BoxFuture<'static, crate::error::Result<ChangeReport>> {
        let Self {
            handle,
            source,
            on,
            clauses,
        } = self;
        handle.change("MERGE INTO", move |target| {
            plan(target, source, on, clauses)
        })
    }
}

fn pairs<C: Into<String>>(pairs: impl IntoIterator<Item = (C, Expr)>) -> Vec<(String, Expr)> {
    let pairs = pairs.into_iter();
    pairs
        .map(|(column, value)| (column.into(), value))
        .collect()
}

fn plan(
    target: &Target<'_>,
    source: RowSource,
    on: Expr,
    clauses: Vec<Clause>,
) -> Result<LogicalPlan> {
    if clauses.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!("MERGE INTO {}", target.name()),
            "it has no clause, so there is nothing to do; add one, as when_matched_update",
        )
        .into());
    }
    let schema = target.schema();
    let source = LogicalPlanBuilder::from(source.plan(&schema)?)
        .alias(SOURCE)?
        .build()?;
    let names = Names {
        target,
        columns: DFSchema::try_from_qualified_schema(TARGET, &schema)?,
        source: source.schema(),
    };
    let merge = MergeIntoOp {
        on: names.resolved(on)?,
        clauses: clauses
            .into_iter()
            .map(|clause| names.clause(clause))
            .collect::<Result<_>>()?,
    };
    let op = WriteOp::MergeInto(Box::new(merge));
    Ok(target.changed(TableReference::bare(TARGET), op, source))
}

/// What names mean in a `MERGE`.
struct Names<'a> {
    target: &'a Target<'a>,
    columns: DFSchema,
    source: &'a DFSchema,
}

impl Names<'_> {
    fn resolved(&self, expr: Expr) -> Result<Expr> {
        let both = [&self.columns, self.source];
        normalize_col_with_schemas_and_ambiguity_check(expr, &[&both], &[])
    }

    fn clause(&self, clause: Clause) -> Result<MergeIntoClause> {
        let action = match clause.action {
            Action::Update(assignments) => MergeIntoAction::Update(self.values(assignments)?),
            Action::UpdateAll => MergeIntoAction::Update(self.in_common()?),
            Action::Insert(values) => inserted(self.values(values)?),
            Action::InsertAll => inserted(self.in_common()?),
            Action::Delete => MergeIntoAction::Delete,
        };
        Ok(MergeIntoClause {
            kind: clause.kind,
            predicate: clause.condition.map(|c| self.resolved(c)).transpose()?,
            action,
        })
    }

    fn values(&self, values: Vec<(String, Expr)>) -> Result<Vec<(String, Expr)>> {
        let values = assigned(self.target, values)?.into_iter();
        values
            .map(|(column, value)| Ok((column, self.resolved(value)?)))
            .collect()
    }

    fn in_common(&self) -> Result<Vec<(String, Expr)>> {
        let common = common(self.target.name(), &self.target.schema(), self.source)?;
        let value = |(name, column): (String, Column)| (name, Expr::Column(column));
        Ok(common.into_iter().map(value).collect())
    }
}

fn inserted(values: Vec<(String, Expr)>) -> MergeIntoAction {
    let (columns, values) = values.into_iter().unzip();
    MergeIntoAction::Insert { columns, values }
}
