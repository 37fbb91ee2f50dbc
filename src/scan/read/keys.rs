//! A scan's filter by keys that are known only when the scan begins.
//!
//! Owns the expression: a column lies in one of the ranges that another part of the plan will have found by then.
//! Does not own how they are found, nor who waits for them: what reads before they are known reads everything.
//!
//! Invariant: the expression is true for each value that lies in a range, whatever else it is true for. A range is
//! of the column's own type, which orders its values as its statistics do.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::expressions::{BinaryExpr, lit};
use datafusion::physical_plan::PhysicalExpr;

/// Ranges of keys, each with both of its ends, in ascending order.
#[derive(Debug, Default)]
pub(crate) struct KeyRanges(Vec<(ScalarValue, ScalarValue)>);

impl KeyRanges {
    /// No key lies outside of `ranges`, which are in ascending order and share none.
    pub(crate) fn new(ranges: Vec<(ScalarValue, ScalarValue)>) -> Self {
        Self(ranges)
    }

    /// Whether there is no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first and the last key of each range.
    #[cfg(test)]
    pub(crate) fn ends(&self) -> &[(ScalarValue, ScalarValue)] {
        &self.0
    }

    /// How many ranges there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether `column` lies in one of the ranges.
    fn contain(&self, column: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        any(&self.0, column).unwrap_or_else(|| lit(false))
    }

    /// Whether `column` lies between the first key and the last one.
    fn span(&self, column: &Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        match (self.0.first(), self.0.last()) {
            (Some((min, _)), Some((_, max))) => between(column, min, max),
            _ => lit(false),
        }
    }
}

/// A balanced tree: what looks at it goes as deep as it is.
fn any(
    ranges: &[(ScalarValue, ScalarValue)],
    column: &Arc<dyn PhysicalExpr>,
) -> Option<Arc<dyn PhysicalExpr>> {
    match ranges {
        [] => None,
        [(min, max)] => Some(between(column, min, max)),
        many => {
            let (first, second) = many.split_at_checked(many.len() / 2)?;
            let (first, second) = (any(first, column)?, any(second, column)?);
            Some(Arc::new(BinaryExpr::new(first, Operator::Or, second)))
        }
    }
}

fn between(
    column: &Arc<dyn PhysicalExpr>,
    min: &ScalarValue,
    max: &ScalarValue,
) -> Arc<dyn PhysicalExpr> {
    let compared = |op, value: &ScalarValue| -> Arc<dyn PhysicalExpr> {
        Arc::new(BinaryExpr::new(Arc::clone(column), op, lit(value.clone())))
    };
    match min == max {
        // Bloom filters understand an equality.
        true => compared(Operator::Eq, min),
        false => Arc::new(BinaryExpr::new(
            compared(Operator::GtEq, min),
            Operator::And,
            compared(Operator::LtEq, max),
        )),
    }
}

/// That a column lies in ranges of keys. Copies share the ranges.
#[derive(Debug, Clone)]
pub(crate) struct KeyFilter {
    column: Arc<dyn PhysicalExpr>,
    ranges: Arc<OnceLock<KeyRanges>>,
}

impl KeyFilter {
    /// Of `column`, for keys that are not known yet.
    pub(crate) fn new(column: Arc<dyn PhysicalExpr>) -> Self {
        Self {
            column,
            ranges: Arc::default(),
        }
    }

    /// The column.
    pub(crate) fn column(&self) -> &Arc<dyn PhysicalExpr> {
        &self.column
    }

    /// The keys, if they are known and few: each a range of its own.
    pub(crate) fn values(&self) -> Option<HashSet<ScalarValue>> {
        let KeyRanges(ranges) = self.ranges.get()?;
        let value =
            |(first, last): &(ScalarValue, ScalarValue)| (first == last).then(|| first.clone());
        ranges.iter().map(value).collect()
    }

    /// Makes the keys known, to all copies.
    ///
    /// # Errors
    /// Fails if they are known: a scan may have begun that leaves out what has other keys.
    pub(crate) fn learn(&self, ranges: KeyRanges) -> Result<()> {
        match self.ranges.set(ranges) {
            Ok(()) => Ok(()),
            Err(_) => internal_err!("the keys of {} are known already", self.column),
        }
    }
}

