//! Carries changes of a table's columns out: types and defaults are resolved in a session, and the
//! new metadata is committed.
//!
//! Owns the resolution and the loop around the commit. Does not own the grammar (`parse`) or what a
//! change does to the metadata (`evolution`).
//!
//! Invariant: all changes of one statement are committed in one version, or none. A crash leaves
//! nothing, or a WAL document that recovery commits. A table's new name is no change of the table: its catalog gives it.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{ColumnarValue, DdlStatement, Expr, ExprSchemable, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::metrics::Count;
use datafusion::sql::parser::{DFParser, Statement};
use datafusion::sql::sqlparser::ast::Expr as SqlExpr;
use futures::StreamExt;

use crate::config::{check_table_option, own_option};
use crate::dml::TableAccess;
use crate::dml::keys::check::{KeyCheck, live_rows};
use crate::dml::keys::declared::{check_key_column, default_name};
use crate::dml::write::check::Conditions;
use crate::error::{Error, ErrorKind, Result};
use crate::format::OpKind;
use crate::format::manifest::{CHECK, SuperfileEntry, TableMetadata, field_id};
use crate::scan::plan::subset::{Rows, Subset, every_position};
use crate::scan::schema::session_schema;
use crate::sql::alter::parse::{Alter, Alteration, ColumnType, parse};
use crate::sql::catalog::{catalog_of, no_such_table};
use crate::sql::dialect::dialect_of;
use crate::sql::functions::lookup::TableLookup;
use crate::sql::schema::check_storable;
use crate::sql::table::check_bloom_filters;
use crate::sql::zones::with_zone;
use crate::table::compaction::ClusterBy;
use crate::table::evolution::{Change, ColumnPath, evolve, initial_text};
use crate::table::{AttemptEnd, Attempts, Effect, Snapshot};

/// Declares a column of a type that is put in the place of this one.
const CREATE: &str = "CREATE EXTERNAL TABLE t (c INT) STORED AS SUPERTABLE LOCATION '/'";

/// What became of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Altered {
    /// The table's version after it.
    pub(crate) version: u64,
    /// How many columns the table has now.
    pub(crate) columns: u64,
}

/// Changes the table as `text`, what stands behind `ALTER TABLE t`, says.
///
/// # Errors
/// The text cannot be parsed, or a change is refused; nothing is changed then.
pub(crate) async fn alter(
    state: &SessionState,
    lookup: &TableLookup,
    text: &str,
) -> Result<Altered> {
    let alterations = match parsed(state, text)? {
        Alter::RenameTo(to) => return rename(state, lookup, &to).await,
        Alter::Changes(alterations) => alterations,
    };
    let provider = lookup.provider_for("ALTER TABLE").await?;
    let mut changes = Vec::with_capacity(alterations.len());
    for alteration in alterations {
        changes.push(change_of(state, alteration).await?);
    }
    let statement = format!("ALTER TABLE {text}");
    let name = lookup.resolved().table;
    commit(state, provider.access(), &name, &changes, &statement).await
}

/// Gives a table of a catalog another name in its schema.
async fn rename(state: &SessionState, lookup: &TableLookup, to: &[String]) -> Result<Altered> {
    let refuse = |subject: String, why: &str| Err(Error::new(ErrorKind::Unsupported, subject, why));
    let from = lookup.resolved();
    let Some(catalog) = catalog_of(state, &from.catalog) else {
        // A table that is not there has no place that could be the wrong one.
        lookup.find().await?;
        return refuse(
            from.to_string(),
            "only a table of a catalog of supertables can be renamed; this name is the session's own: DROP TABLE \
             it, which leaves the data, and CREATE EXTERNAL TABLE another one at the same location",
        );
    };
    let Some(name) = to.last() else {
        return refuse(from.to_string(), "the new name is missing");
    };
    let stays = match to {
        [_] => true,
        [schema, _] => **schema == *from.schema,
        [catalog, schema, _] => **catalog == *from.catalog && **schema == *from.schema,
        _ => false,
    };
    if !stays {
        return refuse(
            to.join("."),
            "a table cannot be moved to another schema or catalog; CREATE TABLE … AS SELECT * FROM … \
             there, and DROP TABLE",
        );
    }
    catalog
        .rename_table(state, &from.schema, &from.table, name)
        .await?;
    let renamed = catalog.table(&from.schema, name).await?;
    let Some(renamed) = renamed else {
        return Err(no_such_table(&from.schema, name));
    };
    let table = renamed.table();
    Ok(Altered {
        version: table.cached_snapshot().version(),
        columns: table.metadata().schema.fields().len() as u64,
    })
}

