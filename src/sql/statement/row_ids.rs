//! Row ids as literals: `_id(id) = 33127952630095272843148758351873`.
//!
//! DataFusion makes a number of more than 20 digits a `Float64`, which holds the first 16 of them: every row of a
//! superfile would have the same id. The digits are known only in the text, so such a literal is put there as what it
//! says, a decimal number, where it is compared with a row id: by an operator, `IN` or `BETWEEN`. Every other literal keeps
//! the meaning that DataFusion gives it.
//!
//! Owns that replacement, among the tokens. Does not own the refusal of what is compared all the same with a number
//! that is not exact (`dml::row_id`): text that comes to DataFusion directly never passes here.

use std::borrow::Cow;

use datafusion::config::SqlParserOptions;
use datafusion::sql::sqlparser::dialect::dialect_from_str;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::read::{is, offset_of};
use crate::scan::EXPOSED_ROW_ID;

/// Another name of the function `_id`.
const ALIAS: &str = "supertable_row_id";

/// The digits that a row id has at most.
const MOST_DIGITS: usize = 38;

/// `text` with the literals that are compared with row ids as decimal numbers.
pub(crate) fn with_exact_row_ids<'t>(text: &'t str, options: &SqlParserOptions) -> Cow<'t, str> {
    let unchanged = Cow::Borrowed(text);
    if !text.to_ascii_lowercase().contains(EXPOSED_ROW_ID) {
        return unchanged;
    }
    let Some(dialect) = dialect_from_str(options.dialect) else {
        return unchanged;
    };
    let Ok(mut tokens) = Tokenizer::new(dialect.as_ref(), text).tokenize_with_location() else {
        return unchanged;
    };
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let mut places: Vec<usize> = (0..tokens.len())
        .flat_map(|at| Tokens(&tokens).literals_of(at))
        .collect();
    places.sort_unstable();
    places.dedup();
    let mut out = String::with_capacity(text.len() + 64);
    let mut done = 0;
    for place in places {
        let Some(TokenWithSpan {
            token: Token::Number(digits, _),
            span,
        }) = tokens.get(place)
        else {
            continue;
        };
        let part = offset_of(text, span.start).and_then(|from| {
            let before = text.get(done..from)?;
            let there = text.get(from..from + digits.len())?;
            (there == digits).then_some((before, from + digits.len()))
        });
        let Some((before, end)) = part else {
            return unchanged;
        };
        out.push_str(before);
        out.push_str(&format!("CAST('{digits}' AS DECIMAL({MOST_DIGITS}, 0))"));
        done = end;
    }
    match text.get(done..) {
        Some(rest) if done > 0 => Cow::Owned(out + rest),
        _ => unchanged,
    }
}

/// Tokens without the white space.
struct Tokens<'a>(&'a [TokenWithSpan]);

