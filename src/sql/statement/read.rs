//! From text to the statements that this crate plans.
//!
//! Owns telling them from all others, and the few forms that sqlparser does not know: they are rewritten among the
//! tokens, where strings, quoted names and comments cannot be mistaken for keywords. Does not own planning them.
//!
//! Invariant: text without such a statement comes back as it was.

use datafusion::common::{DataFusionError, Result};
use datafusion::config::SqlParserOptions;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Insert, Merge, MergeAction, MergeInsertKind, ObjectName,
    SetExpr, Statement as SqlStatement, Update,
};
use datafusion::sql::sqlparser::dialect::{Dialect, dialect_from_str};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::create::{self, Create};
use super::default::is_default;

/// A column of this name stands for all of them, in MERGE.
const ALL: &str = "__supertable_all_columns";
/// A column of this name stands for those that the query yields, in INSERT.
const BY_NAME: &str = "__supertable_by_name";

/// A statement that this crate plans.
#[derive(Debug)]
pub(crate) enum Own {
    /// It changes rows.
    Change(Box<Statement>),
    /// It creates a table.
    Create(Box<Create>),
}

/// The statement in `text`, if it is one that this crate plans.
///
/// # Errors
/// It is of a form that only this crate knows, and cannot be parsed.
pub(crate) fn read(text: &str, options: &SqlParserOptions) -> Result<Option<Own>> {
    match dialect_from_str(options.dialect) {
        Some(dialect) => read_one(text, dialect.as_ref(), options.recursion_limit.get()),
        // DataFusion says so.
        None => Ok(None),
    }
}

/// Where in `text`, in bytes, a place is that a token tells in lines and characters.
pub(super) fn offset_of(text: &str, place: Location) -> Option<usize> {
    let line = match usize::try_from(place.line).ok()?.checked_sub(1)? {
        0 => 0,
        before => text.match_indices('\n').nth(before - 1)?.0 + 1,
    };
    let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
    let (at, _) = text.get(line..)?.char_indices().nth(column)?;
    Some(line + at)
}

/// The statement in `text`, a single one, if this crate plans it.
pub(super) fn read_one(
    text: &str,
    dialect: &dyn Dialect,
    recursion_limit: usize,
) -> Result<Option<Own>> {
    let Ok(tokens) = Tokenizer::new(dialect, text).tokenize_with_location() else {
        return Ok(None);
    };
    if let Some(create) = create::read(&tokens, dialect, recursion_limit)? {
        return Ok(Some(Own::Create(Box::new(create))));
    }
    let changes = |token: &TokenWithSpan| {
        [
            Keyword::DELETE,
            Keyword::UPDATE,
            Keyword::MERGE,
            Keyword::INSERT,
        ]
        .into_iter()
        .any(|keyword| is(&token.token, keyword))
    };
    if !tokens.iter().any(changes) {
        return Ok(None);
    }
    let (tokens, extended) = extended(returning_first(tokens));
    let parsed = DFParserBuilder::new(tokens)
        .with_dialect(dialect)
        .with_recursion_limit(recursion_limit)
        .build()
        .and_then(|mut parser| parser.parse_statements());
    match parsed {
        Ok(mut statements) if statements.len() == 1 => {
            let own = statements.pop_front().filter(is_own);
            Ok(own.map(|statement| Own::Change(Box::new(statement))))
        }
        Ok(statements) if extended && statements.len() > 1 => Err(DataFusionError::Plan(
            "one statement at a time can be run".to_owned(),
        )),
        Err(error) if extended => Err(error),
        // DataFusion says what is wrong.
        _ => Ok(None),
    }
}

pub(super) fn is(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// `tokens` of a DELETE or UPDATE with its RETURNING before its ORDER BY and LIMIT, where sqlparser wants it.
fn returning_first(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut depth = 0_usize;
    let mut changes = false;
    let (mut limit, mut returning, mut end) = (None, None, tokens.len());
    for (at, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::SemiColon if depth == 0 => {
                end = at;
                break;
            }
            Token::Word(word) if depth == 0 && word.quote_style.is_none() => match word.keyword {
                Keyword::DELETE | Keyword::UPDATE => changes = true,
                Keyword::INSERT | Keyword::MERGE | Keyword::SELECT if !changes => return tokens,
                Keyword::ORDER | Keyword::LIMIT if changes => limit = limit.or(Some(at)),
                Keyword::RETURNING if limit.is_some() => returning = returning.or(Some(at)),
                _ => {}
            },
            _ => {}
        }
    }
    let (Some(limit), Some(returning)) = (limit, returning) else {
        return tokens;
    };
    let part = |from: usize, to: usize| tokens.get(from..to).unwrap_or_default().iter().cloned();
    part(0, limit)
        .chain(part(returning, end))
        .chain(part(limit, returning))
        .chain(part(end, tokens.len()))
        .collect()
}

