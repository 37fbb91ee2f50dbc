//! Makes a failing statement small: fewer settings, fewer rows, plain tables, a shorter predicate.

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::compute::{cast, concat_batches};
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

use super::exprs::Column;
use super::program::{Counts, Program, directory};
use super::simplify::simpler;
use super::statement::{Kind, Statement};
use super::types::Type;

/// A statement on plain tables of these rows.
#[derive(Clone)]
pub(super) struct Case {
    pub zone: &'static str,
    pub settings: Vec<String>,
    pub columns: [Vec<Column>; 2],
    pub rows: [RecordBatch; 2],
    pub statement: Statement,
}

/// How many smaller cases are tried.
const PATIENCE: usize = 400;

/// The smallest script found that fails, or that none does.
pub(super) async fn reduced(case: Case) -> String {
    let Some((kind, mut best)) = failure(&case).await else {
        return "(does not fail on plain tables)\n".to_owned();
    };
    let mut case = case;
    let mut tries = 0;
    'again: loop {
        for smaller in candidates(&case) {
            tries += 1;
            if tries > PATIENCE {
                break 'again;
            }
            if let Some((same, script)) = failure(&smaller).await
                && same == kind
            {
                best = script;
                case = smaller;
                continue 'again;
            }
        }
        break;
    }
    format!("reduced:\n{best}\n")
}

/// The kind of failure, and the script that shows it, if it fails.
async fn failure(case: &Case) -> Option<(String, String)> {
    let directory = directory();
    let path = directory.path().display().to_string();
    let mut counts = Counts::new();
    let mut program = Program::new(case.zone, case.settings.clone(), &mut counts)
        .await
        .ok()?;
    for (at, name) in ["t", "u"].into_iter().enumerate() {
        program
            .make(table(name, &case.columns[at], &case.rows[at], &path))
            .await
            .ok()?;
        program.reload(name).await.ok()?;
    }
    let sql = case.statement.sql(&case.columns[0]);
    let why = program.check(&case.statement, &sql).await.err();
    let kind = why.as_deref().map(|why| why.chars().take(80).collect());
    let script = program.script();
    program.close().await;
    let text = format!("{script};\n=== {}", why?).replace(&path, "__L__");
    Some((kind?, text))
}

fn candidates(case: &Case) -> Vec<Case> {
    let mut smaller = Vec::new();
    let mut with = |change: &dyn Fn(&mut Case)| {
        let mut changed = case.clone();
        change(&mut changed);
        smaller.push(changed);
    };
    if !case.settings.is_empty() {
        with(&|c| c.settings.clear());
        if case.settings.len() > 3 {
            let half = case.settings.len() / 2;
            with(&|c| drop(c.settings.drain(half..)));
            with(&|c| drop(c.settings.drain(..half)));
        }
    }
    if !case.statement.parameters.is_empty() {
        with(&|c| c.statement = without_parameters(&c.statement));
    }
    for statement in simpler_statements(&case.statement) {
        with(&|c| c.statement = statement.clone());
    }
    for table in 0..2 {
        let rows = case.rows[table].num_rows();
        if rows > 1 {
            with(&|c| c.rows[table] = c.rows[table].slice(0, rows / 2));
            with(&|c| c.rows[table] = c.rows[table].slice(rows / 2, rows - rows / 2));
        }
        for row in 0..rows {
            with(&|c| c.rows[table] = without_row(&c.rows[table], row));
        }
    }
    for at in 0..case.settings.len() {
        with(&|c| drop(c.settings.remove(at)));
    }
    // Columns that nothing names.
    let sql = case.statement.sql(&case.columns[0]);
    for table in 0..2 {
        let last = case.columns[table].len() - 1;
        if last > 0 && !sql.contains(&case.columns[table][last].name) {
            with(&|c| {
                c.columns[table].pop();
                let kept: Vec<_> = (0..last).collect();
                c.rows[table] = c.rows[table].project(&kept).unwrap();
            });
        }
    }
    smaller
}

fn without_row(rows: &RecordBatch, row: usize) -> RecordBatch {
    let (before, after) = (
        rows.slice(0, row),
        rows.slice(row + 1, rows.num_rows() - row - 1),
    );
    concat_batches(&rows.schema(), [&before, &after]).unwrap()
}

fn without_parameters(statement: &Statement) -> Statement {
    let inlined = |sql: &String| statement.inlined(sql);
    let mut plain = statement.clone();
    plain.parameters.clear();
    match &mut plain.kind {
        Kind::Select { predicate, .. } | Kind::Delete { predicate } => {
            *predicate = inlined(predicate)
        }
        Kind::Update { sets, predicate } => {
            *predicate = inlined(predicate);
            for (_, expr) in sets {
                *expr = inlined(expr);
            }
        }
        Kind::Merge { on, clauses } => {
            *on = inlined(on);
            for clause in clauses {
                clause.condition = clause.condition.as_ref().map(inlined);
                for (_, expr) in &mut clause.values {
                    *expr = inlined(expr);
                }
            }
        }
    }
    plain
}

