//! Which superfiles may hold a key, by their Bloom filters.
//!
//! Statistics say nothing of keys in no order, a random UUID for one: it lies between the bounds of every superfile.
//! Their Bloom filters do; so those that statistics leave are asked, before any of them is opened for its rows. Filters
//! stay in the cache of the table's objects: once they are read, a lookup of a key costs no request but those of its row.
//!
//! Owns which predicates ask for keys, and the decision. Does not own the filters ([`ColumnFilter`]) nor which columns
//! have some (the writer).
//!
//! Invariant: a superfile is left out only if it has no row for which a condition that every wanted row satisfies, a
//! comparison of a column with values, is true.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::Session;
use datafusion::common::{Result, ScalarValue};
use datafusion::datasource::physical_plan::ParquetFileReaderFactory;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::{StreamExt, stream};

use crate::config::WriteOptions;
use crate::format::manifest::{SuperfileEntry, TableMetadata, field_id};
use crate::scan::plan::layout::superfile;
use crate::scan::plan::scan::{Only, ScanRequest, by_statistics, parts};
use crate::scan::read::parts::ScanSummary;
use crate::scan::read::reader::SuperfileReaders;
use crate::table::{ColumnFilter, stored_type};

/// So few superfiles are opened as soon as asked about.
const FEW: usize = 2;
/// Of more rows filters are not read: they would drive one another out of the cache.
const MOST_ROWS: u64 = 128_000_000;
/// Superfiles whose filters are read at once.
const AT_ONCE: usize = 16;

/// A column that equals one of these values in each wanted row.
struct Wanted {
    field_id: i32,
    name: String,
    data_type: DataType,
    values: HashSet<ScalarValue>,
}

/// The superfiles that may hold the keys that the request's filters ask for; `None` if they ask for none.
///
/// # Errors
/// A filter does not fit the schema, or the session does not know the table's store. Filters that cannot be read
/// are none: whoever reads the superfile's rows hears of it.
pub(crate) async fn superfiles_with_keys(
    state: &dyn Session,
    request: &ScanRequest<'_>,
) -> Result<Option<Only>> {
    if !state
        .config_options()
        .execution
        .parquet
        .bloom_filter_on_read
    {
        return Ok(None);
    }
    let wanted = wanted(request);
    if wanted.is_empty() {
        return Ok(None);
    }
    let candidates = by_statistics(state, request)?;
    let rows: u64 = candidates.iter().map(|entry| entry.rows).sum();
    let mut only = Only::default();
    if candidates.len() <= FEW || rows > MOST_ROWS {
        only.superfiles = candidates.iter().map(|entry| entry.id).collect();
        return Ok(Some(only));
    }
    let parts = parts(request, &candidates, ScanSummary::default())?;
    let (readers, wanted) = (&*parts.readers(state.runtime_env())?, &wanted);
    let mut asked = stream::iter(candidates)
        .map(|entry| async move {
            let may_hold = may_hold(request, readers, &entry, wanted).await;
            (entry.id, may_hold)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((id, may_hold)) = asked.next().await {
        match may_hold {
            true => drop(only.superfiles.insert(id)),
            false => only.left_out_by_bloom_filters += 1,
        }
    }
    Ok(Some(only))
}

/// The conditions by which the filters of a request ask for keys.
fn wanted(request: &ScanRequest<'_>) -> Vec<Wanted> {
    let filtered = filtered_columns(request.snapshot.metadata());
    if filtered.is_empty() {
        return Vec::new();
    }
    let conditions = request.filters.iter().flat_map(split_conjunction);
    conditions
        .filter_map(|condition| {
            let (name, values) = values_of(condition)?;
            let field = request.schema.field_with_name(name).ok()?;
            let field_id = field_id(field).filter(|id| filtered.contains(id))?;
            stored_type(field.data_type())?;
            let typed = |value: &ScalarValue| value.data_type() == *field.data_type();
            values.iter().all(typed).then(|| Wanted {
                field_id,
                name: name.to_owned(),
                data_type: field.data_type().clone(),
                values,
            })
        })
        .collect()
}

/// The columns, by their ids, of which superfiles may have Bloom filters.
fn filtered_columns(metadata: &TableMetadata) -> HashSet<i32> {
    let named = WriteOptions::of_properties(&metadata.properties).bloom_filter_columns;
    let named = named.into_iter().flatten();
    let id = |name: String| field_id(metadata.schema.field_with_name(&name).ok()?);
    named
        .filter_map(id)
        .chain(metadata.columns_that_are_keys())
        .collect()
}

/// The column and the values of `column = value` and `column IN (values)`; NULL equals nothing.
fn values_of(condition: &Expr) -> Option<(&str, HashSet<ScalarValue>)> {
    let (column, values): (_, Vec<&Expr>) = match condition {
        Expr::BinaryExpr(b) if b.op == Operator::Eq => match (&*b.left, &*b.right) {
            (Expr::Column(column), value) | (value, Expr::Column(column)) => (column, vec![value]),
            _ => return None,
        },
        Expr::InList(list) if !list.negated => match &*list.expr {
            Expr::Column(column) => (column, list.list.iter().collect()),
            _ => return None,
        },
        _ => return None,
    };
    let values = values.into_iter().map(|value| match value {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    });
    let values: HashSet<ScalarValue> = values.collect::<Option<_>>()?;
    let known = values.into_iter().filter(|value| !value.is_null());
    Some((column.name.as_str(), known.collect()))
}

/// Whether a superfile may have a row that satisfies all of `wanted`.
async fn may_hold(
    request: &ScanRequest<'_>,
    readers: &SuperfileReaders,
    entry: &Arc<SuperfileEntry>,
    wanted: &[Wanted],
) -> bool {
    // What others wrote has values of other types, perhaps, than the table.
    if entry.external.is_some() || entry.in_place.is_some() {
        return true;
    }
    for column in wanted {
        let filter = match request.snapshot.kept().filter(&entry.id, column.field_id) {
            Some(filter) => filter,
            None => match read(request, readers, entry, column).await {
                Ok(filter) => filter,
                Err(error) => {
                    tracing::debug!(superfile = %entry.id, %error, "a Bloom filter cannot be read");
                    return true;
                }
            },
        };
        if !filter.may_hold(&column.values, &column.data_type) {
            return false;
        }
    }
    true
}

async fn read(
    request: &ScanRequest<'_>,
    readers: &SuperfileReaders,
    entry: &Arc<SuperfileEntry>,
    column: &Wanted,
) -> Result<Arc<ColumnFilter>> {
    request.snapshot.sidecars().check_superfile(&entry.id)?;
    let file = superfile(entry, request.location);
    let mut reader = readers.create_reader(0, file, None, &ExecutionPlanMetricsSet::new())?;
    let metadata = reader.get_metadata(None).await?;
    let filter = ColumnFilter::read(reader.as_mut(), &metadata, &column.name).await?;
    let filter = Arc::new(filter);
    let kept = request.snapshot.kept();
    kept.keep_filter(entry.id, column.field_id, Arc::clone(&filter));
    Ok(filter)
}
