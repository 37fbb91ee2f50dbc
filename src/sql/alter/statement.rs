//! `ALTER TABLE` as a statement.
//!
//! Owns finding it in the text of statements and turning it into a call of `supertable_alter`, which
//! any SQL that DataFusion plans can make. Does not own the function.
//!
//! Invariant: text without `ALTER TABLE` comes back as it was, byte for byte.

use datafusion::common::Result;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::sql::alter::parse::dialect_of;

/// `sql`, in the session's dialect, with `ALTER TABLE` as a query of `supertable_alter`.
///
/// # Errors
/// The session's dialect is not known.
pub(crate) fn in_dialect_of(state: &SessionState, sql: &str) -> Result<String> {
    let dialect = dialect_of(&state.config_options().sql_parser.dialect)?;
    Ok(with_alter_table(sql, dialect.as_ref()))
}

/// `text`, one or more statements, with every `ALTER TABLE` as a query of `supertable_alter`.
pub(crate) fn with_alter_table(text: &str, dialect: &dyn Dialect) -> String {
    // Escapes stay as they are, so that tokens can be written as they were read.
    let tokens = Tokenizer::new(dialect, text)
        .with_unescape(false)
        .tokenize();
    let Ok(tokens) = tokens else {
        return text.to_owned();
    };
    let mut statements = tokens.split(|token| *token == Token::SemiColon).peekable();
    let mut out = String::with_capacity(text.len());
    let mut found = false;
    while let Some(statement) = statements.next() {
        match altered(statement) {
            Some(call) => {
                found = true;
                out.push_str(&call);
            }
            None => statement
                .iter()
                .for_each(|token| out.push_str(&token.to_string())),
        }
        if statements.peek().is_some() {
            out.push(';');
        }
    }
    match found {
        true => out,
        false => text.to_owned(),
    }
}

/// The query that stands for a statement, if that is `ALTER TABLE`.
fn altered(statement: &[Token]) -> Option<String> {
    let is = |token: Option<&Token>, keyword: Keyword| matches!(token, Some(Token::Word(word)) if word.keyword == keyword && word.quote_style.is_none());
    let rest = after_space(statement);
    let rest =
        is(rest.first(), Keyword::ALTER).then(|| after_space(rest.get(1..).unwrap_or(&[])))?;
    let rest =
        is(rest.first(), Keyword::TABLE).then(|| after_space(rest.get(1..).unwrap_or(&[])))?;
    let (rest, if_exists) = match is(rest.first(), Keyword::IF) {
        true => {
            let exists = after_space(rest.get(1..).unwrap_or(&[]));
            match is(exists.first(), Keyword::EXISTS) {
                true => (after_space(exists.get(1..).unwrap_or(&[])), true),
                false => (rest, false),
            }
        }
        false => (rest, false),
    };
    let end = rest
        .iter()
        .position(|token| matches!(token, Token::Whitespace(_)))
        .unwrap_or(rest.len());
    let (name, changes) = rest.split_at_checked(end)?;
    Some(format!(
        "SELECT * FROM supertable_alter({}, {}{})",
        quoted(name),
        quoted(changes),
        if if_exists { ", if_exists => true" } else { "" }
    ))
}

fn after_space(tokens: &[Token]) -> &[Token] {
    let at = tokens
        .iter()
        .position(|token| !matches!(token, Token::Whitespace(_)))
        .unwrap_or(tokens.len());
    tokens.get(at..).unwrap_or(&[])
}

fn quoted(tokens: &[Token]) -> String {
    let text: String = tokens.iter().map(Token::to_string).collect();
    format!("'{}'", text.trim().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn turned(text: &str) -> String {
        with_alter_table(text, &GenericDialect {})
    }

    #[test]
    fn alter_table_becomes_a_call_of_the_function() {
        assert_eq!(
            turned("alter TABLE a.\"B c\" ADD COLUMN x VARCHAR DEFAULT 'it''s';\n"),
            "SELECT * FROM supertable_alter('a.\"B c\"', \
             'ADD COLUMN x VARCHAR DEFAULT ''it''''s''');\n"
        );
        assert_eq!(
            turned("SELECT 'a'';b'; -- why\nALTER TABLE t DROP x; SELECT 1;"),
            "SELECT 'a'';b';SELECT * FROM supertable_alter('t', 'DROP x'); SELECT 1;"
        );
    }

    #[test]
    fn if_exists_is_an_argument_and_if_alone_a_name() {
        assert_eq!(
            turned("ALTER TABLE IF  EXISTS a.t RENAME TO \"U\""),
            "SELECT * FROM supertable_alter('a.t', 'RENAME TO \"U\"', if_exists => true)"
        );
        assert_eq!(
            turned("ALTER TABLE if DROP x"),
            "SELECT * FROM supertable_alter('if', 'DROP x')"
        );
    }

    #[test]
    fn other_statements_stay_as_they_are() {
        for text in [
            "SELECT 1;",
            "SELECT 'ALTER TABLE t DROP x';\n",
            "-- ALTER TABLE t DROP x\nSELECT 1",
            "SELECT \"ALTER\" TABLE",
            "ALTER USER x",
            "SELECT 'open",
            "",
        ] {
            assert_eq!(turned(text), text);
        }
    }
}