fn simpler_statements(statement: &Statement) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut with = |kind: Kind| {
        found.push(Statement {
            kind,
            parameters: statement.parameters.clone(),
            bound: statement.bound,
        });
    };
    match &statement.kind {
        Kind::Select { predicate, count } => {
            for predicate in simpler(predicate) {
                with(Kind::Select {
                    predicate,
                    count: *count,
                });
            }
        }
        Kind::Delete { predicate } => {
            for predicate in simpler(predicate) {
                with(Kind::Delete { predicate });
            }
        }
        Kind::Update { sets, predicate } => {
            for at in 0..sets.len() {
                let mut fewer = sets.clone();
                fewer.remove(at);
                if !fewer.is_empty() {
                    with(Kind::Update {
                        sets: fewer,
                        predicate: predicate.clone(),
                    });
                }
                for expr in simpler(&sets[at].1) {
                    let mut sets = sets.clone();
                    sets[at].1 = expr;
                    with(Kind::Update {
                        sets,
                        predicate: predicate.clone(),
                    });
                }
            }
            for predicate in simpler(predicate) {
                with(Kind::Update {
                    sets: sets.clone(),
                    predicate,
                });
            }
        }
        Kind::Merge { on, clauses } => {
            for at in 0..clauses.len() {
                let mut changed = Vec::new();
                let mut fewer = clauses.clone();
                fewer.remove(at);
                if !fewer.is_empty() {
                    changed.push(fewer);
                }
                if let Some(condition) = &clauses[at].condition {
                    for condition in simpler(condition).into_iter().map(Some).chain([None]) {
                        let mut clauses = clauses.clone();
                        clauses[at].condition = condition;
                        changed.push(clauses);
                    }
                }
                for value in 0..clauses[at].values.len() {
                    for expr in simpler(&clauses[at].values[value].1) {
                        let mut clauses = clauses.clone();
                        clauses[at].values[value].1 = expr;
                        changed.push(clauses);
                    }
                }
                for clauses in changed {
                    with(Kind::Merge {
                        on: on.clone(),
                        clauses,
                    });
                }
            }
            for on in simpler(on) {
                with(Kind::Merge {
                    on,
                    clauses: clauses.clone(),
                });
            }
        }
    }
    found
}

/// The statements that make a plain table of these rows.
fn table(name: &str, columns: &[Column], rows: &RecordBatch, path: &str) -> Vec<String> {
    let list: Vec<_> = columns
        .iter()
        .map(|c| match c.name.as_str() {
            "id" => "id BIGINT NOT NULL".to_owned(),
            name => format!("{name} {}", c.kind.sql()),
        })
        .collect();
    let mut statements = vec![format!(
        "CREATE EXTERNAL TABLE {name} ({}) STORED AS SUPERTABLE LOCATION '{path}/{name}/'",
        list.join(", ")
    )];
    let values: Vec<_> = (0..rows.num_rows())
        .map(|row| {
            let cells = columns.iter().zip(rows.columns());
            let cells: Vec<_> = cells
                .map(|(c, array)| literal(c.kind, array, row))
                .collect();
            format!("({})", cells.join(", "))
        })
        .collect();
    if !values.is_empty() {
        statements.push(format!("INSERT INTO {name} VALUES {}", values.join(", ")));
    }
    statements
}

/// A value as a literal of its column's type.
fn literal(kind: Type, array: &dyn Array, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".to_owned();
    }
    let text = |array: &dyn Array, row: usize| {
        let options = FormatOptions::default().with_null("NULL");
        ArrayFormatter::try_new(array, &options)
            .unwrap()
            .value(row)
            .to_string()
    };
    let quoted = |text: String| format!("'{}'", text.replace('\'', "''"));
    match kind {
        Type::Bytes => format!("X'{}'", text(array, row)),
        Type::Text => quoted(text(array, row)),
        Type::Bool => text(array, row),
        Type::Numbers => format!("CAST({} AS BIGINT[])", text(array, row)),
        Type::Words => {
            let list = cast(array, &DataType::new_list(DataType::Utf8, true)).unwrap();
            let list = datafusion::arrow::array::AsArray::as_list::<i32>(&list).value(row);
            let items: Vec<_> = (0..list.len())
                .map(|at| literal(Type::Text, &list, at))
                .collect();
            format!("CAST([{}] AS VARCHAR[])", items.join(", "))
        }
        Type::Pair => {
            let pair = datafusion::arrow::array::AsArray::as_struct(array);
            let (a, b) = (pair.column(0), pair.column(1));
            format!(
                "named_struct('a', CAST({} AS INT), 'b', CAST({} AS VARCHAR))",
                literal(Type::Signed(32), a, row),
                literal(Type::Text, b, row)
            )
        }
        other => format!("CAST({} AS {})", quoted(text(array, row)), other.sql()),
    }
}