fn parsed(state: &SessionState, text: &str) -> Result<Alter> {
    let parser = &state.config_options().sql_parser;
    let dialect = dialect_of(&parser.dialect).map_err(|e| {
        Error::new(ErrorKind::InvalidArgument, "ALTER TABLE", "no dialect").with_source(e)
    })?;
    parse(text, dialect.as_ref(), parser.enable_ident_normalization)
}

/// Commits `changes` of the table `name`, which `statement` tells in words.
///
/// # Errors
/// A change is refused, or rows that are there stand against it; nothing is changed then.
pub(crate) async fn commit(
    state: &SessionState,
    access: &TableAccess,
    name: &str,
    changes: &[Change],
    statement: &str,
) -> Result<Altered> {
    let table = &access.table;
    let mut attempts = Attempts::of("ALTER TABLE", table);
    loop {
        let snapshot = table.snapshot().await?;
        let metadata = snapshot.metadata();
        let next = evolve(metadata, changes)?;
        check_storable(&session_schema(&next.schema))?;
        check_bloom_filters(&next.schema, &next.properties)?;
        for id in next.keys.iter().flat_map(|key| &key.columns) {
            if let Some(field) = next.field_by_id(*id) {
                check_key_column(field.name(), field.data_type())?;
            }
        }
        ClusterBy::of_table(&next.schema, &next.sort_order, &next.properties)?;
        let columns = next.schema.fields().len() as u64;
        if metadata.needs_empty_table(&next) && snapshot.manifest().entries().next().is_some() {
            return Err(Error::new(
                ErrorKind::Constraint,
                "ALTER TABLE",
                "rows that are there have no value for a new column that is NOT NULL; give it a \
                 DEFAULT, or add it without NOT NULL",
            ));
        }
        if next == **metadata {
            let version = snapshot.version();
            return Ok(Altered { version, columns });
        }
        let conditions = new_conditions(state, metadata, &next)?;
        let reads = metadata.rows_may_break(&next);
        if reads {
            let checked = check_rows(state, access, name, &snapshot, &next, &conditions).await;
            checked.map_err(|e| Error::of_engine("ALTER TABLE", e))?;
        }
        let effect = Effect {
            metadata: Some(next),
            serializable: reads,
            ..Effect::default()
        };
        let mutation = table.begin(OpKind::Alter, snapshot, statement.to_owned());
        match AttemptEnd::of(mutation.commit(effect).await)? {
            AttemptEnd::Committed { version, .. } => return Ok(Altered { version, columns }),
            AttemptEnd::Nothing => {
                let version = table.cached_snapshot().version();
                return Ok(Altered { version, columns });
            }
            AttemptEnd::Lost(why) => attempts.after_loss(why).await?,
        }
    }
}

/// The conditions that `next` has and `now` has not.
///
/// # Errors
/// One is no condition on the columns of `next`.
fn new_conditions(
    state: &SessionState,
    now: &TableMetadata,
    next: &TableMetadata,
) -> Result<Conditions> {
    let mut new = next.properties.clone();
    new.retain(|key, condition| now.properties.get(key) != Some(condition));
    Conditions::of(state, &session_schema(&next.schema), &new)
}