/// `tokens` with the forms that sqlparser does not know in others, and whether there were any.
fn extended(tokens: Vec<TokenWithSpan>) -> (Vec<TokenWithSpan>, bool) {
    let visible: Vec<usize> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)))
        .map(|(at, _)| at)
        .collect();
    let token = |at: usize| visible.get(at).and_then(|at| tokens.get(*at));
    let is_at = |at: usize, keyword| token(at).is_some_and(|t| is(&t.token, keyword));
    let word_at = |at: usize, text: &str| token(at).is_some_and(|t| is_word(&t.token, text));
    let star_at = |at: usize| token(at).is_some_and(|t| t.token == Token::Mul);
    // Whether a WHEN clause ends before this token.
    let ends_at = |at: usize| {
        token(at).is_none_or(|t| matches!(t.token, Token::SemiColon | Token::EOF))
            || [Keyword::WHEN, Keyword::RETURNING, Keyword::OUTPUT]
                .into_iter()
                .any(|keyword| is_at(at, keyword))
    };
    let merges = (0..visible.len()).any(|at| is_at(at, Keyword::MERGE));
    // What stands in the place of a visible token.
    let mut instead: Vec<(usize, Vec<Token>)> = Vec::new();
    let word = |text: &str| Token::make_word(text, None);
    let number = || Token::Number("1".to_owned(), false);
    for at in 0..visible.len() {
        if merges && is_at(at, Keyword::THEN) {
            let all = word(ALL);
            if is_at(at + 1, Keyword::UPDATE)
                && is_at(at + 2, Keyword::SET)
                && star_at(at + 3)
                && ends_at(at + 4)
            {
                instead.push((at + 3, vec![all, Token::Eq, number()]));
            } else if is_at(at + 1, Keyword::INSERT) && star_at(at + 2) && ends_at(at + 3) {
                let columns = [Token::LParen, all, Token::RParen, word("VALUES")];
                let values = [Token::LParen, number(), Token::RParen];
                instead.push((at + 2, columns.into_iter().chain(values).collect()));
            }
        }
        if is_at(at, Keyword::INSERT) {
            let mut name = at + 1;
            for keyword in [Keyword::OVERWRITE, Keyword::INTO, Keyword::TABLE] {
                name += usize::from(is_at(name, keyword));
            }
            let is_name = |at| token(at).is_some_and(|t| matches!(t.token, Token::Word(_)));
            let is_period = |at| token(at).is_some_and(|t| t.token == Token::Period);
            while is_name(name) && is_period(name + 1) {
                name += 2;
            }
            // Not a table called BY: something follows NAME.
            if name > at + 1
                && is_name(name)
                && word_at(name + 1, "BY")
                && word_at(name + 2, "NAME")
                && token(name + 3).is_some()
            {
                instead.push((name + 1, vec![Token::LParen, word(BY_NAME)]));
                instead.push((name + 2, vec![Token::RParen]));
            }
        }
    }
    if instead.is_empty() {
        return (tokens, false);
    }
    let mut out = Vec::with_capacity(tokens.len() + 8);
    for (at, token) in tokens.iter().enumerate() {
        match instead
            .iter()
            .find(|(visibly, _)| visible.get(*visibly) == Some(&at))
        {
            None => out.push(token.clone()),
            Some((_, others)) => out.extend(others.iter().map(|other| TokenWithSpan {
                token: other.clone(),
                span: token.span,
            })),
        }
    }
    (out, true)
}

/// Whether these columns stand for all.
pub(super) fn stands_for_all(columns: &[ObjectName]) -> bool {
    matches!(columns, [column] if is_named(column, ALL))
}

/// Whether an assignment stands for all columns.
pub(super) fn assigns_all(assignment: &Assignment) -> bool {
    match &assignment.target {
        AssignmentTarget::ColumnName(name) => stands_for_all(std::slice::from_ref(name)),
        AssignmentTarget::Tuple(_) => false,
    }
}

/// Whether these columns stand for those that the query yields.
pub(super) fn stands_for_names(columns: &[ObjectName]) -> bool {
    matches!(columns, [column] if is_named(column, BY_NAME))
}

fn is_named(name: &ObjectName, text: &str) -> bool {
    match name.0.as_slice() {
        [part] => part
            .as_ident()
            .is_some_and(|ident| ident.quote_style.is_none() && ident.value == text),
        _ => false,
    }
}

fn is_own(statement: &Statement) -> bool {
    match statement {
        Statement::Explain(explain) => is_own(&explain.statement),
        Statement::Statement(statement) => is_own_sql(statement),
        _ => false,
    }
}

fn is_own_sql(statement: &SqlStatement) -> bool {
    match statement {
        SqlStatement::Explain { statement, .. } | SqlStatement::Prepare { statement, .. } => {
            is_own_sql(statement)
        }
        SqlStatement::Query(query) => matches!(
            query.body.as_ref(),
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        ),
        SqlStatement::Delete(delete) => is_own_delete(delete),
        SqlStatement::Update(update) => is_own_update(update),
        SqlStatement::Insert(insert) => is_own_insert(insert),
        SqlStatement::Merge(merge) => is_own_merge(merge),
        _ => false,
    }
}

