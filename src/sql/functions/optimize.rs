//! `supertable_optimize('t')`: joins small superfiles, writes those with many deleted rows anew, and clusters rows.
//!
//! Owns the arguments and the rows that tell of it. Does not own the compaction (`dml::optimize`).

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use datafusion::execution::TaskContext;
use futures::FutureExt;

use crate::config::CLUSTER_BY;
use crate::dml::TableAccess;
use crate::dml::compact::cluster::ClusterBy;
use crate::dml::compact::{GroupOutcome, Optimized, Request, Scope, optimize_as, targets_of};
use crate::error::{Error, ErrorKind};
use crate::format::ids::MAX_SUPERFILE_ROWS;
use crate::sql::functions::args::{Call, Signature, argument_err};
use crate::sql::functions::lookup::TableLookup;
use crate::sql::functions::rows::{batch, effect_table};
use crate::table::compaction::Targets;

const SIGNATURE: Signature = Signature {
    function: "supertable_optimize",
    table: true,
    positional: &[],
    named: &[
        "target_bytes",
        "target_rows",
        "deleted_percent",
        "full",
        "order",
        "rewrite",
        "max_group_bytes",
        "dry_run",
    ],
};

/// One row for each group of superfiles that was written anew together.
#[derive(Debug)]
pub(crate) struct Optimize;

impl TableFunctionImpl for Optimize {
    fn call_with_args(&self, args: TableFunctionArgs<'_, '_>) -> Result<Arc<dyn TableProvider>> {
        let call = Call::parse(&SIGNATURE, &args)?;
        let by = call.text("order")?;
        let by = by.map(|text| ClusterBy::parse_as(&text, call.normalizes_names()));
        let choice = Choice {
            bytes: call.u64("target_bytes")?,
            rows: call.u64("target_rows")?,
            deleted_percent: call.u64("deleted_percent")?,
            by: by.transpose()?,
            full: call.bool("full")?,
            again: call.bool("rewrite")? == Some(true),
            max_group_bytes: call.u64("max_group_bytes")?,
            dry_run: call.bool("dry_run")?.unwrap_or(false),
        };
        choice.checked()?;
        let work = Work {
            lookup: call.table()?,
            choice,
            output: Arc::new(Schema::new(vec![
                Field::new("action", DataType::Utf8, false),
                Field::new("superfiles_before", DataType::UInt64, false),
                Field::new("superfiles_after", DataType::UInt64, true),
                Field::new("rows", DataType::UInt64, false),
                Field::new("bytes_before", DataType::UInt64, false),
                Field::new("bytes_after", DataType::UInt64, true),
            ])),
        };
        let schema = Arc::clone(&work.output);
        effect_table(schema, move |context| {
            let work = work.clone();
            async move { work.run(&context).await }.boxed()
        })
    }
}

/// Which superfiles are to be written anew, and how; what is `None` is as the session or the table says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Bytes below which a superfile is small.
    pub(crate) bytes: Option<u64>,
    /// Rows of a superfile.
    pub(crate) rows: Option<u64>,
    /// Percentage of deleted rows from which on a superfile is written anew.
    pub(crate) deleted_percent: Option<u64>,
    /// An order of the whole table.
    pub(crate) by: Option<ClusterBy>,
    /// Whether everything is written anew that is not in the table's order yet.
    pub(crate) full: Option<bool>,
    /// Whether what is in that order is, too.
    pub(crate) again: bool,
    /// Bytes that are written anew in one commit.
    pub(crate) max_group_bytes: Option<u64>,
    /// Only plan.
    pub(crate) dry_run: bool,
}

impl Choice {
    /// What the parts come to together.
    ///
    /// # Errors
    /// Names two that contradict one another, or one that is no number for it.
    fn checked(&self) -> Result<Scope> {
        let scope = self.scope()?;
        for (name, value) in [
            ("target_bytes", self.bytes),
            ("target_rows", self.rows),
            ("max_group_bytes", self.max_group_bytes),
        ] {
            if value == Some(0) {
                return argument_err!(
                    SIGNATURE.function,
                    "the argument {name} of {} must be at least 1",
                    SIGNATURE.function
                );
            }
        }
        Ok(scope)
    }

