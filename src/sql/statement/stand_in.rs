//! Text for a program that parses statements itself, with names in the place of those that this crate plans.
//!
//! Owns the cut into statements. Does not own parsing them.

use datafusion::common::Result;
use datafusion::config::SqlParserOptions;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::dialect::{Dialect, dialect_from_str};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::read::{Own, offset_of, read_one};

/// Text that DataFusion can parse, and the statements that it has only names for.
pub(crate) type StandIns = (String, Vec<(String, Own)>);

/// `text`, with the call of a prepared statement in the place of each statement that this crate plans, and
/// those, by their names; none if there is none.
///
/// # Errors
/// A statement is of a form that only this crate knows, and cannot be parsed.
pub(crate) fn with_stand_ins(text: &str, options: &SqlParserOptions) -> Result<Option<StandIns>> {
    let Some(dialect) = dialect_from_str(options.dialect) else {
        return Ok(None);
    };
    let Some(statements) = split(text, dialect.as_ref()) else {
        return Ok(None);
    };
    let mut stood_for = Vec::new();
    let mut out = Vec::new();
    for statement in statements {
        match read_one(statement, dialect.as_ref(), options.recursion_limit.get())? {
            Some(own) => {
                let name = format!("__supertable_statement_{}", stood_for.len());
                out.push(format!("EXECUTE {name}"));
                stood_for.push((name, own));
            }
            None => out.push(statement.to_owned()),
        }
    }
    Ok((!stood_for.is_empty()).then(|| (out.join(";"), stood_for)))
}

/// The statements of `text` that create tables in a form that DataFusion cannot parse, without the clauses which
/// make it so.
pub(crate) fn creations(text: &str, options: &SqlParserOptions) -> Vec<Statement> {
    // The planner says what is wrong with a statement.
    let own = match with_stand_ins(text, options) {
        Ok(Some((_, own))) => own,
        _ => return Vec::new(),
    };
    let creations = own.into_iter().filter_map(|(_, own)| match own {
        Own::Create(create) => Some(create.without_clauses()),
        Own::Change(_) => None,
    });
    creations.collect()
}

/// The statements of `text`, without the semicolons between them; none if it cannot be read.
fn split<'t>(text: &'t str, dialect: &dyn Dialect) -> Option<Vec<&'t str>> {
    let tokens = Tokenizer::new(dialect, text)
        .tokenize_with_location()
        .ok()?;
    let mut statements = Vec::new();
    let mut begin = 0;
    for token in tokens.iter().filter(|t| t.token == Token::SemiColon) {
        let at = offset_of(text, token.span.start)?;
        statements.push(text.get(begin..at)?);
        begin = at + 1;
    }
    statements.push(text.get(begin..)?);
    Some(statements)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stand_ins_take_the_place_of_own_statements_only() {
        let options = SqlParserOptions::default();
        let text = "SELECT 'a'';b'; DELETE FROM t USING s; -- why\nSELECT 1;";
        let (text, own) = with_stand_ins(text, &options).unwrap().unwrap();
        assert_eq!(
            text,
            "SELECT 'a'';b';EXECUTE __supertable_statement_0; -- why\nSELECT 1;"
        );
        assert_eq!(own.len(), 1);
        let text = "SELECT 'é;',\r\n ';\n;'; -- ñ;\nSELECT 'ü'; DELETE FROM t RETURNING 'ß;'";
        let (text, _) = with_stand_ins(text, &options).unwrap().unwrap();
        assert_eq!(
            text,
            "SELECT 'é;',\r\n ';\n;'; -- ñ;\nSELECT 'ü';EXECUTE __supertable_statement_0"
        );
        let options = SqlParserOptions {
            dialect: datafusion::config::Dialect::PostgreSQL,
            ..SqlParserOptions::default()
        };
        let text = r"UPDATE t SET a = E'a''b\\n;' FROM s; SELECT E'a''b\\n;'";
        let (text, _) = with_stand_ins(text, &options).unwrap().unwrap();
        assert_eq!(
            text,
            r"EXECUTE __supertable_statement_0; SELECT E'a''b\\n;'"
        );
        let options = SqlParserOptions::default();
        assert!(
            with_stand_ins("SELECT 1; DELETE FROM t", &options)
                .unwrap()
                .is_none()
        );
    }
}
