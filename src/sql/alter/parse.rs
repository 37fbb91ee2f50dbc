//! From the text behind `ALTER TABLE t` to the changes that it asks for.
//!
//! Owns the grammar. Names, types and expressions are sqlparser's, in the session's dialect. Does not
//! own what a type or a default means (`run`), nor whether a change is possible (`evolution`).
//!
//! ```text
//! changes := RENAME TO name (. name)*
//!          | change (, change)*
//! change  := ADD [COLUMN] [IF NOT EXISTS] path type [NOT NULL | NULL] [DEFAULT expr] [place]
//!          | ADD [CONSTRAINT name] { PRIMARY KEY | UNIQUE } (name, …)
//!          | ADD [CONSTRAINT name] CHECK (expr)
//!          | DROP [COLUMN] [IF EXISTS] path
//!          | DROP CONSTRAINT [IF EXISTS] name | DROP PRIMARY KEY
//!          | RENAME [COLUMN] path TO name
//!          | ALTER [COLUMN] path { [SET DATA] TYPE type | {SET | DROP} NOT NULL
//!                                | SET DEFAULT expr | DROP DEFAULT }
//!          | MOVE [COLUMN] path place
//!          | SET [TBLPROPERTIES] ('key' = 'value', …)
//!          | UNSET [TBLPROPERTIES] ('key', …)
//! place   := FIRST | AFTER name
//! path    := name (. name)*       a field of a struct; a list's items are called element
//! ```

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, Expr as SqlExpr, Ident};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, ErrorKind, Result};
use crate::table::evolution::{ColumnPath, Position};

/// The type of a column: as a statement writes it, or as a program has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ColumnType {
    Sql(SqlType),
    Arrow(DataType),
}

/// One change as it is asked for; its expressions are SQL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Alteration {
    Add {
        path: ColumnPath,
        data_type: ColumnType,
        nullable: bool,
        default: Option<SqlExpr>,
        position: Option<Position>,
        if_not_exists: bool,
    },
    Drop {
        path: ColumnPath,
        if_exists: bool,
    },
    Rename {
        path: ColumnPath,
        to: String,
    },
    Type {
        path: ColumnPath,
        data_type: ColumnType,
    },
    DropNotNull {
        path: ColumnPath,
    },
    SetNotNull {
        path: ColumnPath,
    },
    AddKey {
        name: Option<String>,
        is_primary: bool,
        columns: Vec<String>,
    },
    AddCheck {
        name: Option<String>,
        condition: SqlExpr,
    },
    DropConstraint {
        /// None: the primary key.
        name: Option<String>,
        if_exists: bool,
    },
    Default {
        path: ColumnPath,
        default: Option<SqlExpr>,
    },
    Move {
        path: ColumnPath,
        position: Position,
    },
    Property {
        key: String,
        value: Option<String>,
    },
}

/// What a statement asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Alter {
    /// Another name for the table, whose last part stands for the table and the others for where it is.
    RenameTo(Vec<String>),
    /// Other columns or properties.
    Changes(Vec<Alteration>),
}

/// Parses `text`. Names that are not quoted become lower case if `normalize` says so.
///
/// # Errors
/// Says what was expected, and what stands there.
pub(crate) fn parse(text: &str, dialect: &dyn Dialect, normalize: bool) -> Result<Alter> {
    let bad = |e: ParserError| {
        Error::new(
            ErrorKind::InvalidArgument,
            "ALTER TABLE",
            format!("cannot be parsed: {e}"),
        )
    };
    let parser = Parser::new(dialect).try_with_sql(text).map_err(bad)?;
    Changes { parser, normalize }.statement().map_err(bad)
}

const PRIMARY_KEY: [Keyword; 2] = [Keyword::PRIMARY, Keyword::KEY];

struct Changes<'a> {
    parser: Parser<'a>,
    normalize: bool,
}

type Parsed<T> = std::result::Result<T, ParserError>;

