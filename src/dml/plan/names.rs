//! Which column an `UPDATE` means.
//!
//! DataFusion takes the names behind `SET` as they are written, and those in every other place in lower case if
//! they are not quoted: `UPDATE t SET ID = 1` finds `"ID"` and never `id`. The plan no longer says how a name was
//! written. The reader of the text (`sql::written`) spells the names out first and marks the plan so
//! ([`with_names_as_meant`]). Owns that mark, and the refusal of a plan without it that changes another
//! column than the rule of all other names would.
//!
//! Invariant: of two columns that differ in case only, no `UPDATE` changes the one that is not meant.

use std::collections::BTreeMap;

use arrow::datatypes::Schema;
use datafusion::common::Result;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection, WriteOp};

use crate::error::{Error, ErrorKind};

/// The metadata key of the mark.
pub(crate) const AS_MEANT: &str = "supertable.names_as_meant";

/// `plan`, made of a text whose `UPDATE`s name the columns that they mean, marked so.
pub(crate) fn with_names_as_meant(plan: LogicalPlan) -> Result<LogicalPlan> {
    let is_update =
        |plan: &LogicalPlan| matches!(plan, LogicalPlan::Dml(dml) if dml.op == WriteOp::Update);
    let marked = plan.transform_down(|mut node| {
        if !is_update(&node) {
            return Ok(Transformed::no(node));
        }
        if let LogicalPlan::Dml(dml) = &mut node
            && let LogicalPlan::Projection(projection) = dml.input.as_ref()
        {
            let exprs = projection.expr.iter().cloned().map(marked).collect();
            let input = Projection::try_new(exprs, projection.input.clone())?;
            dml.input = LogicalPlan::Projection(input).into();
        }
        Ok(Transformed::yes(node))
    })?;
    Ok(marked.data)
}

fn marked(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(mut alias) => {
            let mark = BTreeMap::from([(AS_MEANT.to_owned(), "true".to_owned())]);
            alias.metadata = Some(FieldMetadata::new(mark));
            Expr::Alias(alias)
        }
        other => other,
    }
}

fn is_marked(expr: &Expr) -> bool {
    matches!(expr, Expr::Alias(alias)
        if alias.metadata.as_ref().is_some_and(|m| m.inner().contains_key(AS_MEANT)))
}

/// Refuses an `UPDATE` of a column that may not be the one that is meant. `rows` yields the table's columns.
pub(crate) fn refuse_other_names(
    rows: &LogicalPlan,
    table: &Schema,
    config: &ConfigOptions,
) -> Result<()> {
    if !config.sql_parser.enable_ident_normalization {
        return Ok(());
    }
    let exprs = match rows {
        LogicalPlan::Projection(projection) => projection.expr.as_slice(),
        _ => &[],
    };
    for (i, field) in table.fields().iter().enumerate() {
        let name = field.name();
        let other = name.to_ascii_lowercase();
        if other == *name || table.field_with_name(&other).is_err() {
            continue;
        }
        let stays = exprs.get(i).is_some_and(|expr| {
            is_marked(expr)
                || matches!(expr.clone().unalias(), Expr::Column(column) if column.name == *name)
        });
        if !stays {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("SET \"{name}\""),
                format!(
                    "SessionContext::sql cannot tell it from SET {name}, which means the column {other}; run \
                     the statement by datafusion_supertable::sql(&ctx, …), or use MERGE"
                ),
            )
            .into());
        }
    }
    Ok(())
}
