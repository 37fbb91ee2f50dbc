//! `CREATE TABLE t (…) [WITH ORDER (…)] [OPTIONS (…)] [AS …]`: what a table of a catalog is made of beyond its columns.
//!
//! Owns the two clauses: they are taken out of the tokens, because DataFusion has them for external tables only, and are
//! planned as those of such a table. Both mean there what they mean here. What is left, DataFusion plans.
//!
//! Invariant: options are carried by a node above the statement's query, so that a planner that does not know them fails
//! instead of creating a table without.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::{DFSchemaRef, DataFusionError, Result, internal_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{
    CreateExternalTable, DdlStatement, Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore,
};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{ColumnDef, DataType, Ident};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// How the clauses are parsed.
const EXTERNAL: &str = "CREATE EXTERNAL TABLE t STORED AS SUPERTABLE LOCATION '/' ";

/// A statement, and its clauses.
#[derive(Debug)]
pub(crate) struct Create {
    /// Without the clauses.
    statement: Statement,
    /// An external table with the clauses, and without columns.
    clauses: Statement,
}

impl Create {
    /// The statement that is left without the clauses.
    pub(super) fn without_clauses(self) -> Statement {
        self.statement
    }
}

/// The statement, if it is a `CREATE TABLE` with one of the clauses.
///
/// # Errors
/// It is, and cannot be parsed.
pub(super) fn read(
    tokens: &[TokenWithSpan],
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<Option<Create>> {
    let Some((rest, clauses)) = split(tokens) else {
        return Ok(None);
    };
    let mut external = Tokenizer::new(dialect, EXTERNAL)
        .tokenize_with_location()
        .map_err(|e| DataFusionError::Plan(e.to_string()))?;
    external.extend(clauses);
    let parse = |tokens| -> Result<Statement> {
        let mut statements = DFParserBuilder::new(tokens)
            .with_dialect(dialect)
            .with_recursion_limit(recursion_limit)
            .build()?
            .parse_statements()?;
        match (statements.pop_front(), statements.is_empty()) {
            (Some(statement), true) => Ok(statement),
            _ => Err(DataFusionError::Plan(
                "one statement at a time can be run".to_owned(),
            )),
        }
    };
    Ok(Some(Create {
        statement: parse(rest)?,
        clauses: parse(external)?,
    }))
}

/// The tokens without the clauses, and those of the clauses; none if there are none.
fn split(tokens: &[TokenWithSpan]) -> Option<(Vec<TokenWithSpan>, Vec<TokenWithSpan>)> {
    let visible: Vec<usize> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)))
        .map(|(at, _)| at)
        .collect();
    let token = |at: usize| Some(&tokens.get(*visible.get(at)?)?.token);
    let is = |at: usize, keyword: Keyword| matches!(token(at), Some(Token::Word(word)) if word.keyword == keyword && word.quote_style.is_none());
    let mut at = 0;
    // Whether these come next; passes them if they do.
    let mut passed = |keywords: &[Keyword]| {
        let all = (at..).zip(keywords).all(|(at, keyword)| is(at, *keyword));
        at += usize::from(all) * keywords.len();
        all
    };
    if !passed(&[Keyword::CREATE]) {
        return None;
    }
    passed(&[Keyword::OR, Keyword::REPLACE]);
    if !passed(&[Keyword::TABLE]) {
        return None;
    }
    passed(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    // The name, which may be one of the words that are looked for.
    at += 1;
    while matches!(token(at), Some(Token::Period)) {
        at += 2;
    }
    let mut depth = 0_usize;
    let mut found = Vec::new();
    while let Some(now) = token(at) {
        match now {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::SemiColon if depth == 0 => break,
            _ if depth == 0 && is(at, Keyword::AS) => break,
            _ => {}
        }
        let words = match depth {
            0 if is(at, Keyword::WITH) && is(at + 1, Keyword::ORDER) => 2,
            0 if is(at, Keyword::OPTIONS) => 1,
            _ => 0,
        };
        if words > 0 && matches!(token(at + words), Some(Token::LParen)) {
            let end = end_of_parentheses(at + words, token)?;
            found.push(*visible.get(at)?..=*visible.get(end)?);
            at = end;
        }
        at += 1;
    }
    if found.is_empty() {
        return None;
    }
    let of_clause = |at: usize| found.iter().any(|range| range.contains(&at));
    let part = |clause: bool| {
        let kept = tokens
            .iter()
            .enumerate()
            .filter(|(at, _)| of_clause(*at) == clause);
        kept.map(|(_, token)| token.clone()).collect()
    };
    Some((part(false), part(true)))
}

