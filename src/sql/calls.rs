//! Statements that stand for a query of a table function.
//!
//! | statement | function |
//! | --- | --- |
//! | `ALTER TABLE [IF EXISTS] t …` | `supertable_alter` |
//! | `OPTIMIZE [TABLE] t [FULL] [ZORDER BY (a, b) \| HILBERT BY (a, b)]` | `supertable_optimize` |
//! | `VACUUM [TABLE] t [RETAIN n HOURS \| RETAIN n DAYS] [DRY RUN]` | `supertable_vacuum` |
//! | `RESTORE [TABLE] t TO VERSION [AS OF] n`, `… TO TIMESTAMP [AS OF] 'time'` | `supertable_restore` |
//! | `DESCRIBE HISTORY t [LIMIT n]` | `supertable_history` |
//! | `CALL supertable_…(…)` | that one |
//! | `FROM t VERSION AS OF n`, `FROM t TIMESTAMP AS OF 'time'` | `supertable_at` |
//!
//! They are those of other tables' SQL, in every dialect. Owns finding them in the text of statements, and turning them
//! into queries that DataFusion plans. Does not own the functions.
//!
//! Invariant: text without them comes back as it was, byte for byte; one that begins like them and goes on otherwise is
//! left to DataFusion, which refuses it.

use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer, Word};

