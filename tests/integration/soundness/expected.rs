//! What a statement should do, by the oracle.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::arrow::array::RecordBatch;

use super::oracle::{Oracle, Verdict};
use super::rows::{Rows, by_id, ids, rendered};
use super::statement::{Clause, Kind, Statement, When, named};

/// What a statement should do.
pub(super) struct Expected {
    /// The rows for which its predicate is true.
    pub named: BTreeSet<i64>,
    /// Those for which it fails and would be true: they may count, or not.
    pub perhaps: BTreeSet<i64>,
    /// The table afterwards, with `perhaps` as it was.
    pub rows: Rows,
    /// Rows that are named, and whose new values fail.
    pub undefined: BTreeSet<i64>,
    /// Whether an evaluation failed: then the statement may.
    pub fails: bool,
    /// Whether a row would be changed twice: then the statement must fail.
    pub twice: bool,
}

/// What `statement` should do, or why the oracle cannot tell.
pub(super) async fn expected(
    oracle: &Oracle,
    statement: &Statement,
    t: &RecordBatch,
    u: &RecordBatch,
) -> Result<Expected, String> {
    match &statement.kind {
        Kind::Select { predicate, .. } | Kind::Delete { predicate } => {
            let mut expected = named_by(oracle, statement, predicate, t).await?;
            if matches!(statement.kind, Kind::Delete { .. }) {
                let named = &expected.named;
                expected.rows.retain(|id, _| !named.contains(id));
            }
            Ok(expected)
        }
        Kind::Update { sets, predicate } => {
            let mut expected = named_by(oracle, statement, predicate, t).await?;
            let exprs: Vec<_> = sets.iter().map(|(_, e)| statement.inlined(e)).collect();
            let values = oracle
                .values(&format!("SELECT {} FROM t", named(&exprs)))
                .await
                .map_err(|e| e.to_string())?;
            for (id, values) in ids(t).into_iter().zip(values) {
                for ((at, _), value) in sets.iter().zip(values) {
                    let value = value
                        .map_err(|e| e.to_string())
                        .and_then(|v| rendered(&v, t.schema().field(*at).data_type()));
                    let row = expected.rows.get_mut(&id);
                    match (value, row) {
                        (Ok(value), Some(row)) if expected.named.contains(&id) => row[*at] = value,
                        (Ok(_), _) => {}
                        (Err(_), _) => {
                            expected.undefined.insert(id);
                            expected.fails = true;
                        }
                    }
                }
            }
            Ok(expected)
        }
        Kind::Merge { on, clauses } => merged(oracle, statement, on, clauses, t, u).await,
    }
}

async fn named_by(
    oracle: &Oracle,
    statement: &Statement,
    predicate: &str,
    t: &RecordBatch,
) -> Result<Expected, String> {
    let sql = format!("SELECT * FROM t WHERE {}", statement.inlined(predicate));
    let judged = oracle.judge(&sql).await.map_err(|e| e.to_string())?;
    let has_subquery = predicate.contains("SELECT");
    let mut expected = Expected {
        named: BTreeSet::new(),
        perhaps: BTreeSet::new(),
        rows: by_id(t),
        undefined: BTreeSet::new(),
        fails: false,
        twice: false,
    };
    for (id, verdict) in ids(&judged.rows).into_iter().zip(&judged.verdicts) {
        match verdict {
            Verdict::True => drop(expected.named.insert(id)),
            Verdict::NotTrue => {}
            Verdict::FailsOrTrue => {
                expected.perhaps.insert(id);
                expected.fails = true;
            }
            // A part of a subquery need not be evaluated where another one leaves no row anyway.
            Verdict::Fails(_) if has_subquery => {
                expected.perhaps.insert(id);
                expected.fails = true;
            }
            Verdict::FailsOrNotTrue | Verdict::Fails(_) => expected.fails = true,
        }
    }
    Ok(expected)
}