/// Makes sure that the rows of a version obey what `next` declares of columns that they have; `conditions` are those of
/// it that are new.
///
/// # Errors
/// A row has a NULL or breaks a condition, or two have one key; or reading them failed.
async fn check_rows(
    state: &SessionState,
    access: &TableAccess,
    table: &str,
    snapshot: &Arc<Snapshot>,
    next: &TableMetadata,
    conditions: &Conditions,
) -> datafusion::common::Result<()> {
    let metadata = snapshot.metadata();
    let schema = session_schema(&metadata.schema);
    let check = KeyCheck {
        table,
        schema: &schema,
        location: &access.location,
        context: &state.task_ctx(),
        compared: Count::new(),
    };
    let entries = snapshot.manifest().entries();
    let rows = live_rows(snapshot, entries, &BTreeMap::new()).await?;
    if rows.is_empty() {
        return Ok(());
    }
    check_filled(&check, snapshot, metadata.no_longer_null(next)).await?;
    check_conditions(&check, state, snapshot, next, conditions, &rows).await?;
    for key in next.keys.iter().filter(|key| !metadata.keys.contains(key)) {
        let is_there = |id: &i32| metadata.field_by_id(*id).is_some();
        if !key.columns.iter().all(is_there) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                &key.name,
                "a new column cannot be part of a key in the statement that adds it; add the key in a statement of its \
                 own",
            )
            .into());
        }
        let keys = check.values_of(&key.columns, snapshot, &rows)?;
        check.all_differ(key, keys).await?;
    }
    Ok(())
}

/// Makes sure that no row of a version breaks one of `conditions`, which are on the columns of `next`.
///
/// # Errors
/// One does; or a condition is on a column that the version does not have like this.
async fn check_conditions(
    check: &KeyCheck<'_>,
    state: &SessionState,
    snapshot: &Arc<Snapshot>,
    next: &TableMetadata,
    conditions: &Conditions,
    rows: &Subset,
) -> datafusion::common::Result<()> {
    let columns = conditions.columns();
    let mut ids = Vec::with_capacity(columns.len());
    for field in session_schema(&next.schema).fields() {
        if !columns.contains(field.name()) {
            continue;
        }
        let now = (check.schema.fields().iter()).find(|now| field_id(now) == field_id(field));
        let is_same =
            |now: &&FieldRef| now.name() == field.name() && now.data_type() == field.data_type();
        let Some(id) = now.filter(is_same).and_then(|_| field_id(field)) else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                field.name(),
                "a column cannot be part of a check in the statement that adds, renames or widens it; add the check in a \
                 statement of its own",
            )
            .into());
        };
        ids.push(id);
    }
    let checks = |schema| conditions.plan(state, schema);
    if columns.is_empty() {
        let one = RecordBatchOptions::new().with_row_count(Some(1));
        let nothing = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &one)?;
        return checks(&nothing.schema())?.test_present(&nothing);
    }
    let values = check.values_of(&ids, snapshot, rows)?;
    let checks = checks(&values.schema())?;
    let mut values = execute_stream(values, Arc::clone(check.context))?;
    while let Some(batch) = values.next().await.transpose()? {
        checks.test_present(&batch)?;
    }
    Ok(())
}

/// Makes sure that columns are not NULL in any row, those that are deleted but still in superfiles included: scans read
/// them, and leave them out.
///
/// # Errors
/// One is.
async fn check_filled(
    check: &KeyCheck<'_>,
    snapshot: &Arc<Snapshot>,
    columns: Vec<i32>,
) -> datafusion::common::Result<()> {
    let is_filled = |entry: &SuperfileEntry| {
        let nulls = |id| Some(entry.stats.columns.get(id)?.null_count? == 0);
        columns.iter().all(|id| nulls(id).unwrap_or_default())
    };
    let doubtful: Vec<&Arc<SuperfileEntry>> = (snapshot.manifest().entries())
        .filter(|entry| !is_filled(entry))
        .collect();
    if doubtful.is_empty() {
        return Ok(());
    }
    let live = live_rows(snapshot, doubtful.iter().copied(), &BTreeMap::new()).await?;
    let values = check.values_of(&columns, snapshot, &live)?;
    let why = "is NULL in a row that is there, so it cannot become NOT NULL; nothing was changed. UPDATE or DELETE that \
               row first";
    check.none_is_null(values, why).await?;
    let mut all = Subset::default();
    for entry in doubtful.iter().filter(|entry| entry.tombstones.is_some()) {
        all.insert(entry.id, Rows::At(Arc::new(every_position(entry))));
    }
    if all.is_empty() {
        return Ok(());
    }
    let values = check.values_of(&columns, snapshot, &all)?;
    let why = "is NULL in a row that is deleted but still in a superfile, so it cannot become NOT NULL yet; nothing was \
               changed. Run supertable_optimize('…', full => true) first";
    check.none_is_null(values, why).await
}

