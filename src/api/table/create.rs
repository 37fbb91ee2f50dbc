//! A new table: what it is made of beyond its columns.
//!
//! Owns the builder, and turning expressions into the SQL that a table keeps of them. Does not own creating it.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr, SortExpr};
use datafusion::prelude::SessionContext;
use datafusion::sql::unparser::expr_to_sql;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Supertable;
use crate::api::handle::{Handle, shared_state_of};
use crate::api::upkeep::curve_over;
use crate::config::{CHECK, CLUSTER_BY, PREFIX, WriteOptions, check_table_option, own_option};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::factory::{column_defaults, create_table, open_or_create, sort_order};
use crate::sql::table::{CreateOptions, KeyColumns};
use crate::table::compaction::Curve;

/// A table that is yet to be made. [`Supertable::create`] begins one.
///
/// ```
/// # use std::sync::Arc;
/// # use datafusion::arrow::datatypes::{DataType, Field, Schema};
/// # use datafusion::prelude::*;
/// # use datafusion_supertable::{Result, Supertable, WriteOptions};
/// # async fn example(ctx: SessionContext) -> Result<()> {
/// let schema = Schema::new(vec![
///     Field::new("id", DataType::Int64, false),
///     Field::new("at", DataType::Int64, false),
///     Field::new("v", DataType::Float64, true),
/// ]);
/// let zstd = WriteOptions {
///     compression: Some("zstd(3)".to_owned()),
///     ..WriteOptions::default()
/// };
/// let table = Supertable::create(&ctx, "s3://bucket/events/", schema)
///     .sort_by(vec![col("at").sort(true, false)])
///     .check("positive", col("v").gt_eq(lit(0.0)))
///     .column_default("v", lit(0.0))
///     .write_options(&zstd)
///     .property("supertable.auto_compact", "true")
///     .execute()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before execute() is awaited"]
pub struct CreateBuilder {
    session: SessionContext,
    location: String,
    schema: SchemaRef,
    order: Vec<SortExpr>,
    checks: Vec<(String, Expr)>,
    defaults: Vec<(String, Expr)>,
    properties: BTreeMap<String, String>,
    keys: Vec<KeyColumns>,
    if_not_exists: bool,
}

