//! `CHECK` constraints: conditions that every row of a table meets.
//!
//! Owns their meaning: what may be one, and the test of new rows. Does not own where they are stored
//! (the table option `supertable.check.<name>`) nor `NOT NULL` (the table's writer).
//!
//! DataFusion's `CREATE EXTERNAL TABLE` cannot declare one, so it is an option. As in SQL, a row
//! violates a condition that is FALSE for it; where it is NULL, the row passes.
//!
//! Invariant: a condition is a function of the row alone. A row that was written meets every
//! condition that the table had when it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::config::SqlParserOptions;
use datafusion::execution::SessionState;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{Expr, ScalarUDF, Volatility};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::SessionConfig;

use crate::config::{CHECK, own_option};
use crate::dml::definition::understand_arrow_types;
use crate::dml::opaque::Opaque;
use crate::error::{Error, ErrorKind};
use crate::table::Snapshot;

/// The conditions of a table, as its properties give them.
#[derive(Debug, Clone)]
pub struct Conditions {
    parsed: Opaque<Vec<(String, Expr)>>,
    sql: Arc<BTreeMap<String, String>>,
    parser: Arc<Parser>,
}

/// How the session that opened the table reads SQL: what is declared later means the same.
#[derive(Debug, Default)]
struct Parser {
    options: SqlParserOptions,
    functions: Vec<Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl Parser {
    fn of(state: &SessionState) -> Self {
        Self {
            options: state.config_options().sql_parser.clone(),
            functions: state.scalar_functions().values().cloned().collect(),
            planners: state.expr_planners().to_vec(),
        }
    }

    /// A session that reads SQL so, and has nothing else of that session: keeping it keeps no table alive.
    fn session(&self) -> SessionState {
        let mut config = SessionConfig::new();
        config.options_mut().sql_parser = self.options.clone();
        let mut builder = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config);
        understand_arrow_types(builder.type_planner());
        match self.functions.is_empty() {
            true => builder,
            false => builder
                .with_scalar_functions(self.functions.clone())
                .with_expr_planners(self.planners.clone()),
        }
        .build()
    }
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            parsed: Opaque::new(Vec::new()),
            sql: Arc::default(),
            parser: Arc::default(),
        }
    }
}

/// The conditions among a table's properties, by name, as SQL.
fn in_properties(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    properties
        .iter()
        .filter_map(|(key, sql)| Some((own_option(key)?.strip_prefix(CHECK)?, sql.as_str())))
}

impl Conditions {
    /// The conditions among `properties`, checked against the table's columns.
    ///
    /// # Errors
    /// `InvalidArgument` names a condition that is not one, and says why.
    pub fn of(
        state: &dyn Session,
        schema: &SchemaRef,
        properties: &BTreeMap<String, String>,
    ) -> crate::error::Result<Self> {
        let sql: BTreeMap<String, String> = in_properties(properties)
            .map(|(name, sql)| (name.to_owned(), sql.to_owned()))
            .collect();
        let parsed = sql
            .iter()
            .map(|(name, sql)| Ok((name.clone(), parse(state, schema, name, sql)?)))
            .collect::<crate::error::Result<Vec<_>>>()?;
        let parser = state.as_any().downcast_ref::<SessionState>();
        Ok(Self {
            parsed: Opaque::new(parsed),
            sql: Arc::new(sql),
            parser: Arc::new(parser.map(Parser::of).unwrap_or_default()),
        })
    }

    /// A session for what is declared after the table was opened: it reads SQL as the one does that opened it.
    pub(crate) fn later(&self) -> SessionState {
        self.parser.session()
    }

    /// Whether these are the conditions among `properties`.
    pub(crate) fn are_those_of(&self, properties: &BTreeMap<String, String>) -> bool {
        in_properties(properties).eq(self.sql.iter().map(|(n, s)| (n.as_str(), s.as_str())))
    }