/// Where the parenthesis closes that opens at `begin`.
fn end_of_parentheses<'t>(
    begin: usize,
    token: impl Fn(usize) -> Option<&'t Token>,
) -> Option<usize> {
    let mut depth = 0_usize;
    for at in begin.. {
        match token(at)? {
            Token::LParen => depth += 1,
            Token::RParen => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Plans the statement.
pub(super) async fn plan(state: &SessionState, create: Create) -> Result<LogicalPlan> {
    let LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(mut table)) =
        state.statement_to_plan(create.statement).await?
    else {
        return internal_err!("the statement creates no table");
    };
    let Statement::CreateExternalTable(mut clauses) = create.clauses else {
        return internal_err!("the clauses are not those of a table");
    };
    // The names alone matter: what is ordered, and what the options name, are columns.
    let column = |name: &String| ColumnDef {
        name: Ident::with_quote('"', name),
        data_type: DataType::Int(None),
        options: vec![],
    };
    let schema = table.input.schema();
    clauses.columns = schema.fields().iter().map(|f| column(f.name())).collect();
    let clauses = state
        .statement_to_plan(Statement::CreateExternalTable(clauses))
        .await?;
    let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(clauses)) = clauses else {
        return internal_err!("the clauses are not those of a table");
    };
    table.input = Arc::new(LogicalPlan::Extension(Extension {
        node: Arc::new(WithClauses {
            input: Arc::unwrap_or_clone(table.input),
            clauses: *clauses,
        }),
    }));
    Ok(LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(table)))
}

/// The query of a statement, and its clauses if it has any.
pub(crate) fn without_clauses(input: &LogicalPlan) -> (&LogicalPlan, Option<&CreateExternalTable>) {
    let node = match input {
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref::<WithClauses>(),
        _ => None,
    };
    match node {
        Some(node) => (&node.input, Some(&node.clauses)),
        None => (input, None),
    }
}

/// The node that carries the clauses.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WithClauses {
    input: LogicalPlan,
    clauses: CreateExternalTable,
}

impl PartialOrd for WithClauses {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for WithClauses {
    fn name(&self) -> &str {
        "WithClauses"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("WithClauses")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        match <[_; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self {
                input,
                clauses: self.clauses.clone(),
            }),
            Err(inputs) => internal_err!("WithClauses has not {} inputs", inputs.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn parts(text: &str) -> Option<[String; 2]> {
        let tokens = Tokenizer::new(&GenericDialect {}, text)
            .tokenize_with_location()
            .unwrap();
        let (rest, clauses) = split(&tokens)?;
        Some([rest, clauses].map(|tokens| {
            let words: Vec<String> = tokens
                .iter()
                .filter(|token| !matches!(token.token, Token::Whitespace(_)))
                .map(|token| token.token.to_string())
                .collect();
            words.join(" ")
        }))
    }

    #[test]
    fn the_clauses_are_taken_out_wherever_they_stand() {
        let all = "CREATE OR REPLACE TABLE a.\"b\" (id INT) WITH ORDER (id, (x)) OPTIONS ('k' 'v') AS SELECT 1;";
        assert_eq!(
            parts(all).unwrap(),
            [
                "CREATE OR REPLACE TABLE a . \"b\" ( id INT ) AS SELECT 1 ;",
                "WITH ORDER ( id , ( x ) ) OPTIONS ( 'k' 'v' )"
            ]
        );
        let reversed =
            "CREATE TABLE IF NOT EXISTS options OPTIONS ('k' 'v') /* c */ WITH ORDER (a)";
        assert_eq!(
            parts(reversed).unwrap(),
            [
                "CREATE TABLE IF NOT EXISTS options",
                "OPTIONS ( 'k' 'v' ) WITH ORDER ( a )"
            ]
        );
    }

    #[test]
    fn other_statements_have_none() {
        for text in [
            "CREATE TABLE options (id INT)",
            "CREATE TABLE t (options INT, \"WITH ORDER\" INT)",
            "CREATE TABLE t AS SELECT options (1) FROM x",
            "CREATE TABLE t AS WITH order AS (SELECT 1) SELECT * FROM order",
            "CREATE EXTERNAL TABLE t (id INT) STORED AS SUPERTABLE LOCATION '/' WITH ORDER (id)",
            "SELECT 1; CREATE TABLE t (id INT) WITH ORDER (id)",
            "CREATE TABLE t (id INT) WITH ORDER (id",
        ] {
            assert_eq!(parts(text), None, "{text}");
        }
    }
}
