//! A correlated subquery as a join.
//!
//! Owns the rewrite of a subquery that refers to an outer row into a plan that yields its result for *every*
//! outer row at once: each result row is preceded by the outer values (the *keys*) that it belongs to. The
//! method is Neumann and Kemper, "Unnesting Arbitrary Queries" (BTW 2015): the set of distinct outer values (the
//! *domain*) is joined in where the subquery reads its tables, and every operator above keeps the rows of one
//! key apart: an aggregate groups by it, a window is partitioned by it, a limit counts within it.
//!
//! DataFusion 55 has a rewrite of its own, which is wrong for aggregates, `OFFSET` and grouping sets under
//! `EXISTS` and `IN`; see [`faults`](super::faults).
//!
//! Invariant: for each key, the rows are those of the subquery with the key's values in place of the outer
//! references; a key without rows has none here. A plan for which that is not known to hold is refused.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType, Result};
use datafusion::functions_window::row_number::row_number;
use datafusion::logical_expr::expr::{GroupingSet, Sort as SortExpr};
use datafusion::logical_expr::logical_plan::{
    Aggregate, Distinct, DistinctOn, FetchType, Filter, Join, Limit, Projection, SkipType,
    SubqueryAlias, Union, Window,
};
use datafusion::logical_expr::utils::enumerate_grouping_sets;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprFunctionExt, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Operator,
    cast, lit,
};

use super::join::{Keyed, as_values, join_on_keys, keyed_join, keyed_sides};
use super::key::{domain_value, outer_value};
use super::names::Names;
use super::references::{as_named_before, columns_of, free_references, map_subquery, rebind};
use super::refuse::unsupported;

/// The outer values that a subquery depends on.
pub(super) struct Domain<'a> {
    /// The plan whose rows have them.
    pub(super) outer: &'a LogicalPlan,
    /// The columns of it that the subquery refers to.
    pub(super) columns: &'a [Column],
    pub(super) names: &'a Names,
}