impl Tokens<'_> {
    fn get(&self, at: usize) -> Option<&Token> {
        self.0.get(at).map(|token| &token.token)
    }

    fn is_at(&self, at: usize, keyword: Keyword) -> bool {
        self.get(at).is_some_and(|token| is(token, keyword))
    }

    /// The literals that the comparison whose last word or sign is at `at`, if there is one, compares with a row id.
    fn literals_of(&self, at: usize) -> Vec<usize> {
        let mut places = Vec::new();
        // Where the left side ends.
        let left = match self.get(at) {
            Some(
                Token::Eq
                | Token::DoubleEq
                | Token::Neq
                | Token::Lt
                | Token::LtEq
                | Token::Gt
                | Token::GtEq,
            ) => at.checked_sub(1),
            Some(token) if is(token, Keyword::FROM) => self.before_distinct(at),
            Some(token) if is(token, Keyword::IN) || is(token, Keyword::BETWEEN) => at
                .checked_sub(1)
                .and_then(|left| match self.is_at(left, Keyword::NOT) {
                    true => left.checked_sub(1),
                    false => Some(left),
                }),
            _ => None,
        };
        let Some(left) = left else {
            return places;
        };
        if self.is_long(left) && self.row_id_from(at + 1).is_some() {
            places.push(left);
        }
        if !self.row_id_ends(left) {
            return places;
        }
        if self.is_at(at, Keyword::IN) {
            places.extend(self.in_list(at + 1));
        } else {
            places.extend(self.literal_from(at + 1));
            if self.is_at(at, Keyword::BETWEEN) {
                places.extend(
                    self.upper_bound(at + 1)
                        .and_then(|and| self.literal_from(and)),
                );
            }
        }
        places
    }

    /// Where the left side of `… IS [NOT] DISTINCT FROM` ends, whose last word is at `from`.
    fn before_distinct(&self, from: usize) -> Option<usize> {
        let mut at = from.checked_sub(1)?;
        if !self.is_at(at, Keyword::DISTINCT) {
            return None;
        }
        at = at.checked_sub(1)?;
        if self.is_at(at, Keyword::NOT) {
            at = at.checked_sub(1)?;
        }
        self.is_at(at, Keyword::IS).then(|| at.checked_sub(1))?
    }

    /// A long literal that stands at `at`, also in parentheses.
    fn literal_from(&self, mut at: usize) -> Option<usize> {
        while self.get(at) == Some(&Token::LParen) {
            at += 1;
        }
        self.is_long(at).then_some(at)
    }

    /// The long literals of a list in parentheses that begins at `open`.
    fn in_list(&self, open: usize) -> Vec<usize> {
        let Some(close) = self.closing(open) else {
            return Vec::new();
        };
        let is_between = |at: usize| {
            let opens = matches!(self.get(at - 1), Some(Token::LParen | Token::Comma));
            opens && matches!(self.get(at + 1), Some(Token::RParen | Token::Comma))
        };
        (open + 1..close)
            .filter(|at| self.is_long(*at) && is_between(*at))
            .collect()
    }

    /// What follows the `AND` of a `BETWEEN` whose bounds begin at `from`.
    fn upper_bound(&self, from: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in from..self.0.len() {
            match self.get(at)? {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.checked_sub(1)?,
                token if depth == 0 && is(token, Keyword::AND) => return Some(at + 1),
                _ => {}
            }
        }
        None
    }

    /// Whether this is an integer that DataFusion cannot hold exactly, and a decimal number can.
    fn is_long(&self, at: usize) -> bool {
        match self.get(at) {
            Some(Token::Number(digits, false)) => {
                digits.bytes().all(|b| b.is_ascii_digit())
                    && digits.len() <= MOST_DIGITS
                    && digits.parse::<u64>().is_err()
            }
            _ => false,
        }
    }

    /// Whether the word is the name of a row id's column or function.
    fn is_name(&self, at: usize) -> bool {
        match self.get(at) {
            Some(Token::Word(word)) if word.quote_style.is_some() => word.value == EXPOSED_ROW_ID,
            Some(Token::Word(word)) => {
                word.value.eq_ignore_ascii_case(EXPOSED_ROW_ID)
                    || word.value.eq_ignore_ascii_case(ALIAS)
            }
            _ => false,
        }
    }

    /// Whether an operand that ends at `at` is a row id.
    fn row_id_ends(&self, at: usize) -> bool {
        if self.is_name(at) {
            return true;
        }
        let Some(open) = self.opening(at) else {
            return false;
        };
        let before = open.checked_sub(1);
        if before.is_some_and(|name| self.is_name(name)) {
            return true;
        }
        // Another function of a row id is none.
        let called = before.is_some_and(|name| match self.get(name) {
            Some(Token::Word(word)) => word.keyword == Keyword::NoKeyword,
            _ => false,
        });
        !called && self.row_id_from(open) == Some(at + 1)
    }

    /// Behind the operand that begins at `at`, if it is a row id.
    fn row_id_from(&self, mut at: usize) -> Option<usize> {
        if self.get(at) == Some(&Token::LParen) {
            let end = self.row_id_from(at + 1)?;
            return (self.get(end) == Some(&Token::RParen)).then_some(end + 1);
        }
        while matches!(self.get(at), Some(Token::Word(_)))
            && self.get(at + 1) == Some(&Token::Period)
        {
            at += 2;
        }
        if !self.is_name(at) {
            return None;
        }
        match self.get(at + 1) {
            Some(Token::LParen) => Some(self.closing(at + 1)? + 1),
            _ => Some(at + 1),
        }
    }

    /// The parenthesis that closes the one at `open`.
    fn closing(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in open..self.0.len() {
            match self.get(at)? {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return (at > open).then_some(at);
            }
        }
        None
    }

    /// The parenthesis that the one at `close` closes.
    fn opening(&self, close: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for at in (0..=close).rev() {
            match self.get(at)? {
                Token::RParen => depth += 1,
                Token::LParen => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                return (at < close).then_some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "33127952630095272843148758351873";
    const EXACT: &str = "CAST('33127952630095272843148758351873' AS DECIMAL(38, 0))";

    fn exact(text: &str) -> String {
        with_exact_row_ids(text, &SqlParserOptions::default()).into_owned()
    }

    #[test]
    fn a_literal_that_is_compared_with_a_row_id_keeps_its_digits() {
        for text in [
            "SELECT * FROM t WHERE _id(id) = #",
            "SELECT * FROM t WHERE _id(\"a b\"/*#*/)= # AND 'é' = v",
            "SELECT * FROM t AS x WHERE (x._id) <> (#)",
            "DELETE FROM t WHERE # <= supertable_row_id(t.id);",
            "UPDATE t SET v = 1 WHERE \"_id\" in (#, 7, #)",
            "UPDATE t SET v = 'a\n;' WHERE _ID not In (#)",
            "SELECT 'ü\n', _id(id) BETWEEN # AND # AND a",
            "SELECT _id NOT BETWEEN 1 AND # FROM t",
            "SELECT _id IS NOT DISTINCT FROM #, _id IS DISTINCT FROM (#)",
            "SELECT CASE WHEN # = a.b.\"_id\" THEN 1 END",
            "MERGE INTO t USING s ON _id(t.id) >= # WHEN MATCHED THEN DELETE",
            "DELETE FROM t USING s WHERE t._id < # RETURNING *",
        ] {
            let outside = |with: &str| {
                text.replace("/*#*/", "/**/")
                    .replace('#', with)
                    .replace("/**/", "/*#*/")
            };
            assert_eq!(exact(&outside(ID)), outside(EXACT), "{text}");
        }
    }

    #[test]
    fn every_other_literal_stays_as_it_is() {
        for text in [
            "SELECT # FROM t",
            "SELECT * FROM t WHERE v = # AND _id(id) = 5",
            "SELECT * FROM t WHERE _id(id) = v + #",
            "SELECT '_id = #'",
            "SELECT \"_ID\" = #, my_id = #, _ids IN (#)",
            "SELECT f(_id) = #",
            "SELECT _id = 1.5, _id = 18446744073709551615, _id IN (SELECT # FROM t)",
            "SELECT _id FROM # -- _id = #",
            "SELECT _id = '#'",
        ] {
            let text = text.replace('#', ID);
            assert_eq!(exact(&text), text);
        }
        // More digits than a decimal number has.
        let longer = format!("SELECT _id = 9{ID}{ID}");
        assert_eq!(exact(&longer), longer);
        assert_eq!(exact("SELECT (_id = 'open"), "SELECT (_id = 'open");
    }
}