async fn merged(
    oracle: &Oracle,
    statement: &Statement,
    on: &str,
    clauses: &[Clause],
    t: &RecordBatch,
    u: &RecordBatch,
) -> Result<Expected, String> {
    let before = by_id(t);
    let (schema, width) = (t.schema(), t.num_columns());
    let judged = async |from: &str, predicate: &str| {
        let sql = format!(
            "SELECT * FROM {from} WHERE {}",
            statement.inlined(predicate)
        );
        let judged = oracle.judge(&sql).await.map_err(|e| e.to_string())?;
        let sure = |v: &Verdict| matches!(v, Verdict::True | Verdict::NotTrue);
        match judged.verdicts.iter().all(sure) {
            true => Ok(judged),
            false => Err("a condition of MERGE fails".to_owned()),
        }
    };
    const PAIRS: &str = "t CROSS JOIN u AS s";
    let pairs = judged(PAIRS, on).await?;
    let targets = ids(&pairs.rows);
    let sources = ids(&pairs.rows.project(&[width]).map_err(|e| e.to_string())?);
    let pairs: Vec<_> = targets
        .into_iter()
        .zip(sources)
        .zip(&pairs.verdicts)
        .map(|(pair, verdict)| (*verdict == Verdict::True).then_some(pair))
        .collect();
    let matched: BTreeSet<i64> = pairs.iter().flatten().map(|(t, _)| *t).collect();
    let used: BTreeSet<i64> = pairs.iter().flatten().map(|(_, s)| *s).collect();
    let mut rows = before.clone();
    let mut changed: BTreeMap<i64, u32> = BTreeMap::new();
    for when in [When::Matched, When::NotMatched, When::BySource] {
        let (from, mut open): (&str, Vec<Option<(i64, i64)>>) = match when {
            When::Matched => (PAIRS, pairs.clone()),
            When::NotMatched => {
                let free = |s: i64| (!used.contains(&s)).then_some((0, s));
                ("u AS s", ids(u).into_iter().map(free).collect())
            }
            When::BySource => {
                let free = |t: i64| (!matched.contains(&t)).then_some((t, 0));
                ("t", ids(t).into_iter().map(free).collect())
            }
        };
        for clause in clauses.iter().filter(|c| c.when == when) {
            let condition = clause.condition.as_deref().unwrap_or("TRUE");
            let verdicts = judged(from, condition).await?.verdicts;
            let exprs = clause.values.iter().map(|(_, e)| statement.inlined(e));
            let exprs: Vec<_> = exprs.collect();
            let values = match exprs.is_empty() {
                true => Vec::new(),
                false => {
                    let sql = format!("SELECT {} FROM {from}", named(&exprs));
                    oracle.values(&sql).await.map_err(|e| e.to_string())?
                }
            };
            for (at, candidate) in open.iter_mut().enumerate() {
                if verdicts[at] != Verdict::True {
                    continue;
                }
                let Some((t, s)) = candidate.take() else {
                    continue;
                };
                let id = match when {
                    When::NotMatched => s + clause.id as i64,
                    _ => t,
                };
                *changed.entry(id).or_default() += 1;
                if clause.values.is_empty() {
                    rows.remove(&id);
                    continue;
                }
                let mut row = before.get(&id).cloned().unwrap_or_else(|| {
                    let mut row = vec!["NULL".to_owned(); width];
                    row[0] = id.to_string();
                    row
                });
                for ((column, _), value) in clause.values.iter().zip(&values[at]) {
                    let value = value.as_ref().map_err(|e| e.to_string())?;
                    row[*column] = rendered(value, schema.field(*column).data_type())?;
                }
                rows.insert(id, row);
            }
        }
    }
    Ok(Expected {
        named: changed.keys().copied().collect(),
        perhaps: BTreeSet::new(),
        rows,
        undefined: BTreeSet::new(),
        fails: false,
        twice: changed.values().any(|n| *n > 1),
    })
}