impl fmt::Debug for CreateBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateBuilder")
            .field("location", &self.location)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl CreateBuilder {
    pub(super) fn new(session: &SessionContext, location: String, schema: SchemaRef) -> Self {
        Self {
            session: session.clone(),
            location,
            schema,
            order: Vec::new(),
            checks: Vec::new(),
            defaults: Vec::new(),
            properties: BTreeMap::new(),
            keys: Vec::new(),
            if_not_exists: false,
        }
    }

    /// Opens the table that is there already, if it has the same columns and options.
    pub fn if_not_exists(mut self) -> Self {
        self.if_not_exists = true;
        self
    }

    /// The order in which every superfile is written, by columns: scans then need no sort. (`WITH ORDER`)
    pub fn sort_by(mut self, order: Vec<SortExpr>) -> Self {
        self.order = order;
        self
    }

    /// Along a Z-order curve over these columns [`optimize`](Supertable::optimize) clusters the rows. It excludes
    /// [`sort_by`](Self::sort_by). (`supertable.cluster_by`)
    pub fn z_order<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        self.cluster_by(Curve::ZOrder, columns)
    }

    /// The same along a Hilbert curve, which keeps neighbours closer together.
    pub fn hilbert<C: Into<String>>(self, columns: impl IntoIterator<Item = C>) -> Self {
        self.cluster_by(Curve::Hilbert, columns)
    }

    fn cluster_by<C: Into<String>>(
        self,
        curve: Curve,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let by = curve_over(curve, columns);
        self.property(CLUSTER_BY, by.to_string())
    }

    /// A condition that every row meets, or for which it is NULL. The table keeps it as SQL, so a function that it
    /// calls must be known to every session that opens the table. (`supertable.check.<name>`)
    pub fn check(mut self, name: impl Into<String>, condition: Expr) -> Self {
        self.checks.push((name.into(), condition));
        self
    }

    /// The primary key: no two rows have the same values in these columns, which are `NOT NULL`.
    pub fn primary_key<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.keys.push(KeyColumns {
            name: None,
            is_primary: true,
            columns: columns.into_iter().map(Into::into).collect(),
        });
        self
    }

    /// A key: no two rows have the same values in these columns. Rows that are NULL in one of them count as different.
    pub fn unique<C: Into<String>>(
        mut self,
        name: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        self.keys.push(KeyColumns {
            name: Some(name.into()),
            is_primary: false,
            columns: columns.into_iter().map(Into::into).collect(),
        });
        self
    }

    /// What a column gets where a new row has no value for it. The table keeps it as SQL.
    pub fn column_default(mut self, column: impl Into<String>, value: Expr) -> Self {
        self.defaults.push((column.into(), value));
        self
    }

    /// How superfiles are written, where the session that writes does not say otherwise.
    pub fn write_options(mut self, options: &WriteOptions) -> Self {
        let set = options.entries().into_iter();
        self.properties
            .extend(set.filter_map(|entry| Some((entry.key, entry.value?))));
        self
    }

    /// Any [option of a table](crate::guide::options), by its full name: `supertable.isolation`.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Creates the table: its first version, without rows.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if there is a table, [`ErrorKind::InvalidArgument`] if the place holds anything else,
    /// or lies in a catalog that the session has open, or an option is none; [`ErrorKind::Unsupported`] for a type of
    /// column that Parquet cannot hold; [`ErrorKind::ReadOnly`] in a session that only reads.
    pub fn execute(self) -> BoxFuture<'static, Result<Supertable>> {
        let options = self.options();
        let Self {
            session,
            location,
            schema,
            if_not_exists,
            ..
        } = self;
        async move {
            let options = options?;
            let state = shared_state_of(&session);
            let provider = match if_not_exists {
                true => open_or_create(state.as_ref(), &location, &schema, options).await?,
                false => create_table(state.as_ref(), &location, &schema, options).await?,
            };
            Ok(Supertable::of(Handle::new(session, provider, &location)))
        }
        .boxed()
    }

    fn options(&self) -> Result<CreateOptions> {
        let mut properties = self.properties.clone();
        for (key, value) in &properties {
            let wrong = |why: &str| Error::new(ErrorKind::InvalidArgument, key, why);
            let name = own_option(key)
                .ok_or_else(|| wrong("is no option of a table; those begin with supertable."))?;
            check_table_option(name, value).map_err(|e| wrong("has a bad value").with_source(e))?;
        }
        for (name, condition) in &self.checks {
            let sql = expr_to_sql(condition).map_err(|e| {
                let why = "its condition cannot be kept as SQL; use a simpler expression";
                Error::new(ErrorKind::Unsupported, name, why).with_source(e)
            })?;
            let key = format!("{PREFIX}.{CHECK}{name}");
            if name.is_empty() || properties.insert(key, sql.to_string()).is_some() {
                let why = "a check needs a name that no other check of the table has";
                return Err(Error::new(ErrorKind::InvalidArgument, name, why));
            }
        }
        for (column, _) in &self.defaults {
            if self.schema.field_with_name(column).is_err() {
                let why = "cannot have a default, because there is no such column";
                return Err(Error::new(ErrorKind::InvalidArgument, column, why));
            }
        }
        let order = match self.order.is_empty() {
            true => Vec::new(),
            false => vec![self.order.clone()],
        };
        Ok(CreateOptions {
            properties,
            sort_order: sort_order(&order)?,
            column_defaults: column_defaults(self.defaults.iter().map(|(c, e)| (c, e)))?,
            keys: self.keys.clone(),
        })
    }
}