/// The change that an alteration means in a session.
///
/// # Errors
/// A default or a property cannot be what it is.
pub(crate) async fn change_of(state: &SessionState, alteration: Alteration) -> Result<Change> {
    Ok(match alteration {
        Alteration::Add {
            path,
            data_type,
            nullable,
            default,
            position,
            if_not_exists,
        } => {
            let data_type = arrow_type(state, &path, data_type).await?;
            let default = match default {
                None => None,
                Some(default) => Some((
                    default.to_string(),
                    value_of(state, &path, &default, &data_type)?,
                )),
            };
            let (default, value) = default.unzip();
            if default.is_some() && path.0.len() > 1 {
                return Err(unsupported(
                    &path,
                    "a field of a struct has no default; add it without one, and UPDATE it",
                ));
            }
            let initial = match value.filter(|value| !value.is_null()) {
                None if default.is_some() && !nullable => {
                    return Err(unsupported(
                        &path,
                        "a column that is NOT NULL needs a default that is not NULL",
                    ));
                }
                None => None,
                Some(value) => Some(initial_text(&path.to_string(), &value)?),
            };
            Change::Add {
                path,
                data_type,
                nullable,
                position,
                default,
                initial,
                if_not_exists,
            }
        }
        Alteration::Drop { path, if_exists } => Change::Drop { path, if_exists },
        Alteration::Rename { path, to } => Change::Rename { path, to },
        Alteration::Type { path, data_type } => Change::Widen {
            to: arrow_type(state, &path, data_type).await?,
            path,
        },
        Alteration::DropNotNull { path } => Change::DropNotNull { path },
        Alteration::SetNotNull { path } => match path.0.as_slice() {
            [column] => Change::SetNotNull {
                column: column.clone(),
            },
            _ => return Err(unsupported(&path, "only a column can be made NOT NULL")),
        },
        Alteration::AddKey {
            name,
            is_primary,
            columns,
        } => {
            let names: Vec<&str> = columns.iter().map(String::as_str).collect();
            Change::AddKey {
                name: name.unwrap_or_else(|| default_name(is_primary, &names)),
                is_primary,
                columns,
            }
        }
        Alteration::AddCheck { name, condition } => Change::AddCheck {
            name,
            condition: condition.to_string(),
        },
        Alteration::DropConstraint { name, if_exists } => {
            Change::DropConstraint { name, if_exists }
        }
        Alteration::Default { path, default } => {
            let [column] = path.0.as_slice() else {
                return Err(unsupported(&path, "only a column has a default"));
            };
            if let Some(default) = &default {
                default_expr(state, &path, default)?;
            }
            Change::SetDefault {
                column: column.clone(),
                default: default.map(|default| default.to_string()),
            }
        }
        Alteration::Move { path, position } => Change::Move { path, position },
        Alteration::Property { key, value } => {
            check_property(&key, value.as_deref())?;
            let normalize = state.config_options().sql_parser.enable_ident_normalization;
            let value = value.map(|value| ClusterBy::kept(&key, value, normalize));
            Change::SetProperty { key, value }
        }
    })
}

