//! The table that a statement changes.
//!
//! Owns finding it. It must be a supertable: the plans that are made here would lose predicates in the hooks that
//! other tables have for `DELETE` and `UPDATE`.

use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::common::{Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{DmlStatement, LogicalPlan, TableSource, WriteOp};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, TableFactor, With};

use super::columns::no_column;
use super::planner::{Planner, refused};
use super::tree;
use super::with::defines;
use crate::dml::SupertableProvider;
use crate::error::{Error, ErrorKind};

/// The table that a statement changes.
pub(super) struct Target {
    name: ObjectName,
    alias: Option<Ident>,
    /// The name as DataFusion understands it.
    pub(super) reference: TableReference,
    pub(super) provider: Arc<dyn TableProvider>,
    /// How a query in which a `WITH` has taken the name can name it.
    full_name: Vec<Ident>,
}

impl Target {
    /// The table behind `factor`, for a statement of some form.
    ///
    /// # Errors
    /// There is none, or it is no supertable, or more than its name and an alias is there.
    pub(super) async fn of(
        planner: &Planner<'_>,
        factor: &TableFactor,
        form: &str,
    ) -> Result<Self> {
        let (name, alias) = plain(factor, form)?;
        let target = Self::named(planner, name, alias).await?;
        target.supertable(form)?;
        Ok(target)
    }

    /// The table of a name, whatever it is.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn named(
        planner: &Planner<'_>,
        name: ObjectName,
        alias: Option<Ident>,
    ) -> Result<Self> {
        let reference = object_name_to_table_reference(name.clone(), planner.normalize)?;
        let defaults = &planner.state.config_options().catalog;
        let resolved = reference
            .clone()
            .resolve(&defaults.default_catalog, &defaults.default_schema);
        let schema = planner.state.schema_for_ref(resolved.clone())?;
        let Some(provider) = schema.table(&resolved.table).await? else {
            return Err(Error::new(
                ErrorKind::NotFound,
                resolved.to_string(),
                "there is no such table",
            )
            .into());
        };
        Ok(Self {
            name,
            alias,
            reference,
            provider,
            full_name: [&resolved.catalog, &resolved.schema, &resolved.table]
                .map(|part| tree::exactly(part.as_ref()))
                .into(),
        })
    }

    /// The table as a supertable.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn supertable(&self, form: &str) -> Result<&SupertableProvider> {
        self.provider.downcast_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                format!("{form} on {}", self.reference),
                "it changes supertables only, in their newest version, and this is none",
            )
            .into()
        })
    }

    /// How it stands in the FROM of a query that has `with`, and what qualifies its columns there.
    pub(super) fn in_query(
        &self,
        with: Option<&With>,
        normalize: bool,
    ) -> (TableFactor, Vec<Ident>) {
        let parts = tree::parts(&self.name).unwrap_or_default();
        let table = |name, alias: Option<&Ident>| TableFactor::Table {
            name,
            alias: alias.cloned().map(tree::alias),
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        };
        let hidden = with.is_some_and(|with| match parts.as_slice() {
            [name] => defines(with, name, normalize),
            _ => false,
        });
        match (&self.alias, hidden) {
            (None, false) => (table(self.name.clone(), None), parts),
            (Some(alias), false) => (table(self.name.clone(), Some(alias)), vec![alias.clone()]),
            (alias, true) => {
                let alias = alias.as_ref().or(parts.last());
                let factor = table(self.full_name.clone().into(), alias);
                (factor, alias.into_iter().cloned().collect())
            }
        }
    }

    /// The columns that a statement gives values for; all, if it names none.
    pub(super) fn named_columns(&self, columns: &[ObjectName], normalize: bool) -> Vec<String> {
        match columns {
            [] => {
                let schema = self.provider.schema();
                schema.fields().iter().map(|f| f.name().clone()).collect()
            }
            columns => (columns.iter())
                .map(|column| tree::last_of(column, normalize))
                .collect(),
        }
    }

    /// By what its columns are qualified where the statement names them.
    pub(super) fn qualifier(&self, normalize: bool) -> TableReference {
        match &self.alias {
            Some(alias) => TableReference::bare(tree::normalized(alias, normalize)),
            None => self.reference.clone(),
        }
    }

    /// The column that an assignment names.
    ///
    /// # Errors
    /// There is none, or it belongs to something else.
    pub(super) fn assigned(&self, name: &ObjectName, normalize: bool) -> Result<String> {
        let parts = tree::parts(name).unwrap_or_default();
        let Some((column, qualifier)) = parts.split_last() else {
            return Err(refused(
                &name.to_string(),
                "it cannot be set; name a column",
            ));
        };
        if let Some(table) = qualifier.last()
            && tree::normalized(table, normalize) != self.qualifier(normalize).table()
        {
            return Err(refused(
                &name.to_string(),
                "a part of a column cannot be set, nor another table's; set the whole column",
            ));
        }
        let column = tree::normalized(column, normalize);
        match self.provider.schema().field_with_name(&column) {
            Ok(_) => Ok(column),
            Err(_) => Err(no_column(&self.reference, &column).into()),
        }
    }

    /// The change whose rows `input` yields, which scans the table at its left end.
    ///
    /// # Errors
    /// It does not.
    pub(super) fn changed(&self, op: WriteOp, input: LogicalPlan) -> Result<LogicalPlan> {
        let source =
            scanned(&input).unwrap_or_else(|| provider_as_source(Arc::clone(&self.provider)));
        Ok(LogicalPlan::Dml(DmlStatement::new(
            self.reference.clone(),
            source,
            op,
            Arc::new(input),
        )))
    }
}

/// What is read at the left end of a plan: as the query has found it, which may be later than the target was found.
fn scanned(plan: &LogicalPlan) -> Option<Arc<dyn TableSource>> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(Arc::clone(&scan.source)),
        other => scanned(other.inputs().first()?),
    }
}

/// The name and the alias that are all of `factor`.
fn plain(factor: &TableFactor, form: &str) -> Result<(ObjectName, Option<Ident>)> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } if with_hints.is_empty()
            && partitions.is_empty()
            && index_hints.is_empty()
            && alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) =>
        {
            Ok((name.clone(), alias.as_ref().map(|alias| alias.name.clone())))
        }
        other => Err(refused(
            &format!("{form} on {other}"),
            "only a table can be changed, under its name or another one",
        )),
    }
}