impl Domain<'_> {
    /// Each combination of outer values once, under fresh names.
    fn distinct(&self) -> Result<Keyed> {
        let keys: Vec<Column> = self
            .columns
            .iter()
            .map(|_| self.names.column("key"))
            .collect();
        let mut exprs = Vec::with_capacity(keys.len());
        for (column, key) in self.columns.iter().zip(&keys) {
            let value = domain_value(Expr::Column(column.clone()), self.outer.schema())?;
            exprs.push(value.alias(&key.name));
        }
        let plan = LogicalPlanBuilder::from(self.outer.clone())
            .project(exprs)?
            .distinct()?
            .build()?;
        Ok(Keyed { plan, keys })
    }

    /// `plan`, a subquery of the outer plan or a part of one, for every key.
    pub(super) fn unnest(&self, plan: &LogicalPlan) -> Result<Keyed> {
        if free_references(plan)?.is_empty() {
            let Keyed { plan: domain, keys } = self.distinct()?;
            let plan = LogicalPlanBuilder::from(domain)
                .cross_join(plan.clone())?
                .build()?;
            return Ok(Keyed { plan, keys });
        }
        match plan {
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => {
                let Keyed { plan, keys } = self.unnest(&filter.input)?;
                let predicate =
                    self.bind(filter.predicate.clone(), &keys, filter.input.schema())?;
                let plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?);
                Ok(Keyed { plan, keys })
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let Keyed { plan, keys } = self.unnest(&alias.input)?;
                let keys = keys
                    .into_iter()
                    .map(|key| Column::new(Some(alias.alias.clone()), key.name))
                    .collect();
                let plan = SubqueryAlias::try_new(Arc::new(plan), alias.alias.clone())?;
                Ok(Keyed {
                    plan: LogicalPlan::SubqueryAlias(plan),
                    keys,
                })
            }
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let Keyed { plan, keys } = self.unnest(input)?;
                let plan = LogicalPlan::Distinct(Distinct::All(Arc::new(plan)));
                Ok(Keyed { plan, keys })
            }
            LogicalPlan::Distinct(Distinct::On(on)) => self.distinct_on(on),
            // Rows have no order but where a limit counts them, which looks for it itself.
            LogicalPlan::Sort(sort) => match sort.fetch {
                None => self.unnest(&sort.input),
                Some(fetch) => self.first_rows(&sort.input, &sort.expr, 0, Some(fetch)),
            },
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Join(join) => self.join(join),
            other => Err(unsupported(&other.display().to_string())),
        }
    }

    fn projection(&self, projection: &Projection) -> Result<Keyed> {
        let Keyed { plan, keys } = self.unnest(&projection.input)?;
        let mut exprs = Vec::with_capacity(projection.expr.len() + keys.len());
        for expr in &projection.expr {
            exprs.push(self.bind_named(expr, &keys, projection.input.schema())?);
        }
        exprs.extend(keys.iter().cloned().map(Expr::Column));
        let plan = Projection::try_new(exprs, Arc::new(plan))?;
        Ok(Keyed {
            plan: LogicalPlan::Projection(plan),
            keys,
        })
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Keyed> {
        let Keyed { plan, keys } = self.unnest(&aggregate.input)?;
        let schema = aggregate.input.schema();
        let bound = |exprs: &[Expr]| -> Result<Vec<Expr>> {
            exprs
                .iter()
                .map(|e| self.bind_named(e, &keys, schema))
                .collect()
        };
        let (groups, values) = (bound(&aggregate.group_expr)?, bound(&aggregate.aggr_expr)?);
        let sets = match groups.as_slice() {
            [] => None,
            [Expr::GroupingSet(_)] => Some(grouping_sets(&groups)?),
            _ => {
                let groups = keys.iter().cloned().map(Expr::Column).chain(groups);
                let plan = Aggregate::try_new(Arc::new(plan), groups.collect(), values)?;
                return Ok(Keyed {
                    plan: LogicalPlan::Aggregate(plan),
                    keys,
                });
            }
        };
        if let Some(sets) = &sets
            && !sets.iter().any(Vec::is_empty)
        {
            let plan = Aggregate::try_new(Arc::new(plan), vec![keyed_sets(&keys, sets)], values)?;
            return Ok(Keyed {
                plan: LogicalPlan::Aggregate(plan),
                keys,
            });
        }
        // Without groups, and for an empty set of them, there is a row for no rows, too: every key is joined to
        // its rows, and what stands for a key without any does not count.
        let here = self.names.column("here");
        let mut columns: Vec<Expr> = columns_of(&plan);
        columns.push(lit(true).alias(&here.name));
        let marked = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?);
        let all = self.distinct()?;
        let joined = join_on_keys(
            all.plan,
            marked,
            JoinType::Left,
            (as_values(&all.keys), as_values(&keys)),
            vec![],
            self.names,
        )?;
        let counts = Expr::Column(here).is_not_null();
        let mut counted = Vec::with_capacity(values.len() + 1);
        for value in values {
            counted.push(only_where(value, &counts)?);
        }
        let (groups, sets) = match sets {
            None => (all.keys.iter().cloned().map(Expr::Column).collect(), None),
            Some(sets) => (vec![keyed_sets(&all.keys, &sets)], Some(sets)),
        };
        let rows = self.names.column("rows");
        if sets.is_some() {
            let number = only_where(
                datafusion::functions_aggregate::count::count(lit(1_i64)),
                &counts,
            )?;
            counted.push(named(number, &rows.name));
        }
        let mut plan =
            LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(joined), groups, counted)?);
        if let Some(sets) = sets {
            // Only the empty set has a row for no rows: of it all of the grouping's bits are set.
            let mut distinct: Vec<&Expr> = Vec::new();
            for expr in sets.iter().flatten() {
                if !distinct.contains(&expr) {
                    distinct.push(expr);
                }
            }
            let all_bits = (1_u64 << distinct.len().min(63)) - 1;
            let id = Expr::Column(Column::from_name(Aggregate::INTERNAL_GROUPING_ID));
            let id = cast(id, DataType::UInt64);
            let low = Expr::BinaryExpr(BinaryExpr::new(
                Box::new(id),
                Operator::BitwiseAnd,
                Box::new(lit(all_bits)),
            ));
            let kept = low.eq(lit(all_bits)).or(Expr::Column(rows).gt(lit(0_i64)));
            plan = LogicalPlan::Filter(Filter::try_new(kept, Arc::new(plan))?);
        }
        Ok(Keyed {
            plan,
            keys: all.keys,
        })
    }

    fn distinct_on(&self, on: &DistinctOn) -> Result<Keyed> {
        let Keyed { plan, keys } = self.unnest(&on.input)?;
        let schema = on.input.schema();
        let with_keys = |exprs: &[Expr]| -> Result<Vec<Expr>> {
            let mut all: Vec<Expr> = keys.iter().cloned().map(Expr::Column).collect();
            for expr in exprs {
                all.push(self.bind_named(expr, &keys, schema)?);
            }
            Ok(all)
        };
        let sort = match &on.sort_expr {
            None => None,
            Some(sort) => {
                let keys_first = keys
                    .iter()
                    .map(|key| SortExpr::new(Expr::Column(key.clone()), true, true));
                let rest = self.bind_order(sort, &keys, schema)?;
                Some(keys_first.chain(rest).collect())
            }
        };
        let (on, select) = (with_keys(&on.on_expr)?, with_keys(&on.select_expr)?);
        let plan = DistinctOn::try_new(on, select, sort, Arc::new(plan))?;
        Ok(Keyed {
            plan: LogicalPlan::Distinct(Distinct::On(plan)),
            keys,
        })
    }

    fn limit(&self, limit: &Limit) -> Result<Keyed> {
        let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
            (limit.get_skip_type()?, limit.get_fetch_type()?)
        else {
            return Err(unsupported("LIMIT or OFFSET that is not a number"));
        };
        match limit.input.as_ref() {
            LogicalPlan::Sort(sort) => {
                let fetch = match (fetch, sort.fetch) {
                    (Some(a), Some(b)) => Some(a.min(b.saturating_sub(skip))),
                    (a, b) => a.or(b.map(|b| b.saturating_sub(skip))),
                };
                self.first_rows(&sort.input, &sort.expr, skip, fetch)
            }
            // A projection keeps the rows and their order.
            LogicalPlan::Projection(projection) => {
                let below = Limit {
                    input: Arc::clone(&projection.input),
                    ..limit.clone()
                };
                let below = LogicalPlan::Limit(below);
                self.projection(&Projection::try_new_with_schema(
                    projection.expr.clone(),
                    Arc::new(below),
                    Arc::clone(&projection.schema),
                )?)
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let below = Limit {
                    input: Arc::clone(&alias.input),
                    ..limit.clone()
                };
                let below = Arc::new(LogicalPlan::Limit(below));
                let whole = SubqueryAlias::try_new(below, alias.alias.clone())?;
                self.unnest(&LogicalPlan::SubqueryAlias(whole))
            }
            other => self.first_rows(other, &[], skip, fetch),
        }
    }

    /// Of each key's rows of `input`, in `order`, those after the first `skip`, at most `fetch`.
    fn first_rows(
        &self,
        input: &LogicalPlan,
        order: &[SortExpr],
        skip: usize,
        fetch: Option<usize>,
    ) -> Result<Keyed> {
        let Keyed { plan, keys } = self.unnest(input)?;
        let columns = columns_of(&plan);
        let order = self.bind_order(order, &keys, input.schema())?;
        let number = row_number()
            .partition_by(keys.iter().cloned().map(Expr::Column).collect())
            .order_by(order)
            .build()?;
        let window = LogicalPlanBuilder::from(plan).window([number])?.build()?;
        let Some(number) = window.schema().columns().pop() else {
            return Err(unsupported("a limit of no columns"));
        };
        let number = Expr::Column(number);
        let mut within = number.clone().gt(lit(skip as u64));
        if let Some(fetch) = fetch {
            within = within.and(number.lt_eq(lit(skip.saturating_add(fetch) as u64)));
        }
        let plan = LogicalPlanBuilder::from(window)
            .filter(within)?
            .project(columns)?
            .build()?;
        Ok(Keyed { plan, keys })
    }

    fn window(&self, window: &Window) -> Result<Keyed> {
        let Keyed { plan, keys } = self.unnest(&window.input)?;
        // The engine takes no alias in a window node: names are put right above it.
        let mut columns = columns_of(&plan);
        let mut exprs = Vec::with_capacity(window.window_expr.len());
        for expr in &window.window_expr {
            let bound = self.bind(expr.clone(), &keys, window.input.schema())?;
            let partitioned = bound
                .transform_down(|part| match part {
                    Expr::WindowFunction(mut f) => {
                        let by = &mut f.params.partition_by;
                        by.extend(keys.iter().cloned().map(Expr::Column));
                        Ok(Transformed::new(
                            Expr::WindowFunction(f),
                            true,
                            TreeNodeRecursion::Jump,
                        ))
                    }
                    other => Ok(Transformed::no(other)),
                })?
                .data;
            let (relation, name) = partitioned.qualified_name();
            let found = Expr::Column(Column::new(relation, name));
            columns.push(as_named_before(expr, found));
            exprs.push(partitioned);
        }
        let plan = LogicalPlanBuilder::window_plan(plan, exprs)?;
        let plan = LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?);
        Ok(Keyed { plan, keys })
    }

    fn union(&self, union: &Union) -> Result<Keyed> {
        let names: Vec<Column> = self
            .columns
            .iter()
            .map(|_| self.names.column("key"))
            .collect();
        let mut inputs = Vec::with_capacity(union.inputs.len());
        for input in &union.inputs {
            let Keyed { plan, keys } = self.unnest(input)?;
            let mut exprs: Vec<Expr> = keys
                .into_iter()
                .zip(&names)
                .map(|(key, name)| Expr::Column(key).alias(&name.name))
                .collect();
            // By name alone: the sides of a union have columns of different relations.
            let own = input
                .schema()
                .columns()
                .into_iter()
                .zip(union.schema.fields());
            for (i, (column, field)) in own.enumerate() {
                let value = Expr::Column(column).cast_to(field.data_type(), plan.schema())?;
                exprs.push(value.alias(format!("{}_{i}", field.name())));
            }
            let plan = Projection::try_new(exprs, Arc::new(plan))?;
            inputs.push(Arc::new(LogicalPlan::Projection(plan)));
        }
        let plan = LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?);
        let mut exprs = Vec::new();
        let mut keys = Vec::new();
        for (i, column) in plan.schema().columns().into_iter().enumerate() {
            match names.get(i) {
                Some(_) => {
                    keys.push(column.clone());
                    exprs.push(Expr::Column(column));
                }
                None => {
                    let (relation, field) = union.schema.qualified_field(i - names.len());
                    let value = Expr::Column(column);
                    exprs.push(value.alias_qualified(relation.cloned(), field.name()));
                }
            }
        }
        let plan = Projection::try_new(exprs, Arc::new(plan))?;
        Ok(Keyed {
            plan: LogicalPlan::Projection(plan),
            keys,
        })
    }

    fn join(&self, join: &Join) -> Result<Keyed> {
        if join.null_aware {
            return Err(unsupported("NOT IN as a join"));
        }
        let left_free = !free_references(&join.left)?.is_empty();
        let right_free = !free_references(&join.right)?.is_empty();
        let (keep_left, keep_right) = keyed_sides(join.join_type, left_free, right_free);
        let side = |keyed: bool, plan: &Arc<LogicalPlan>| match keyed {
            true => self.unnest(plan),
            false => Ok(Keyed {
                plan: plan.as_ref().clone(),
                keys: vec![],
            }),
        };
        let left = side(keep_left, &join.left)?;
        let right = side(keep_right, &join.right)?;
        let keys = match keep_left {
            true => left.keys.clone(),
            false => right.keys.clone(),
        };
        let schema = join.left.schema().join(join.right.schema())?;
        let bind = |e: &Expr| self.bind(e.clone(), &keys, &schema);
        let on = join
            .on
            .iter()
            .map(|(l, r)| Ok((bind(l)?, bind(r)?)))
            .collect::<Result<Vec<_>>>()?;
        let filter = join.filter.as_ref().map(bind).transpose()?;
        keyed_join(join, left, right, on, filter, self.names)
    }

    fn bind_order(
        &self,
        order: &[SortExpr],
        keys: &[Column],
        schema: &datafusion::common::DFSchema,
    ) -> Result<Vec<SortExpr>> {
        order
            .iter()
            .map(|sort| {
                Ok(SortExpr {
                    expr: self.bind(sort.expr.clone(), keys, schema)?,
                    ..sort.clone()
                })
            })
            .collect()
    }

    /// [`bind`](Self::bind), under the name that the expression had.
    fn bind_named(
        &self,
        expr: &Expr,
        keys: &[Column],
        schema: &datafusion::common::DFSchema,
    ) -> Result<Expr> {
        let bound = self.bind(expr.clone(), keys, schema)?;
        Ok(as_named_before(expr, bound))
    }

    /// `expr`, over columns of `schema`, with the keys in place of the outer references; those of subqueries
    /// in it still refer to an outer query, which is this plan now.
    fn bind(
        &self,
        expr: Expr,
        keys: &[Column],
        schema: &datafusion::common::DFSchema,
    ) -> Result<Expr> {
        let key_of = |column: &Column| {
            let at = self.columns.iter().position(|c| c == column)?;
            keys.get(at).cloned()
        };
        Ok(expr
            .transform_down(|part| match part {
                Expr::OuterReferenceColumn(field, column) => Ok(match key_of(&column) {
                    Some(key) => {
                        let value = outer_value(Expr::Column(key), field.data_type());
                        Transformed::new(value, true, TreeNodeRecursion::Jump)
                    }
                    None => Transformed::no(Expr::OuterReferenceColumn(field, column)),
                }),
                other => map_subquery(other, |plan| {
                    // A name that this plan has is its own, not the outer plan's.
                    rebind(plan, &|column| match schema.has_column(column) {
                        true => None,
                        false => key_of(column),
                    })
                }),
            })?
            .data)
    }
}