/// `text`, one or more statements, with each of the statements above as a query.
pub(crate) fn with_calls(text: &str, dialect: &dyn Dialect) -> String {
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
        match call(statement).or_else(|| with_versions(statement)) {
            Some(call) => {
                found = true;
                out.push_str(&call);
            }
            None => out.push_str(&written(statement)),
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

/// The query that a statement stands for.
fn call(statement: &[Token]) -> Option<String> {
    let mut rest = Rest::of(statement);
    if rest.takes("EXPLAIN") {
        let mut explained = "EXPLAIN ".to_owned();
        for word in ["ANALYZE", "VERBOSE"] {
            if rest.takes(word) {
                explained = format!("{explained}{word} ");
            }
        }
        // Whatever else may stand there is DataFusion's.
        let ours = [
            "ALTER", "OPTIMIZE", "VACUUM", "RESTORE", "DESCRIBE", "DESC", "CALL",
        ];
        return match ours.into_iter().any(|word| rest.is_at(word)) {
            true => Some(format!("{explained}{}", call(rest.0)?)),
            false => None,
        };
    }
    if rest.takes("ALTER") {
        return alter(rest);
    }
    let query = if rest.takes("OPTIMIZE") {
        optimize(&mut rest)
    } else if rest.takes("VACUUM") {
        vacuum(&mut rest)
    } else if rest.takes("RESTORE") {
        restore(&mut rest)
    } else if rest.takes("DESCRIBE") || rest.takes("DESC") {
        history(&mut rest)
    } else if rest.takes("CALL") {
        function(&mut rest)
    } else {
        None
    };
    query.filter(|_| rest.is_empty())
}

fn alter(mut rest: Rest<'_>) -> Option<String> {
    if !rest.takes("TABLE") {
        return None;
    }
    let mut existing = rest;
    let if_exists = existing.takes("IF") && existing.takes("EXISTS");
    if if_exists {
        rest = existing;
    }
    let end = (rest.0.iter()).position(|token| matches!(token, Token::Whitespace(_)));
    let (name, changes) = rest.0.split_at_checked(end.unwrap_or(rest.0.len()))?;
    Some(format!(
        "SELECT * FROM supertable_alter({}, {}{})",
        quoted(name),
        quoted(changes),
        if if_exists { ", if_exists => true" } else { "" }
    ))
}

fn optimize(rest: &mut Rest<'_>) -> Option<String> {
    rest.takes("TABLE");
    let table = quoted(rest.name()?);
    let full = rest.takes("FULL");
    let curve = ["ZORDER", "HILBERT"].into_iter().find(|c| rest.takes(c));
    let mut arguments = String::new();
    if full {
        arguments.push_str(", full => true");
    }
    if let Some(curve) = curve {
        let columns = rest.takes("BY").then(|| rest.columns())??;
        let order = format!("{}({columns})", curve.to_lowercase());
        arguments = format!("{arguments}, order => '{}'", order.replace('\'', "''"));
    }
    Some(format!(
        "SELECT * FROM supertable_optimize({table}{arguments})"
    ))
}

fn vacuum(rest: &mut Rest<'_>) -> Option<String> {
    rest.takes("TABLE");
    let table = quoted(rest.name()?);
    let mut arguments = String::new();
    if rest.takes("RETAIN") {
        let number = rest.number()?;
        let units = ["HOURS", "HOUR", "DAYS", "DAY", "MINUTES", "MINUTE"];
        let unit = units.into_iter().find(|unit| rest.takes(unit))?;
        arguments = format!(", retain => INTERVAL '{number} {}'", unit.to_lowercase());
    }
    if rest.takes("DRY") {
        rest.takes("RUN").then_some(())?;
        arguments.push_str(", dry_run => true");
    }
    Some(format!(
        "SELECT * FROM supertable_vacuum({table}{arguments})"
    ))
}

fn restore(rest: &mut Rest<'_>) -> Option<String> {
    rest.takes("TABLE");
    let table = quoted(rest.name()?);
    let is_version = rest.takes("TO").then(|| rest.version_or_timestamp())??;
    if rest.takes("AS") {
        rest.takes("OF").then_some(())?;
    }
    let at = rest.moment(is_version)?;
    Some(format!("SELECT * FROM supertable_restore({table}, {at})"))
}

fn history(rest: &mut Rest<'_>) -> Option<String> {
    rest.takes("HISTORY").then_some(())?;
    let table = quoted(rest.name()?);
    let limit = match rest.takes("LIMIT") {
        true => format!(" LIMIT {}", rest.number()?),
        false => String::new(),
    };
    Some(format!("SELECT * FROM supertable_history({table}){limit}"))
}

fn function(rest: &mut Rest<'_>) -> Option<String> {
    let Some(Token::Word(name)) = rest.0.first() else {
        return None;
    };
    let is_ours = name.value.to_lowercase().starts_with("supertable_");
    let call = is_ours.then(|| written(rest.0))?;
    rest.0 = &[];
    Some(format!("SELECT * FROM {}", call.trim_end()))
}

/// A statement in which `FROM t VERSION AS OF 7` and the like are calls of `supertable_at`; `None` if it has none.
fn with_versions(statement: &[Token]) -> Option<String> {
    let mut out = String::new();
    let mut found = false;
    let mut rest = Rest::of(statement);
    let mut at_relation = false;
    while let Some(token) = rest.0.first() {
        if at_relation && let Some((relation, after)) = version_of(rest) {
            out.push_str(&relation);
            found = true;
            rest = after;
            at_relation = false;
            continue;
        }
        if !matches!(token, Token::Whitespace(_)) {
            at_relation = *token == Token::Comma || is(token, "FROM") || is(token, "JOIN");
        }
        out.push_str(&token.to_string());
        rest = Rest(rest.0.get(1..).unwrap_or(&[]));
    }
    found.then_some(out)
}

/// A relation that names a version, as a call with an alias, and what follows.
fn version_of(mut rest: Rest<'_>) -> Option<(String, Rest<'_>)> {
    let name = rest.name()?;
    let is_version = rest.version_or_timestamp()?;
    (rest.takes("AS") && rest.takes("OF")).then_some(())?;
    let at = rest.moment(is_version)?;
    let has_alias = match rest.0.first() {
        Some(Token::Word(word)) => {
            word.keyword == Keyword::NoKeyword || word.keyword == Keyword::AS
        }
        _ => false,
    };
    let alias = match (has_alias, name.last()) {
        (true, _) => " ".to_owned(),
        (false, Some(Token::Word(last))) => format!(" AS {last} "),
        (false, _) => return None,
    };
    Some((
        format!("supertable_at({}, {at}){alias}", quoted(name)),
        rest,
    ))
}

/// What is left of a statement; space is passed over.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a [Token]);

impl<'a> Rest<'a> {
    fn of(statement: &'a [Token]) -> Self {
        Self(after_space(statement))
    }

    fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn is_at(self, word: &str) -> bool {
        self.0.first().is_some_and(|token| is(token, word))
    }

    /// Whether this word comes next; then it is passed over.
    fn takes(&mut self, word: &str) -> bool {
        let is_at = self.is_at(word);
        if is_at {
            self.skip(1);
        }
        is_at
    }

    fn skip(&mut self, tokens: usize) {
        self.0 = after_space(self.0.get(tokens..).unwrap_or(&[]));
    }

    /// A name of one or more parts.
    fn name(&mut self) -> Option<&'a [Token]> {
        let mut parts = 0;
        while let Some(Token::Word(_)) = self.0.get(parts) {
            parts += 1;
            match self.0.get(parts) {
                Some(Token::Period) => parts += 1,
                _ => break,
            }
        }
        let name = self.0.get(..parts).filter(|name| !name.is_empty())?;
        self.skip(parts);
        Some(name)
    }

    fn number(&mut self) -> Option<String> {
        match self.0.first()? {
            Token::Number(number, _) if number.bytes().all(|b| b.is_ascii_digit()) => {
                let number = number.clone();
                self.skip(1);
                Some(number)
            }
            _ => None,
        }
    }

    /// Which of the two comes next.
    fn version_or_timestamp(&mut self) -> Option<bool> {
        match self.takes("VERSION") {
            true => Some(true),
            false => self.takes("TIMESTAMP").then_some(false),
        }
    }

    /// A version's number; or a time: text, or a literal of a timestamp or a date.
    fn moment(&mut self, is_version: bool) -> Option<String> {
        if is_version {
            return self.number();
        }
        let kind = ["TIMESTAMP", "DATE"]
            .into_iter()
            .find(|kind| self.takes(kind));
        match self.0.first()? {
            text @ Token::SingleQuotedString(_) => {
                let text = text.to_string();
                self.skip(1);
                Some(kind.map_or(text.clone(), |kind| format!("{kind} {text}")))
            }
            _ => None,
        }
    }

    /// Names, in parentheses or without.
    fn columns(&mut self) -> Option<String> {
        let enclosed = self.0.first() == Some(&Token::LParen);
        if enclosed {
            self.skip(1);
        }
        let mut columns = Vec::new();
        loop {
            columns.push(written(self.name()?));
            match self.0.first() {
                Some(Token::Comma) => self.skip(1),
                Some(Token::RParen) if enclosed => {
                    self.skip(1);
                    break;
                }
                None if !enclosed => break,
                _ => return None,
            }
        }
        Some(columns.join(", "))
    }
}

fn is(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(text))
}