impl Changes<'_> {
    fn statement(mut self) -> Parsed<Alter> {
        if self.parser.parse_keywords(&[Keyword::RENAME, Keyword::TO]) {
            let ColumnPath(name) = self.path()?;
            let _ = self.parser.consume_token(&Token::SemiColon);
            let rest = self.parser.next_token();
            return match rest.token {
                Token::EOF => Ok(Alter::RenameTo(name)),
                _ => self
                    .parser
                    .expected("the end, since a table is renamed by itself,", rest),
            };
        }
        self.all().map(Alter::Changes)
    }

    fn all(mut self) -> Parsed<Vec<Alteration>> {
        let mut changes = Vec::new();
        loop {
            self.change(&mut changes)?;
            if self.parser.consume_token(&Token::Comma) {
                continue;
            }
            let _ = self.parser.consume_token(&Token::SemiColon);
            let rest = self.parser.next_token();
            return match rest.token {
                Token::EOF => Ok(changes),
                _ => self.parser.expected("a comma or the end", rest),
            };
        }
    }

    fn change(&mut self, changes: &mut Vec<Alteration>) -> Parsed<()> {
        // A word of this grammar only.
        if self.word("MOVE") {
            self.column();
            let path = self.path()?;
            let position = match self.place()? {
                Some(position) => position,
                None => return self.unexpected("FIRST or AFTER a column"),
            };
            changes.push(Alteration::Move { path, position });
            return Ok(());
        }
        if self.word("UNSET") {
            return self.unset(changes);
        }
        let change = match self.parser.parse_one_of_keywords(&[
            Keyword::ADD,
            Keyword::DROP,
            Keyword::RENAME,
            Keyword::ALTER,
            Keyword::SET,
        ]) {
            Some(Keyword::ADD) => match self.constraint()? {
                Some(constraint) => constraint,
                None => self.add()?,
            },
            Some(Keyword::DROP) if self.parser.parse_keywords(&PRIMARY_KEY) => {
                Alteration::DropConstraint {
                    name: None,
                    if_exists: false,
                }
            }
            // A column may be called so.
            Some(Keyword::DROP)
                if matches!(self.parser.peek_nth_token(1).token, Token::Word(_))
                    && self.parser.parse_keyword(Keyword::CONSTRAINT) =>
            {
                let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
                let name = self.parser.parse_identifier()?;
                let name = Some(self.name(name));
                Alteration::DropConstraint { name, if_exists }
            }
            Some(Keyword::DROP) => {
                self.column();
                let if_exists = self.parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
                let path = self.path()?;
                Alteration::Drop { path, if_exists }
            }
            Some(Keyword::RENAME) => {
                self.column();
                let path = self.path()?;
                if !self.parser.parse_keyword(Keyword::TO) {
                    return self.unexpected("TO and the new name");
                }
                let to = self.parser.parse_identifier()?;
                let to = self.name(to);
                Alteration::Rename { path, to }
            }
            Some(Keyword::ALTER) => self.alter()?,
            Some(_) => return self.set(changes),
            None => return self.unexpected("ADD, DROP, RENAME, ALTER, MOVE, SET or UNSET"),
        };
        changes.push(change);
        Ok(())
    }

    /// A key or a check, if one comes next and no column.
    fn constraint(&mut self) -> Parsed<Option<Alteration>> {
        let named = match self.parser.peek_token().token {
            Token::Word(word) => word.keyword == Keyword::CONSTRAINT,
            _ => false,
        };
        let ahead = if named { 2 } else { 0 };
        let is = |at: usize, keyword: Keyword| match self.parser.peek_nth_token(at).token {
            Token::Word(word) => word.keyword == keyword && word.quote_style.is_none(),
            _ => false,
        };
        let is_primary = is(ahead, Keyword::PRIMARY) && is(ahead + 1, Keyword::KEY);
        let in_parentheses = self.parser.peek_nth_token(ahead + 1).token == Token::LParen;
        let is_unique = is(ahead, Keyword::UNIQUE) && in_parentheses;
        let is_check = is(ahead, Keyword::CHECK) && in_parentheses;
        if !is_primary && !is_unique && !is_check {
            return Ok(None);
        }
        let mut name = None;
        if named {
            self.parser.next_token();
            let ident = self.parser.parse_identifier()?;
            name = Some(self.name(ident));
        }
        for _ in 0..(1 + usize::from(is_primary)) {
            self.parser.next_token();
        }
        if !self.parser.consume_token(&Token::LParen) {
            return self.unexpected("( and the key's columns");
        }
        if is_check {
            let condition = self.parser.parse_expr()?;
            self.parser.expect_token(&Token::RParen)?;
            return Ok(Some(Alteration::AddCheck { name, condition }));
        }
        let mut columns = Vec::new();
        loop {
            let column = self.parser.parse_identifier()?;
            columns.push(self.name(column));
            if self.closed()? {
                break;
            }
        }
        Ok(Some(Alteration::AddKey {
            name,
            is_primary,
            columns,
        }))
    }

    fn add(&mut self) -> Parsed<Alteration> {
        self.column();
        let if_not_exists =
            self.parser
                .parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
        let path = self.path()?;
        let data_type = ColumnType::Sql(self.parser.parse_data_type()?);
        let (mut nullable, mut default, mut position) = (true, None, None);
        loop {
            if self.parser.parse_keywords(&[Keyword::NOT, Keyword::NULL]) {
                nullable = false;
            } else if self.parser.parse_keyword(Keyword::NULL) {
                nullable = true;
            } else if self.parser.parse_keyword(Keyword::DEFAULT) {
                default = Some(self.parser.parse_expr()?);
            } else if let Some(place) = self.place()? {
                position = Some(place);
            } else {
                break;
            }
        }
        Ok(Alteration::Add {
            path,
            data_type,
            nullable,
            default,
            position,
            if_not_exists,
        })
    }

    fn alter(&mut self) -> Parsed<Alteration> {
        self.column();
        let path = self.path()?;
        let parser = &mut self.parser;
        if parser.parse_keywords(&[Keyword::SET, Keyword::DATA, Keyword::TYPE])
            || parser.parse_keyword(Keyword::TYPE)
        {
            let data_type = ColumnType::Sql(parser.parse_data_type()?);
            return Ok(Alteration::Type { path, data_type });
        }
        if parser.parse_keywords(&[Keyword::DROP, Keyword::NOT, Keyword::NULL]) {
            return Ok(Alteration::DropNotNull { path });
        }
        if parser.parse_keywords(&[Keyword::DROP, Keyword::DEFAULT]) {
            let default = None;
            return Ok(Alteration::Default { path, default });
        }
        if parser.parse_keywords(&[Keyword::SET, Keyword::DEFAULT]) {
            let default = Some(parser.parse_expr()?);
            return Ok(Alteration::Default { path, default });
        }
        if parser.parse_keywords(&[Keyword::SET, Keyword::NOT, Keyword::NULL]) {
            return Ok(Alteration::SetNotNull { path });
        }
        self.unexpected("TYPE, SET NOT NULL, DROP NOT NULL, SET DEFAULT or DROP DEFAULT")
    }

    fn set(&mut self, changes: &mut Vec<Alteration>) -> Parsed<()> {
        self.word("TBLPROPERTIES");
        self.open()?;
        loop {
            let key = self.text()?;
            if !self.parser.consume_token(&Token::Eq) {
                return self.unexpected("= and a value in quotes");
            }
            let value = Some(self.text()?);
            changes.push(Alteration::Property { key, value });
            if self.closed()? {
                return Ok(());
            }
        }
    }

    fn unset(&mut self, changes: &mut Vec<Alteration>) -> Parsed<()> {
        self.word("TBLPROPERTIES");
        self.open()?;
        loop {
            let key = self.text()?;
            changes.push(Alteration::Property { key, value: None });
            if self.closed()? {
                return Ok(());
            }
        }
    }

    fn open(&mut self) -> Parsed<()> {
        match self.parser.consume_token(&Token::LParen) {
            true => Ok(()),
            false => self.unexpected("( and table properties"),
        }
    }

    /// Whether a list ends here, rather than goes on.
    fn closed(&mut self) -> Parsed<bool> {
        if self.parser.consume_token(&Token::Comma) {
            return Ok(false);
        }
        match self.parser.consume_token(&Token::RParen) {
            true => Ok(true),
            false => self.unexpected("a comma or )"),
        }
    }

    fn text(&mut self) -> Parsed<String> {
        let token = self.parser.next_token();
        match token.token {
            Token::SingleQuotedString(text) => Ok(text),
            _ => self.parser.expected("text in quotes", token),
        }
    }

    fn place(&mut self) -> Parsed<Option<Position>> {
        if self.parser.parse_keyword(Keyword::FIRST) {
            return Ok(Some(Position::First));
        }
        if self.parser.parse_keyword(Keyword::AFTER) {
            let name = self.parser.parse_identifier()?;
            return Ok(Some(Position::After(self.name(name))));
        }
        Ok(None)
    }

    fn column(&mut self) {
        let _ = self.parser.parse_keyword(Keyword::COLUMN);
    }

    fn path(&mut self) -> Parsed<ColumnPath> {
        let mut names = Vec::new();
        loop {
            let name = self.parser.parse_identifier()?;
            names.push(self.name(name));
            if !self.parser.consume_token(&Token::Period) {
                return Ok(ColumnPath(names));
            }
        }
    }

    fn name(&self, name: Ident) -> String {
        match name.quote_style {
            None if self.normalize => name.value.to_ascii_lowercase(),
            _ => name.value,
        }
    }

    /// Whether the next token is this word; takes it then.
    fn word(&mut self, wanted: &str) -> bool {
        let token = self.parser.peek_token();
        let found = matches!(&token.token, Token::Word(word)
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted));
        if found {
            self.parser.next_token();
        }
        found
    }

    fn unexpected<T>(&mut self, wanted: &str) -> Parsed<T> {
        let found = self.parser.next_token();
        self.parser.expected(wanted, found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use datafusion::sql::sqlparser::dialect::GenericDialect;

    use super::*;

    fn parsed(text: &str) -> Vec<Alteration> {
        match parse(text, &GenericDialect {}, true).unwrap() {
            Alter::Changes(changes) => changes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_name_for_the_table_is_no_name_for_a_column() {
        let parsed = |text| parse(text, &GenericDialect {}, true).unwrap();
        let names =
            |names: &[&str]| Alter::RenameTo(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(parsed("RENAME TO U;"), names(&["u"]));
        assert_eq!(
            parsed("rename to Lake.public.\"A b\""),
            names(&["lake", "public", "A b"])
        );
        let column = |text| matches!(parsed(text), Alter::Changes(changes) if changes.len() == 1);
        assert!(column("RENAME COLUMN to TO x") && column("RENAME \"to\" TO x"));
    }

    fn path(names: &[&str]) -> ColumnPath {
        ColumnPath(names.iter().map(|n| (*n).to_owned()).collect())
    }

    #[test]
    fn every_kind_of_change_is_understood() {
        let changes = parsed(
            "ADD COLUMN IF NOT EXISTS s.X DECIMAL(10, 2) NOT NULL DEFAULT 1 + 1 AFTER \"Y\", \
             add z struct<a int>, DROP COLUMN IF EXISTS a, DROP b, RENAME COLUMN a TO \"B\", \
             ALTER a TYPE BIGINT, ALTER COLUMN a SET DATA TYPE DOUBLE, ALTER a DROP NOT NULL, \
             ALTER a SET DEFAULT 'x', ALTER a DROP DEFAULT, MOVE COLUMN a FIRST, MOVE a AFTER b, \
             SET TBLPROPERTIES ('k' = 'v', 'l' = 'w'), SET ('m' = 'x'), UNSET ('k'), \
             ALTER a SET NOT NULL, ADD PRIMARY KEY (a, \"B\"), ADD CONSTRAINT C UNIQUE (a), ADD UNIQUE (b), \
             ADD constraint INT, ADD unique INT, DROP CONSTRAINT IF EXISTS C, DROP PRIMARY KEY, DROP constraint;",
        );
        assert_eq!(changes.len(), 25);
        let key = |name: Option<&str>, is_primary, columns: &[&str]| Alteration::AddKey {
            name: name.map(str::to_owned),
            is_primary,
            columns: columns.iter().map(|c| (*c).to_owned()).collect(),
        };
        assert_eq!(changes[17], key(None, true, &["a", "B"]));
        assert_eq!(changes[18], key(Some("c"), false, &["a"]));
        assert_eq!(changes[19], key(None, false, &["b"]));
        assert!(
            matches!(&changes[20], Alteration::Add { path: p, .. } if *p == path(&["constraint"]))
        );
        assert!(matches!(&changes[21], Alteration::Add { path: p, .. } if *p == path(&["unique"])));
        let dropped = |name: Option<&str>, if_exists| Alteration::DropConstraint {
            name: name.map(str::to_owned),
            if_exists,
        };
        assert_eq!(changes[22], dropped(Some("c"), true));
        assert_eq!(changes[23], dropped(None, false));
        assert!(
            matches!(&changes[24], Alteration::Drop { path: p, .. } if *p == path(&["constraint"]))
        );
        assert!(matches!(
            &changes[0],
            Alteration::Add { path: p, nullable: false, default: Some(_), if_not_exists: true,
                position: Some(Position::After(y)), .. } if *p == path(&["s", "x"]) && y == "Y"
        ));
        assert_eq!(
            changes[2],
            Alteration::Drop {
                path: path(&["a"]),
                if_exists: true
            }
        );
        assert_eq!(
            changes[4],
            Alteration::Rename {
                path: path(&["a"]),
                to: "B".to_owned()
            }
        );
        assert_eq!(
            changes[15],
            Alteration::Property {
                key: "k".to_owned(),
                value: None
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        for text in [
            "",
            "ADD",
            "ADD x",
            "ADD x INT INT",
            "DROP a b",
            "RENAME a b",
            "ALTER a",
            "ADD PRIMARY KEY",
            "ADD PRIMARY KEY ()",
            "ADD UNIQUE (a b)",
            "DROP CONSTRAINT IF EXISTS",
            "MOVE a",
            "MOVE a BEFORE b",
            "SET ('k')",
            "SET ('k' = 'v'",
            "DROP a, ",
            "DROP a; DROP b",
            "RENAME TO",
            "RENAME TO u, DROP b",
            "RENAME TO u v",
            "DROP b, RENAME TO u",
            "ADD COLUMN a INT 'unclosed",
        ] {
            assert!(parse(text, &GenericDialect {}, true).is_err(), "{text}");
        }
    }
}
