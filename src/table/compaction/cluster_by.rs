//! Along which curve, over which columns, rows are clustered: the words for it, and what they mean for a table.
//!
//! Owns the grammar `zorder(a, b)` and `hilbert(a, b)`, and the table property that holds it. Does not own the curve
//! ([`curve`](super::curve)), nor what a row's place on it is (`dml::cluster`).
//!
//! Invariant: what is printed is read as the same. A property that a table was given names columns that it has, and
//! that can be sorted by: `ALTER TABLE` renames them here too, and drops none of them.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::curve::Curve;
use crate::config::CLUSTER_BY;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{SortColumn, TableMetadata, field_id};
use crate::format::{ClusterKey, Layout};

/// Columns of a curve, at most: with more, none of them would be sorted to any use.
const MAX_COLUMNS: usize = 8;

/// By which columns rows are clustered, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterBy {
    /// The curve.
    pub curve: Curve,
    /// The columns.
    pub columns: Vec<String>,
}

impl ClusterBy {
    /// Reads `zorder(a, b)` or `hilbert(a, b)`. Names that are not quoted become lower case.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it is anything else.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_as(text, true)
    }

    /// The same as it is written in a session, whose rule for names that are not quoted is its own.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_as(text: &str, normalize: bool) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidArgument, text, why);
        let not_a_curve = || wrong("an order is zorder(column, …) or hilbert(column, …)");
        let mut parser = Parser::new(&GenericDialect {})
            .try_with_sql(text)
            .map_err(|_| not_a_curve())?;
        let Ok(Expr::Function(call)) = parser.parse_expr() else {
            return Err(not_a_curve());
        };
        let FunctionArguments::List(list) = &call.args else {
            return Err(not_a_curve());
        };
        let curve = match call.name.to_string().to_ascii_lowercase().as_str() {
            "zorder" => Curve::ZOrder,
            "hilbert" => Curve::Hilbert,
            _ => return Err(not_a_curve()),
        };
        let columns = list
            .args
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name))) => {
                    Ok(column_name(name, normalize))
                }
                _ => Err(not_a_curve()),
            })
            .collect::<Result<Vec<_>>>()?;
        // Nothing may follow, nor stand beside the columns.
        let plain = list.clauses.is_empty()
            && list.duplicate_treatment.is_none()
            && call.over.is_none()
            && call.filter.is_none()
            && parser.peek_token_ref().token == Token::EOF;
        if !plain {
            return Err(not_a_curve());
        }
        if columns.is_empty() || columns.len() > MAX_COLUMNS {
            return Err(wrong("a curve has one to eight columns"));
        }
        let named_once = |(at, name)| !columns.iter().take(at).any(|other| other == name);
        if !columns.iter().enumerate().all(named_once) {
            return Err(wrong("a column is named twice"));
        }
        Ok(Self { curve, columns })
    }

    /// The value of a table's property as it is kept, if this is the one that says what a table is clustered by:
    /// it means the same in every session, whatever rule for names the one has that it was written in.
    #[must_use]
    pub fn kept(key: &str, value: String, normalize: bool) -> String {
        // With the rule that all sessions read it by, it stays as it was written; so does what is no curve, which
        // is refused where the table's columns are known.
        if normalize || key != CLUSTER_BY {
            return value;
        }
        Self::parse_as(&value, false).map_or(value, |by| by.to_string())
    }

    /// What a table with these columns, this declared order and these properties is clustered along, if it says so.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if it cannot be: no curve, no such column, one that cannot be sorted by;
    /// [`ErrorKind::Unsupported`] if the table declares an order too.
    pub fn of_table(
        schema: &SchemaRef,
        sort_order: &[SortColumn],
        properties: &BTreeMap<String, String>,
    ) -> Result<Option<Self>> {
        let Some(text) = properties.get(CLUSTER_BY) else {
            return Ok(None);
        };
        let by = Self::parse(text)
            .and_then(|by| by.indices(schema).map(|_| by))
            .map_err(|e| {
                let why = format!("a table cannot be clustered by {text}");
                Error::new(e.kind(), CLUSTER_BY, why).with_source(e)
            })?;
        by.check_order(sort_order, CLUSTER_BY)?;
        Ok(Some(by))
    }

    /// Refuses a curve for the rows of a table that declares an order.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn check_order(&self, sort_order: &[SortColumn], what: &str) -> Result<()> {
        match sort_order.is_empty() {
            true => Ok(()),
            false => Err(Error::new(
                ErrorKind::Unsupported,
                what,
                "the table declares an order (WITH ORDER), which scans rely on: its rows cannot be in another one",
            )),
        }
    }

    /// Where the columns are in `schema`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if one is not there, or cannot be sorted by.
    pub fn indices(&self, schema: &SchemaRef) -> Result<Vec<usize>> {
        self.columns
            .iter()
            .map(|name| {
                let wrong = |why| Error::new(ErrorKind::InvalidArgument, name.as_str(), why);
                let index =
                    (schema.index_of(name)).map_err(|_| wrong("there is no such column"))?;
                let sortable = schema.fields().get(index).is_some_and(|field| {
                    RowConverter::supports_fields(&[SortField::new(field.data_type().clone())])
                });
                match sortable {
                    true => Ok(index),
                    false => Err(wrong("its values have no order")),
                }
            })
            .collect()
    }

    /// The key that superfiles of a table with these columns, as they are stored, have when they are so clustered.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] if a column is not there.
    pub fn key(&self, stored: &Schema) -> Result<ClusterKey> {
        let id_of = |name: &String| {
            let id = stored.field_with_name(name).ok().and_then(field_id);
            id.ok_or_else(|| {
                Error::new(
                    ErrorKind::InvalidArgument,
                    name.as_str(),
                    "there is no such column",
                )
            })
        };
        Ok(ClusterKey {
            layout: match self.curve {
                Curve::ZOrder => Layout::ZOrder,
                Curve::Hilbert => Layout::Hilbert,
            },
            columns: self.columns.iter().map(id_of).collect::<Result<_>>()?,
        })
    }

    /// Whether a table with these properties says that it is clustered by this column.
    pub fn mentions(properties: &BTreeMap<String, String>, column: &str) -> bool {
        Self::from_properties(properties)
            .is_some_and(|by| by.columns.iter().any(|name| name == column))
    }

    /// Gives a column its new name in a table's properties.
    pub fn rename(metadata: &mut TableMetadata, from: &str, to: &str) {
        let Some(mut by) = Self::from_properties(&metadata.properties) else {
            return;
        };
        let mut renamed = false;
        for column in by.columns.iter_mut().filter(|column| *column == from) {
            to.clone_into(column);
            renamed = true;
        }
        if renamed {
            let properties = &mut metadata.properties;
            properties.insert(CLUSTER_BY.to_owned(), by.to_string());
        }
    }

    fn from_properties(properties: &BTreeMap<String, String>) -> Option<Self> {
        properties.get(CLUSTER_BY)?.parse().ok()
    }
}