    /// Whether an order is to go through the whole table, which one, and whether what is in it already is left alone.
    fn scope(&self) -> Result<Scope> {
        if self.by.is_some() && self.full == Some(false) {
            return argument_err!(
                SIGNATURE.function,
                "an order is one of the whole table: full => false contradicts it"
            );
        }
        if self.again && self.full == Some(false) {
            return argument_err!(
                SIGNATURE.function,
                "rewrite => true is about the whole table: full => false contradicts it"
            );
        }
        let by = self.by.clone();
        let scope = match (self.again, by.is_some() || self.full == Some(true)) {
            (true, _) => Scope::Again { by },
            (false, true) => Scope::Whole { by },
            (false, false) => return Ok(Scope::Needed),
        };
        for (choice, value) in [
            ("target_bytes", self.bytes),
            ("deleted_percent", self.deleted_percent),
        ] {
            if value.is_some() {
                return argument_err!(
                    SIGNATURE.function,
                    "{choice} chooses superfiles, but all of them are to be written anew"
                );
            }
        }
        Ok(scope)
    }

    /// Writes them anew.
    ///
    /// # Errors
    /// Two parts contradict one another, or one is no number for it; and what writing them raises.
    pub(crate) async fn carry_out(
        &self,
        access: &TableAccess,
        context: &Arc<TaskContext>,
    ) -> Result<Vec<Optimized>> {
        let scope = self.checked()?;
        let defaults = targets_of(access, context);
        let targets = Targets {
            bytes: self.bytes.unwrap_or(defaults.bytes),
            rows: self
                .rows
                .map_or(defaults.rows, |rows| rows.min(MAX_SUPERFILE_ROWS)),
            deleted_percent: self.deleted_percent.unwrap_or(defaults.deleted_percent),
            files_per_tier: None,
        };
        let clustered = (access.table.metadata().properties).contains_key(CLUSTER_BY);
        if clustered && self.bytes.is_some() {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                "target_bytes",
                "the table is clustered (supertable.cluster_by), so its superfiles are not chosen by their size; \
                 target_rows says how large they become, and max_group_bytes how much is written anew in one commit",
            )
            .into());
        }
        let whole = scope != Scope::Needed || clustered;
        let request = Request {
            superfile_rows: self.rows.filter(|_| whole).map(|_| targets.rows),
            targets,
            scope,
            max_group_bytes: self.max_group_bytes,
            dry_run: self.dry_run,
        };
        optimize_as(access, context, &request).await
    }
}

#[derive(Clone)]
struct Work {
    lookup: TableLookup,
    choice: Choice,
    output: SchemaRef,
}

impl Work {
    async fn run(self, context: &Arc<TaskContext>) -> Result<arrow::array::RecordBatch> {
        let provider = self.lookup.provider().await?;
        let groups = self.choice.carry_out(provider.access(), context).await?;
        let number = |n: usize| n as u64;
        // What a plan or a group without effect would have come to is not known.
        let done = |group: &Optimized| matches!(group.outcome, GroupOutcome::Committed(_));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(
                groups
                    .iter()
                    .map(|g| Some(action(&g.outcome)))
                    .collect::<StringArray>(),
            ),
            Arc::new(
                groups
                    .iter()
                    .map(|g| Some(number(g.sources)))
                    .collect::<UInt64Array>(),
            ),
            Arc::new(
                groups
                    .iter()
                    .map(|g| done(g).then(|| number(g.superfiles)))
                    .collect::<UInt64Array>(),
            ),
            Arc::new(groups.iter().map(|g| Some(g.rows)).collect::<UInt64Array>()),
            Arc::new(
                groups
                    .iter()
                    .map(|g| Some(g.bytes_before))
                    .collect::<UInt64Array>(),
            ),
            Arc::new(
                groups
                    .iter()
                    .map(|g| done(g).then_some(g.bytes_after))
                    .collect::<UInt64Array>(),
            ),
        ];
        Ok(batch(SIGNATURE.function, &self.output, columns)?)
    }
}

fn action(outcome: &GroupOutcome) -> String {
    match outcome {
        GroupOutcome::Committed(version) => format!("compacted in version {version}"),
        GroupOutcome::Planned => "would be compacted".to_owned(),
        GroupOutcome::Superseded => "left: other statements took its rows first".to_owned(),
        GroupOutcome::GivenUp(why) => format!("left: {why}"),
    }
}