/// The type in memory: of one that is written, that of a column so declared by `CREATE EXTERNAL TABLE`.
async fn arrow_type(
    state: &SessionState,
    path: &ColumnPath,
    data_type: ColumnType,
) -> Result<DataType> {
    let sql = match data_type {
        ColumnType::Sql(sql) => sql,
        ColumnType::Arrow(known) => return Ok(known),
    };
    let bad = |e: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(
            ErrorKind::InvalidArgument,
            path.to_string(),
            format!("a column cannot have the type {sql}"),
        )
        .with_source(e)
    };
    // The type as it was parsed: not every type is written so that it is read again.
    let mut statement = DFParser::parse_sql(CREATE)
        .map_err(|e| bad(e.into()))?
        .pop_front();
    if let Some(Statement::CreateExternalTable(create)) = &mut statement
        && let Some(column) = create.columns.first_mut()
    {
        column.data_type = sql.clone();
    }
    let Some(statement) = statement else {
        return Err(bad("no type".into()));
    };
    let plan = with_zone(state.clone())
        .statement_to_plan(statement)
        .await
        .map_err(|e| bad(e.into()))?;
    match plan {
        LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) => {
            match create.schema.fields().first() {
                Some(field) => Ok(field.data_type().clone()),
                None => Err(bad("no type".into())),
            }
        }
        _ => Err(bad("no type".into())),
    }
}

fn default_expr(state: &SessionState, path: &ColumnPath, sql: &SqlExpr) -> Result<Expr> {
    state
        .create_logical_expr(&sql.to_string(), &DFSchema::empty())
        .map_err(|e| {
            Error::new(
                ErrorKind::InvalidArgument,
                path.to_string(),
                format!("its default {sql} is not an expression without columns"),
            )
            .with_source(e)
        })
}

/// The value that a default has at this moment: that of rows which are there already.
fn value_of(
    state: &SessionState,
    path: &ColumnPath,
    sql: &SqlExpr,
    data_type: &DataType,
) -> Result<ScalarValue> {
    let expr = default_expr(state, path, sql)?;
    if expr.is_volatile() {
        return Err(unsupported(
            path,
            "rows that are there cannot be given a default that differs from row to row; add the \
             column without a default, UPDATE it, and SET DEFAULT then",
        ));
    }
    let evaluate = || {
        let nothing = DFSchema::empty();
        let cast = expr.cast_to(data_type, &nothing)?;
        // The time of a statement, as in now(), is put in its place by DataFusion when it simplifies a plan.
        let at_this_moment = SimplifyContext::builder()
            .with_schema(Arc::new(nothing.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .with_current_time()
            .build();
        let simplifier = ExprSimplifier::new(at_this_moment);
        let constant = simplifier.simplify(simplifier.coerce(cast, &nothing)?)?;
        let physical = state.create_physical_expr(constant, &nothing)?;
        let one_row = RecordBatch::try_new_with_options(
            Arc::new(Schema::new(Vec::<Field>::new())),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )?;
        match physical.evaluate(&one_row)? {
            ColumnarValue::Scalar(value) => Ok(value),
            ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
        }
    };
    evaluate().map_err(|e| {
        Error::new(
            ErrorKind::InvalidArgument,
            path.to_string(),
            format!("its default {sql} is not a value of type {data_type}"),
        )
        .with_source(e)
    })
}

/// Only what a table can be created with can be set later, and a check concerns rows that are there.
fn check_property(key: &str, value: Option<&str>) -> Result<()> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::InvalidArgument, key, why));
    let Some(name) = own_option(key) else {
        return refuse("a table's properties begin with supertable.");
    };
    match value {
        Some(_) if key.starts_with(CHECK) => refuse(
            "rows that are there may violate a check: add it by ALTER TABLE … ADD CONSTRAINT name CHECK (…), which reads them",
        ),
        Some(value) => check_table_option(name, value).map_err(|e| {
            Error::new(ErrorKind::InvalidArgument, key, "nothing was changed").with_source(e)
        }),
        None => Ok(()),
    }
}

fn unsupported(path: &ColumnPath, why: &str) -> Error {
    Error::new(ErrorKind::Unsupported, path.to_string(), why)
}
