//! Names and literals in a statement.
//!
//! Owns quoting: what is written here is read as it was meant, by DataFusion's generic dialect and whatever rule for
//! names the session has.

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::{
    ALL_KEYWORDS, ALL_KEYWORDS_INDEX, RESERVED_FOR_COLUMN_ALIAS, RESERVED_FOR_IDENTIFIER,
    RESERVED_FOR_TABLE_ALIAS,
};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

/// A name in SQL: in quotes unless it is read as the same name without them, by whatever rule for names.
pub(super) fn name(text: &str) -> String {
    let plain = text
        .bytes()
        .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty();
    match plain && is_read_as_a_name(text) {
        true => text.to_owned(),
        false => format!("\"{}\"", text.replace('"', "\"\"")),
    }
}

/// Whether a word without quotes is taken for a name, not for a keyword, in a column's declaration and in an order.
fn is_read_as_a_name(word: &str) -> bool {
    let upper = word.to_ascii_uppercase();
    let Some(at) = ALL_KEYWORDS.iter().position(|keyword| **keyword == upper) else {
        return true;
    };
    let reserved = [
        RESERVED_FOR_TABLE_ALIAS,
        RESERVED_FOR_COLUMN_ALIAS,
        RESERVED_FOR_IDENTIFIER,
    ];
    if ALL_KEYWORDS_INDEX
        .get(at)
        .is_none_or(|keyword| reserved.iter().any(|words| words.contains(keyword)))
    {
        return false;
    }
    let columns = parsed(&format!("({word} INT)"), |parser| parser.parse_columns());
    let ordered = parsed(&format!("{word} DESC"), |parser| {
        parser.parse_order_by_expr()
    });
    matches!(columns, Some((columns, _)) if columns.len() == 1)
        && matches!(ordered, Some(order) if matches!(order.expr, Expr::Identifier(_)))
}

/// `text`, if it can be parsed so.
pub(super) fn parsed<T>(
    text: &str,
    parse: impl FnOnce(&mut Parser<'_>) -> Result<T, ParserError>,
) -> Option<T> {
    let mut parser = Parser::new(&GenericDialect {}).try_with_sql(text).ok()?;
    parse(&mut parser).ok()
}

pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_quotes_where_they_would_be_read_as_something_else() {
        for (text, sql) in [
            ("id", "id"),
            ("dep_delay2", "dep_delay2"),
            ("name", "name"),
            ("date", "date"),
            ("select", "\"select\""),
            ("order", "\"order\""),
            ("check", "\"check\""),
            ("unique", "\"unique\""),
            ("interval", "\"interval\""),
            ("null", "\"null\""),
            ("Id", "\"Id\""),
            ("2nd", "\"2nd\""),
            ("a b", "\"a b\""),
            ("a.b", "\"a.b\""),
            ("größe", "\"größe\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
        ] {
            assert_eq!(name(text), sql);
        }
        assert_eq!(literal("it's"), "'it''s'");
    }
}