impl FromStr for ClusterBy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl fmt::Display for ClusterBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.columns.iter().map(|name| spelled(name)).collect();
        write!(f, "{}({})", self.curve.name(), names.join(", "))
    }
}

fn column_name(name: &Ident, normalize: bool) -> String {
    match name.quote_style {
        None if normalize => name.value.to_lowercase(),
        _ => name.value.clone(),
    }
}

/// A name as it is read as itself: with quotes where it needs them.
fn spelled(name: &str) -> String {
    let mut characters = name.chars();
    let plain = characters.next().is_some_and(|c| c.is_ascii_lowercase())
        && characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let read = || ClusterBy::parse(&format!("zorder({name})"));
    match plain && read().is_ok_and(|by| by.columns == [name]) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_curve_and_its_columns_are_read_or_refused() {
        let by = ClusterBy::parse("zorder(A, \"B c\")").unwrap();
        assert_eq!(by.curve, Curve::ZOrder);
        assert_eq!(by.columns, ["a", "B c"]);
        assert_eq!(
            ClusterBy::parse(" HILBERT (x)").unwrap().curve,
            Curve::Hilbert
        );
        for wrong in [
            "",
            "a",
            "a, b",
            "zorder",
            "zorder()",
            "zorder(a, a)",
            "zorder(a) b",
            "zorder(DISTINCT a)",
            "zorder(a ORDER BY b)",
            "zorder(a + 1)",
            "zorder(*)",
            "peano(a)",
            "zorder(a,b,c,d,e,f,g,h,i)",
            "zorder('a')",
        ] {
            let error = ClusterBy::parse(wrong).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong}");
        }
    }

    #[test]
    fn what_a_session_without_lower_case_names_wrote_means_the_same_everywhere() {
        let kept = |text: &str, normalize| ClusterBy::kept(CLUSTER_BY, text.to_owned(), normalize);
        assert_eq!(kept("ZORDER(A, b)", true), "ZORDER(A, b)");
        assert_eq!(kept("ZORDER(A, b)", false), "zorder(\"A\", b)");
        assert_eq!(kept("nothing", false), "nothing");
        assert_eq!(
            ClusterBy::kept("other", "zorder(A)".to_owned(), false),
            "zorder(A)"
        );
    }

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        let names = [
            "a",
            "b_2",
            "B",
            "order",
            "case",
            "null",
            "true",
            "with space",
            "qu\"ote",
            "1",
            "_",
            "ä",
            "",
        ];
        for name in names {
            let by = ClusterBy {
                curve: Curve::Hilbert,
                columns: vec![name.to_owned(), "z".to_owned()],
            };
            assert_eq!(by.to_string().parse::<ClusterBy>().unwrap(), by, "{by}");
        }
        let by = ClusterBy::parse("ZOrder( A , \"B\" )").unwrap();
        assert_eq!(by.to_string(), "zorder(a, \"B\")");
    }
}