/// Whether `predicate` has such filters, all of whose keys are known.
pub(crate) fn knows_keys(predicate: &Arc<dyn PhysicalExpr>) -> Result<bool> {
    let (mut filters, mut known) = (0_usize, 0_usize);
    predicate.apply(|expr| {
        if let Some(filter) = expr.downcast_ref::<KeyFilter>() {
            filters += 1;
            known += usize::from(filter.ranges.get().is_some());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(filters > 0 && filters == known)
}

impl PartialEq for KeyFilter {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.ranges, &other.ranges) && self.column.eq(&other.column)
    }
}

impl Eq for KeyFilter {}

impl Hash for KeyFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
    }
}

impl fmt::Display for KeyFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ranges.get() {
            None => write!(f, "keys of the source({})", self.column),
            Some(ranges) => write!(f, "{} ranges of keys({})", ranges.len(), self.column),
        }
    }
}

impl PhysicalExpr for KeyFilter {
    fn data_type(&self, _input_schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.column.nullable(input_schema)
    }

    /// Cheap: the join above looks at each key anyway.
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        match self.ranges.get() {
            None => lit(true).evaluate(batch),
            Some(ranges) => ranges.span(&self.column).evaluate(batch),
        }
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        let nullable = self.nullable(input_schema)?;
        Ok(Arc::new(arrow::datatypes::Field::new(
            "keys",
            DataType::Boolean,
            nullable,
        )))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([column]) => Ok(Arc::new(Self {
                column,
                ranges: Arc::clone(&self.ranges),
            })),
            Err(children) => internal_err!("keys are of one column, not of {}", children.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }

    /// What is pruned by.
    fn snapshot(&self) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        Ok(Some(match self.ranges.get() {
            None => lit(true),
            Some(ranges) => ranges.contain(&self.column),
        }))
    }

    fn snapshot_generation(&self) -> u64 {
        u64::from(self.ranges.get().is_some())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use arrow::array::{AsArray, Int64Array};
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    fn batch() -> RecordBatch {
        let values = Int64Array::from(vec![Some(1), Some(4), Some(7), Some(9), None]);
        RecordBatch::try_from_iter([("k", Arc::new(values) as _)]).unwrap()
    }

    fn truths(expr: &dyn PhysicalExpr) -> Vec<Option<bool>> {
        let rows = batch();
        let array = expr.evaluate(&rows).unwrap().into_array(rows.num_rows());
        array.unwrap().as_boolean().iter().collect()
    }

    fn pruned_by(filter: &KeyFilter) -> Arc<dyn PhysicalExpr> {
        filter.snapshot().unwrap().unwrap()
    }

    #[test]
    fn keys_that_are_not_known_exclude_nothing_and_known_ones_what_lies_outside() {
        let filter = KeyFilter::new(Arc::new(Column::new("k", 0)));
        let copy: Arc<dyn PhysicalExpr> = Arc::new(filter.clone());
        assert_eq!(truths(&filter), vec![Some(true); 5]);
        assert!(!knows_keys(&copy).unwrap());
        let value = |v: i64| ScalarValue::Int64(Some(v));
        let ranges = vec![(value(1), value(2)), (value(7), value(7))];
        filter.learn(KeyRanges::new(ranges)).unwrap();
        assert!(knows_keys(&copy).unwrap());
        let within = [Some(true), Some(false), Some(true), Some(false), None];
        assert_eq!(truths(pruned_by(&filter).as_ref()), within);
        let spanned = [Some(true), Some(true), Some(true), Some(false), None];
        assert_eq!(truths(copy.as_ref()), spanned);
        assert!(filter.learn(KeyRanges::default()).is_err());
    }

    #[test]
    fn without_a_key_nothing_is_left() {
        let filter = KeyFilter::new(Arc::new(Column::new("k", 0)));
        filter.learn(KeyRanges::default()).unwrap();
        assert_eq!(truths(&filter), vec![Some(false); 5]);
        assert_eq!(truths(pruned_by(&filter).as_ref()), vec![Some(false); 5]);
    }
}