fn after_space(tokens: &[Token]) -> &[Token] {
    let at = tokens
        .iter()
        .position(|token| !matches!(token, Token::Whitespace(_)))
        .unwrap_or(tokens.len());
    tokens.get(at..).unwrap_or(&[])
}

fn written(tokens: &[Token]) -> String {
    tokens.iter().map(Token::to_string).collect()
}

fn quoted(tokens: &[Token]) -> String {
    format!("'{}'", written(tokens).trim().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn turned(text: &str) -> String {
        with_calls(text, &GenericDialect {})
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
    fn upkeep_and_history_have_statements() {
        for (statement, query) in [
            ("OPTIMIZE t", "supertable_optimize('t')"),
            (
                "optimize table a.b.t full;",
                "supertable_optimize('a.b.t', full => true);",
            ),
            (
                "OPTIMIZE t ZORDER BY (a, \"B's\")",
                "supertable_optimize('t', order => 'zorder(a, \"B''s\")')",
            ),
            (
                "OPTIMIZE t FULL HILBERT BY a , b",
                "supertable_optimize('t', full => true, order => 'hilbert(a, b)')",
            ),
            ("VACUUM t", "supertable_vacuum('t')"),
            (
                "VACUUM TABLE t RETAIN 168 HOURS DRY RUN",
                "supertable_vacuum('t', retain => INTERVAL '168 hours', dry_run => true)",
            ),
            (
                "RESTORE TABLE t TO VERSION AS OF 7",
                "supertable_restore('t', 7)",
            ),
            ("RESTORE t TO VERSION 7", "supertable_restore('t', 7)"),
            (
                "RESTORE TABLE \"T\" TO TIMESTAMP AS OF '2026-01-01 00:00:00'",
                "supertable_restore('\"T\"', '2026-01-01 00:00:00')",
            ),
            (
                "DESCRIBE HISTORY t LIMIT 1",
                "supertable_history('t') LIMIT 1",
            ),
            ("desc history t", "supertable_history('t')"),
            ("CALL supertable_files('t') ;", "supertable_files('t');"),
        ] {
            assert_eq!(turned(statement), format!("SELECT * FROM {query}"));
        }
        assert_eq!(
            turned("EXPLAIN ANALYZE VACUUM t"),
            "EXPLAIN ANALYZE SELECT * FROM supertable_vacuum('t')"
        );
    }

    #[test]
    fn a_relation_may_name_a_version() {
        for (text, query) in [
            (
                "SELECT * FROM t VERSION AS OF 7",
                "SELECT * FROM supertable_at('t', 7) AS t ",
            ),
            (
                "SELECT * FROM t TIMESTAMP AS OF DATE '2026-01-01' AS o JOIN a.\"B\" version as of 2 ON true",
                "SELECT * FROM supertable_at('t', DATE '2026-01-01') AS o JOIN \
                 supertable_at('a.\"B\"', 2) AS \"B\" ON true",
            ),
            (
                "INSERT INTO u SELECT x.a FROM s, t VERSION AS OF 1 x WHERE true",
                "INSERT INTO u SELECT x.a FROM s, supertable_at('t', 1) x WHERE true",
            ),
        ] {
            assert_eq!(turned(text), query);
        }
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
            "DESCRIBE history",
            "EXPLAIN SELECT 1",
            "VACUUM t RETAIN much",
            "OPTIMIZE t WHERE a = 1",
            "RESTORE t",
            "CALL other(1)",
            "SELECT version AS of FROM t",
            "SELECT a FROM t version",
            "SELECT a FROM t VERSION AS OF x",
        ] {
            assert_eq!(turned(text), text);
        }
    }
}
