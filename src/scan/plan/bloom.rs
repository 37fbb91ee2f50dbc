//! Which superfiles may hold a key, by their Bloom filters.
//!
//! Statistics say nothing of keys in no order, a random UUID for one: it lies between the bounds of every superfile.
//! Their Bloom filters do; so those that statistics leave are asked, before any of them is opened for its rows. Filters
//! stay in the cache of the table's objects: once they are read, a lookup of a key costs no request but those of its row.
//!
//! Owns which predicates ask for keys. Does not own the question ([`may_have`]), nor which columns have filters (the
//! writer).
//!
//! Invariant: a superfile is left out only if it has no row for which a condition that every wanted row satisfies, a
//! comparison of a column with values, is true.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Operator};
use futures::{StreamExt, future, stream};

use crate::format::SuperfileId;
use crate::format::manifest::SuperfileEntry;
use crate::scan::plan::layout::superfile;
use crate::scan::plan::scan::{Only, ScanRequest, by_statistics, parts};
use crate::scan::read::bloom::{WantedKeys, filtered_columns, may_have};
use crate::scan::read::parts::ScanSummary;

/// So few superfiles are opened as soon as asked about.
const FEW: usize = 2;
/// Of more rows filters are not read: they would drive one another out of the cache.
const MOST_ROWS: u64 = 128_000_000;
/// Superfiles whose filters are read at once.
const AT_ONCE: usize = 16;

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
    let all = candidates.len();
    let superfiles = superfiles_with(state, request, candidates, &wanted).await?;
    Ok(Some(Only {
        left_out_by_bloom_filters: all - superfiles.len(),
        superfiles,
    }))
}

/// Those of `candidates` that may have a row with one of the values of each of `wanted`; all of them if it does not pay
/// to ask.
///
/// # Errors
/// The session does not know the table's store.
pub(crate) async fn superfiles_with(
    state: &dyn Session,
    request: &ScanRequest<'_>,
    candidates: Vec<Arc<SuperfileEntry>>,
    wanted: &[WantedKeys],
) -> Result<HashSet<SuperfileId>> {
    let rows: u64 = candidates.iter().map(|entry| entry.rows).sum();
    if candidates.len() <= FEW || rows > MOST_ROWS {
        return Ok(candidates.iter().map(|entry| entry.id).collect());
    }
    let parts = parts(request, &candidates, ScanSummary::default())?;
    let readers = &*parts.readers(state.runtime_env())?;
    let asked = stream::iter(candidates).map(|entry| async move {
        let file = superfile(&entry, request.location);
        let sidecars = request.snapshot.sidecars();
        let may_have = may_have(&file, wanted, readers, sidecars).await;
        may_have.then_some(entry.id)
    });
    Ok(asked
        .buffer_unordered(AT_ONCE)
        .filter_map(future::ready)
        .collect()
        .await)
}

/// The conditions by which the filters of a request ask for keys.
fn wanted(request: &ScanRequest<'_>) -> Vec<WantedKeys> {
    let filtered = filtered_columns(request.snapshot.metadata());
    if filtered.is_empty() {
        return Vec::new();
    }
    let conditions = request.filters.iter().flat_map(split_conjunction);
    conditions
        .filter_map(values_of)
        .filter_map(|(name, values)| {
            WantedKeys::of(request.schema.field_with_name(name).ok()?, values)
        })
        .filter(|keys| filtered.contains(&keys.field_id()))
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