fn named(expr: Expr, name: &str) -> Expr {
    match expr {
        Expr::Alias(alias) => alias.expr.alias(name),
        other => other.alias(name),
    }
}

/// An aggregate that counts only the rows for which `condition` holds.
fn only_where(value: Expr, condition: &Expr) -> Result<Expr> {
    let changed = value.clone().transform_down(|part| match part {
        Expr::AggregateFunction(mut f) => {
            let filter = match f.params.filter.take() {
                Some(own) => own.and(condition.clone()),
                None => condition.clone(),
            };
            f.params.filter = Some(Box::new(filter));
            Ok(Transformed::new(
                Expr::AggregateFunction(f),
                true,
                TreeNodeRecursion::Jump,
            ))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(as_named_before(&value, changed.data))
}

fn grouping_sets(groups: &[Expr]) -> Result<Vec<Vec<Expr>>> {
    match enumerate_grouping_sets(groups.to_vec())?.as_slice() {
        [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] => Ok(sets.clone()),
        [Expr::GroupingSet(GroupingSet::Rollup(exprs))] => {
            let sets = (0..=exprs.len()).rev();
            Ok(sets
                .map(|n| exprs.iter().take(n).cloned().collect())
                .collect())
        }
        [Expr::GroupingSet(GroupingSet::Cube(exprs))] if exprs.len() < 16 => {
            let chosen = (0..1_u32 << exprs.len()).rev().map(|bits| {
                let of = |(i, e): (usize, &Expr)| (bits >> i & 1 == 1).then(|| e.clone());
                exprs.iter().enumerate().filter_map(of).collect()
            });
            Ok(chosen.collect())
        }
        _ => Err(unsupported("these grouping sets")),
    }
}

fn keyed_sets(keys: &[Column], sets: &[Vec<Expr>]) -> Expr {
    let with_keys = |set: &Vec<Expr>| {
        let keys = keys.iter().cloned().map(Expr::Column);
        keys.chain(set.iter().cloned()).collect()
    };
    Expr::GroupingSet(GroupingSet::GroupingSets(
        sets.iter().map(with_keys).collect(),
    ))
}