fn is_own_delete(delete: &Delete) -> bool {
    use datafusion::sql::sqlparser::ast::{FromTable, TableFactor};
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let has_alias = from
        .iter()
        .any(|table| matches!(&table.relation, TableFactor::Table { alias: Some(_), .. }));
    has_alias || delete.using.is_some() || delete.returning.is_some() || !delete.order_by.is_empty()
}

fn is_own_update(update: &Update) -> bool {
    update.from.is_some()
        || update.returning.is_some()
        || update.limit.is_some()
        || !update.order_by.is_empty()
        || update.assignments.iter().any(|a| is_default(&a.value))
}

fn is_own_insert(insert: &Insert) -> bool {
    let rows = match insert.source.as_deref().map(|query| query.body.as_ref()) {
        Some(SetExpr::Values(values)) => values.rows.as_slice(),
        Some(_) => &[],
        // DEFAULT VALUES.
        None => return insert.assignments.is_empty() && insert.format_clause.is_none(),
    };
    insert.returning.is_some()
        || insert.on.is_some()
        || stands_for_names(&insert.columns)
        || rows.iter().any(|row| row.content.iter().any(is_default))
}

fn is_own_merge(merge: &Merge) -> bool {
    let is_own = |action: &MergeAction| match action {
        MergeAction::Update(update) => update
            .assignments
            .iter()
            .any(|a| is_default(&a.value) || assigns_all(a)),
        MergeAction::Insert(insert) => {
            let rows = match &insert.kind {
                MergeInsertKind::Values(values) => values.rows.as_slice(),
                MergeInsertKind::Row => &[],
            };
            stands_for_all(&insert.columns)
                || rows.iter().any(|row| row.content.iter().any(is_default))
        }
        MergeAction::Delete { .. } => false,
    };
    merge.output.is_some() || merge.clauses.iter().any(|clause| is_own(&clause.action))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn own(text: &str) -> bool {
        read_one(text, &GenericDialect {}, 50).unwrap().is_some()
    }

    #[test]
    fn forms_that_datafusion_does_not_take_are_own() {
        for text in [
            "DELETE FROM t USING s WHERE t.a = s.a",
            "DELETE FROM t AS x WHERE x.a = 1",
            "DELETE FROM t x WHERE x.a = 1;",
            "DELETE FROM t ORDER BY a LIMIT 1",
            "DELETE FROM t RETURNING *",
            "DELETE FROM t ORDER BY a LIMIT 1 RETURNING *, a AS \"LIMIT\";",
            "UPDATE t SET a = (SELECT 1 LIMIT 1) WHERE true LIMIT 1 RETURNING a ;",
            "UPDATE t SET a = s.a FROM s WHERE t.b = s.b",
            "UPDATE t SET a = DEFAULT",
            "UPDATE t SET a = 1 ORDER BY a LIMIT 1",
            "UPDATE t SET a = 1 LIMIT 1",
            "WITH x AS (SELECT 1) DELETE FROM t WHERE a IN (SELECT * FROM x)",
            "WITH x AS (SELECT 1) MERGE INTO t USING x ON true WHEN MATCHED THEN DELETE",
            "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
            "EXPLAIN DELETE FROM t USING s",
            "EXPLAIN ANALYZE UPDATE t SET a = default",
            "PREPARE p AS DELETE FROM t USING s WHERE a = $1",
            "INSERT INTO t VALUES (1, DEFAULT)",
            "INSERT INTO t DEFAULT VALUES",
            "INSERT INTO t SELECT 1 RETURNING a",
            "INSERT INTO t SELECT a FROM s ON CONFLICT DO NOTHING",
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b WHERE b > 1",
            "insert into a.\"B c\".t by name select 1 AS a",
            "INSERT OVERWRITE t BY /* so */ NAME (SELECT 1 AS a)",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET * \
             WHEN NOT MATCHED THEN INSERT *;",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN update /* all */ set *",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE RETURNING *",
        ] {
            assert!(own(text), "{text}");
        }
    }

    #[test]
    fn other_statements_are_left_to_datafusion() {
        for text in [
            "SELECT 'DELETE FROM t USING s'",
            "DELETE FROM t WHERE a = 'USING s' -- USING s",
            "DELETE FROM t LIMIT 1",
            "UPDATE t SET a = 'DEFAULT'",
            "UPDATE t SET a = \"default\"",
            "INSERT INTO t VALUES ('DEFAULT', \"DEFAULT\")",
            "INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x",
            "INSERT INTO t SELECT * FROM s /* RETURNING * */",
            "WITH x AS (SELECT 1) SELECT * FROM x",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET a = CASE WHEN b THEN insert * 2 END",
            "CREATE TABLE \"by\" AS SELECT 1",
            "DELETE FROM",
            "DELETE FROM t USING s; SELECT 1",
            "UPDATE t SET a = 'open",
            "",
        ] {
            assert!(!own(text), "{text}");
        }
    }
}