    /// Makes sure that these are still the conditions of the table.
    ///
    /// # Errors
    /// `Conflict` if `snapshot` has others.
    pub(crate) fn check_current(&self, snapshot: &Snapshot) -> Result<()> {
        if self.are_those_of(&snapshot.metadata().properties) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "CHECK",
            "the table's conditions have changed since this session opened it; open it again",
        )
        .into())
    }

    /// The columns that they name.
    pub(crate) fn columns(&self) -> BTreeSet<String> {
        let conditions = self.parsed.get().iter();
        let columns = conditions.flat_map(|(_, condition)| condition.column_refs());
        columns.map(|column| column.name.clone()).collect()
    }

    /// The same, ready to be tested on batches that begin with the columns of `schema`.
    ///
    /// # Errors
    /// What planning an expression can raise.
    pub(crate) fn plan(&self, state: &dyn Session, schema: &SchemaRef) -> Result<Checks> {
        let conditions = self.parsed.get();
        if conditions.is_empty() {
            return Ok(Checks::default());
        }
        let df_schema = DFSchema::try_from(Arc::clone(schema))?;
        let planned = conditions.iter().map(|(name, condition)| {
            Ok(Check {
                name: name.clone(),
                sql: self.sql.get(name).cloned().unwrap_or_default(),
                condition: state.create_physical_expr(condition.clone(), &df_schema)?,
            })
        });
        Ok(Checks(planned.collect::<Result<_>>()?))
    }
}

/// Conditions that rows are tested for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks(Vec<Check>);

#[derive(Debug, Clone)]
struct Check {
    name: String,
    sql: String,
    condition: Arc<dyn PhysicalExpr>,
}

impl Checks {
    /// Tests every row of `rows`.
    ///
    /// # Errors
    /// `Constraint` names the first condition that is false for a row.
    pub(crate) fn test(&self, rows: &RecordBatch) -> Result<()> {
        self.test_of(rows, "of the statement")
    }

    /// The same of rows that are in the table.
    ///
    /// # Errors
    /// As [`test`](Self::test).
    pub(crate) fn test_present(&self, rows: &RecordBatch) -> Result<()> {
        self.test_of(rows, "that is there")
    }

    fn test_of(&self, rows: &RecordBatch, which: &str) -> Result<()> {
        for check in &self.0 {
            let result = check
                .condition
                .evaluate(rows)?
                .into_array(rows.num_rows())?;
            let violated = violations(as_boolean_array(&result)?);
            if violated > 0 {
                return Err(Error::new(
                    ErrorKind::Constraint,
                    &check.name,
                    format!(
                        "the condition {} is false for a row {which}; nothing was changed",
                        check.sql
                    ),
                )
                .into());
            }
        }
        Ok(())
    }
}

/// How many rows are FALSE; NULL is not.
fn violations(result: &BooleanArray) -> usize {
    result.len() - result.null_count() - result.true_count()
}

fn parse(
    state: &dyn Session,
    schema: &SchemaRef,
    name: &str,
    sql: &str,
) -> crate::error::Result<Expr> {
    let refuse = |why: String| Error::new(ErrorKind::InvalidArgument, format!("CHECK {name}"), why);
    let Some(state) = state.as_any().downcast_ref::<SessionState>() else {
        return Err(refuse("this session cannot parse it".to_owned()));
    };
    let invalid =
        |e| refuse(format!("{sql} is not a condition on the table's columns")).with_source(e);
    let df_schema = DFSchema::try_from(Arc::clone(schema)).map_err(invalid)?;
    let condition = state
        .create_logical_expr(sql, &df_schema)
        .map_err(invalid)?;
    if let Some(part) = not_of_the_row(&condition).map_err(invalid)? {
        return Err(refuse(format!(
            "{part} is not a function of the row alone; use columns, constants and functions \
             that always give the same result"
        )));
    }
    let planned = state
        .create_physical_expr(condition.clone(), &df_schema)
        .map_err(invalid)?;
    match planned.data_type(schema).map_err(invalid)? {
        DataType::Boolean => Ok(condition),
        other => Err(refuse(format!(
            "{sql} is of type {other}, not a truth value"
        ))),
    }
}

/// A part of `condition` that depends on something else than the row.
fn not_of_the_row(condition: &Expr) -> Result<Option<String>> {
    let mut found = None;
    condition.apply(|part| {
        let of_the_row = match part {
            Expr::ScalarFunction(f) => f.func.signature().volatility == Volatility::Immutable,
            Expr::Column(_)
            | Expr::Literal(..)
            | Expr::Alias(_)
            | Expr::BinaryExpr(_)
            | Expr::Like(_)
            | Expr::SimilarTo(_)
            | Expr::Not(_)
            | Expr::IsNotNull(_)
            | Expr::IsNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_)
            | Expr::Negative(_)
            | Expr::Between(_)
            | Expr::Case(_)
            | Expr::Cast(_)
            | Expr::TryCast(_)
            | Expr::InList(_) => true,
            _ => false,
        };
        if of_the_row {
            return Ok(TreeNodeRecursion::Continue);
        }
        found = Some(part.to_string());
        Ok(TreeNodeRecursion::Stop)
    })?;
    Ok(found)
}
