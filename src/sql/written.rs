//! What the text of a statement says, and the plan that DataFusion makes of it does not say any more.
//!
//! Owns the names that an `UPDATE` sets, the declarations that DataFusion reads and forgets, and the
//! versions of tables that a statement would change. [`sql`](crate::sql()) and the command line pass every
//! text through here. A plan made by `SessionContext::sql` is only seen later: there an `UPDATE` whose names
//! could mean another column is refused (see `dml::analyzer`), and what was forgotten cannot be told.
//!
//! One rule for names, DataFusion's own: a name that is not quoted becomes lower case, unless the session
//! says otherwise (`datafusion.sql_parser.enable_ident_normalization`). DataFusion's `UPDATE` takes the names
//! behind `SET` as they are written; here they are written as they are meant.
//!
//! Invariant: text that needs no change comes back as it was, byte for byte, and so does text that cannot be
//! parsed, which DataFusion then refuses.

use std::collections::VecDeque;

use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::common::config::ConfigOptions;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::{CreateExternalTable, DFParserBuilder, ExplainStatement, Statement};
use datafusion::sql::planner::object_name_to_table_reference;
use datafusion::sql::sqlparser::ast::{
    Assignment, AssignmentTarget, ColumnDef, ColumnOption, FromTable, Ident, ObjectName,
    Statement as SqlStatement, TableFactor, TableObject, TableWithJoins, Update,
};
use datafusion::sql::sqlparser::tokenizer::Location;

use crate::dml::SupertableProvider;
use crate::error::{Error, ErrorKind, Result};
use crate::sql::calls::with_calls;
use crate::sql::dialect::dialect_of;
use crate::sql::open_tables::OpenTables;
use crate::sql::statement::creations;
use crate::sql::version_name::table_and_version;
use crate::sql::zones::is_zoned;

/// A text, and how it is to be planned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Understood {
    pub(crate) text: String,
    /// Whether it declares columns with a time zone: then it is planned [`with_zone`](crate::sql::zones::with_zone).
    pub(crate) zoned: bool,
}

/// `text`, one or more statements, as DataFusion has to read them to do what they say.
///
/// # Errors
/// A statement asks for what would be accepted and not done, and says which.
pub(crate) async fn understood(
    ctx: &SessionContext,
    text: &str,
) -> datafusion::common::Result<Understood> {
    let config = ctx.copied_config();
    let (text, statements) = parsed(config.options(), text)?;
    let catalogs = config.get_extension::<OpenTables>();
    let reading = Reading {
        options: config.options(),
        catalogs: catalogs.as_deref(),
    };
    let mut found = WrittenNames::default();
    let Some(statements) = statements else {
        for statement in creations(&text, &config.options().sql_parser) {
            reading.statement(&statement, &mut found)?;
        }
        let zoned = found.zoned;
        return Ok(Understood { text, zoned });
    };
    for statement in &statements {
        reading.statement(statement, &mut found)?;
    }
    for (table, columns) in found.set {
        check_set(ctx, table, &columns).await?;
    }
    Ok(Understood {
        text: spelled(text, found.names),
        zoned: found.zoned,
    })
}

/// `text` without `ALTER TABLE`, and its statements if it can be parsed.
fn parsed(
    options: &ConfigOptions,
    text: &str,
) -> datafusion::common::Result<(String, Option<VecDeque<Statement>>)> {
    let dialect = dialect_of(&options.sql_parser.dialect)?;
    let text = with_calls(text, dialect.as_ref());
    let parser = DFParserBuilder::new(text.as_str()).with_dialect(dialect.as_ref());
    let statements = parser
        .build()
        .and_then(|mut parser| parser.parse_statements());
    Ok((text, statements.ok()))
}

/// Makes sure that a supertable has the columns that an `UPDATE` sets. (A table that the text itself makes is not
/// there yet; DataFusion checks it.)
async fn check_set(ctx: &SessionContext, table: TableReference, columns: &[String]) -> Result<()> {
    let Ok(provider) = ctx.table_provider(table.clone()).await else {
        return Ok(());
    };
    let Some(provider) = provider.downcast_ref::<SupertableProvider>() else {
        return Ok(());
    };
    let schema = provider.schema();
    let Some(missing) = columns.iter().find(|c| schema.index_of(c).is_err()) else {
        return Ok(());
    };
    let names = || schema.fields().iter().map(|field| field.name());
    let instead = match names().find(|name| name.eq_ignore_ascii_case(missing)) {
        Some(name) => format!("to set {name}, write it in quotes: \"{name}\""),
        None => {
            let all: Vec<String> = names().map(|name| format!("\"{name}\"")).collect();
            format!("it has {}", all.join(", "))
        }
    };
    Err(Error::new(
        ErrorKind::InvalidArgument,
        format!("UPDATE {table}"),
        format!("the table has no column {missing}; {instead}"),
    ))
}

/// What was found in the statements of a text.
#[derive(Default)]
struct WrittenNames {
    names: Vec<Name>,
    /// The columns that are set, by table.
    set: Vec<(TableReference, Vec<String>)>,
    /// Whether a column of a new table has a time zone.
    zoned: bool,
}

/// A name that is to be replaced: from where to where it stands, and what it is.
struct Name {
    start: Location,
    end: Location,
    meant: String,
}

/// A session that reads statements.
struct Reading<'a> {
    options: &'a ConfigOptions,
    catalogs: Option<&'a OpenTables>,
}

impl Reading<'_> {
    fn statement(&self, statement: &Statement, found: &mut WrittenNames) -> Result<()> {
        match statement {
            Statement::Statement(statement) => self.sql(statement, found),
            Statement::CreateExternalTable(create) => self.create_external(create, found),
            Statement::Explain(ExplainStatement { statement, .. }) => {
                self.statement(statement, found)
            }
            _ => Ok(()),
        }
    }

    fn sql(&self, statement: &SqlStatement, found: &mut WrittenNames) -> Result<()> {
        match statement {
            SqlStatement::Explain { statement, .. } | SqlStatement::Prepare { statement, .. } => {
                self.sql(statement, found)
            }
            SqlStatement::Update(update) => {
                if let Some(name) = relation(&update.table.relation) {
                    self.refuse_version("UPDATE", name)?;
                }
                self.assignments(update, found)
            }
            SqlStatement::Delete(delete) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) =
                    &delete.from;
                for TableWithJoins {
                    relation: table, ..
                } in from
                {
                    if let Some(name) = relation(table) {
                        self.refuse_version("DELETE", name)?;
                    }
                }
                Ok(())
            }
            SqlStatement::Merge(merge) => match relation(&merge.table) {
                Some(name) => self.refuse_version("MERGE", name),
                None => Ok(()),
            },
            SqlStatement::Insert(insert) => match &insert.table {
                TableObject::TableName(name) => self.refuse_version("INSERT", name),
                _ => Ok(()),
            },
            SqlStatement::CreateTable(create) if self.is_own(&create.name) => {
                self.check_columns(&create.columns, found)
            }
            _ => Ok(()),
        }
    }

    fn create_external(
        &self,
        create: &CreateExternalTable,
        found: &mut WrittenNames,
    ) -> Result<()> {
        match create.file_type.eq_ignore_ascii_case("SUPERTABLE") {
            true => self.check_columns(&create.columns, found),
            false => Ok(()),
        }
    }

    /// Whether a table of this name is one of a catalog of supertables.
    fn is_own(&self, name: &ObjectName) -> bool {
        let defaults = &self.options.catalog;
        let Some(name) = self.table(name) else {
            return false;
        };
        let name = name.resolve(&defaults.default_catalog, &defaults.default_schema);
        self.catalogs
            .is_some_and(|catalogs| catalogs.catalog(&name.catalog).is_some())
    }

    fn table(&self, name: &ObjectName) -> Option<TableReference> {
        let normalize = self.options.sql_parser.enable_ident_normalization;
        object_name_to_table_reference(name.clone(), normalize).ok()
    }

    /// Refuses what DataFusion reads in the declaration of a column, and does not keep.
    fn check_columns(&self, columns: &[ColumnDef], found: &mut WrittenNames) -> Result<()> {
        found.zoned |= columns.iter().any(|column| is_zoned(&column.data_type));
        for column in columns {
            for option in &column.options {
                let Some((what, instead)) = forgotten(&option.option) else {
                    continue;
                };
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("{what} of the column {}", column.name.value),
                    format!("a supertable does not have it; {instead}"),
                ));
            }
        }
        Ok(())
    }

    /// An earlier version of a table can be read, and nothing else.
    fn refuse_version(&self, statement: &str, name: &ObjectName) -> Result<()> {
        let Some(table) = self.table(name) else {
            return Ok(());
        };
        let Some((current, version)) = table_and_version(table.table()) else {
            return Ok(());
        };
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("{statement} of {table}"),
            format!(
                "version {version} of the table {current} cannot be changed, no version ever is; change \
                 {current} itself, or make that version the current one first with SELECT * FROM \
                 supertable_restore('{current}', {version})"
            ),
        ))
    }

    /// The names that an `UPDATE` sets.
    fn assignments(&self, update: &Update, found: &mut WrittenNames) -> Result<()> {
        let mut set: Vec<String> = Vec::with_capacity(update.assignments.len());
        for Assignment { target, .. } in &update.assignments {
            let AssignmentTarget::ColumnName(target) = target else {
                continue;
            };
            let Some((column, qualifiers)) = parts(target) else {
                continue;
            };
            self.check_qualifiers(update, target, &qualifiers)?;
            let meant = self.normalized(column);
            if set.contains(&meant) {
                return Err(Error::new(
                    ErrorKind::InvalidArgument,
                    format!("UPDATE {}", update.table),
                    format!("sets the column {meant} twice; say once what it becomes"),
                ));
            }
            if meant != column.value {
                found.names.push(Name {
                    start: column.span.start,
                    end: column.span.end,
                    meant: meant.clone(),
                });
            }
            set.push(meant);
        }
        if let Some(table) = relation(&update.table.relation).and_then(|name| self.table(name)) {
            found.set.push((table, set));
        }
        Ok(())
    }

    /// What stands before a column's name must be the table: DataFusion takes the last part for the column
    /// whatever the others are.
    fn check_qualifiers(
        &self,
        update: &Update,
        target: &ObjectName,
        qualifiers: &[&Ident],
    ) -> Result<()> {
        let (TableFactor::Table { name, alias, .. }, [_, ..]) =
            (&update.table.relation, qualifiers)
        else {
            return Ok(());
        };
        let of_table: Vec<String> = match alias {
            Some(alias) => vec![self.normalized(&alias.name)],
            None => name
                .0
                .iter()
                .filter_map(|part| part.as_ident())
                .map(|part| self.normalized(part))
                .collect(),
        };
        let written: Vec<String> = qualifiers.iter().map(|q| self.normalized(q)).collect();
        // The end of `catalog.schema.table`, or all of it where the statement names less.
        if of_table.ends_with(&written) || written.ends_with(&of_table) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("SET {target}"),
            format!(
                "{} is not the table; a field of a struct is not set by itself: set the whole column \
                 to a struct with the other fields as they are",
                written.join(".")
            ),
        ))
    }

    fn normalized(&self, name: &Ident) -> String {
        match name.quote_style {
            None if self.options.sql_parser.enable_ident_normalization => {
                name.value.to_ascii_lowercase()
            }
            _ => name.value.clone(),
        }
    }
}

/// What an option of a column is called, and what to do instead, if a supertable cannot have it and DataFusion does
/// not say so.
fn forgotten(option: &ColumnOption) -> Option<(String, &'static str)> {
    let values = "give the values in INSERT and UPDATE, or declare a DEFAULT";
    Some(match option {
        ColumnOption::Null | ColumnOption::NotNull | ColumnOption::Default(_) => return None,
        // Refused from the plan, where these are.
        ColumnOption::PrimaryKey(_)
        | ColumnOption::Unique(_)
        | ColumnOption::ForeignKey(_)
        | ColumnOption::Check(_) => return None,
        ColumnOption::Generated { .. }
        | ColumnOption::Materialized(_)
        | ColumnOption::Ephemeral(_)
        | ColumnOption::Alias(_) => ("GENERATED".to_owned(), values),
        ColumnOption::Identity(_) => (
            "IDENTITY".to_owned(),
            "use the row id, _id(column), or give the values",
        ),
        ColumnOption::DialectSpecific(tokens) => (
            tokens
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            "leave it out, and give the values in INSERT",
        ),
        ColumnOption::Comment(_) => (
            "COMMENT".to_owned(),
            "leave it out, and keep descriptions elsewhere",
        ),
        other => (other.to_string(), "leave it out"),
    })
}

fn relation(table: &TableFactor) -> Option<&ObjectName> {
    match table {
        TableFactor::Table { name, .. } => Some(name),
        _ => None,
    }
}

/// The last part of a name, and those before it.
fn parts(name: &ObjectName) -> Option<(&Ident, Vec<&Ident>)> {
    let mut parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    Some((parts.pop()?, parts))
}

/// `text` with `names` replaced.
fn spelled(text: String, names: Vec<Name>) -> String {
    if names.is_empty() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut names = names.into_iter().peekable();
    let mut at = Location { line: 1, column: 1 };
    for c in text.chars() {
        if let Some(name) = names.next_if(|name| name.end <= at) {
            out.push_str(&name.meant);
        }
        let inside = names.peek().is_some_and(|name| name.start <= at);
        if !inside {
            out.push(c);
        }
        at = match c {
            '\n' => Location {
                line: at.line + 1,
                column: 1,
            },
            _ => Location {
                line: at.line,
                column: at.column + 1,
            },
        };
    }
    // A name that ends the text.
    out.extend(names.map(|name| name.meant));
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn read(text: &str) -> datafusion::common::Result<String> {
        understand(text).await.map(|understood| understood.text)
    }

    async fn understand(text: &str) -> datafusion::common::Result<Understood> {
        let ctx = SessionContext::new();
        crate::register(&ctx).unwrap();
        understood(&ctx, text).await
    }

    #[tokio::test]
    async fn the_names_that_are_set_are_those_that_are_meant() {
        for (written, meant) in [
            ("UPDATE t SET V = 2", "UPDATE t SET v = 2"),
            (
                "SELECT 'ä';\nUPDATE T SET ÄB=V, \"V\" = 'É',\r\n T.W = 1 WHERE V = 'V'; -- V",
                "SELECT 'ä';\nUPDATE T SET Äb=V, \"V\" = 'É',\r\n T.w = 1 WHERE V = 'V'; -- V",
            ),
            ("EXPLAIN UPDATE t SET V = 2", "EXPLAIN UPDATE t SET v = 2"),
            (
                "PREPARE p AS UPDATE t AS X SET x.V = $1",
                "PREPARE p AS UPDATE t AS X SET x.v = $1",
            ),
        ] {
            assert_eq!(read(written).await.unwrap(), meant);
        }
    }

    #[tokio::test]
    async fn other_texts_stay_as_they_are() {
        for text in [
            "",
            "UPDATE t SET v = V",
            "UPDATE t SET \"V\" = 2",
            "UPDATE t SET V = ",
            "MERGE INTO t USING s ON A = B WHEN MATCHED THEN UPDATE SET V = 2",
            "SELECT 'UPDATE t SET V = 2'",
            "CREATE EXTERNAL TABLE t (a INT COMMENT 'x') STORED AS CSV LOCATION 'x'",
        ] {
            assert_eq!(read(text).await.unwrap(), text);
        }
    }

    #[tokio::test]
    async fn what_would_be_lost_is_refused() {
        let create = |column: &str| {
            format!("CREATE EXTERNAL TABLE t ({column}) STORED AS SUPERTABLE LOCATION 'x'")
        };
        for (text, part) in [
            ("UPDATE t SET a = 1, A = 2".to_owned(), "twice"),
            ("UPDATE t SET s.f = 1".to_owned(), "field of a struct"),
            ("UPDATE t AS x SET t.f = 1".to_owned(), "is not the table"),
            ("UPDATE \"t@v2\" SET f = 1".to_owned(), "supertable_restore"),
            ("DELETE FROM \"t@v2\"".to_owned(), "supertable_restore"),
            (
                "INSERT INTO \"t@v2\" VALUES (1)".to_owned(),
                "supertable_restore",
            ),
            (
                create("a INT GENERATED ALWAYS AS (b + 1) STORED"),
                "GENERATED",
            ),
            (create("a INT GENERATED ALWAYS AS IDENTITY"), "GENERATED"),
            (create("a INT IDENTITY"), "IDENTITY"),
            (create("a INT AUTO_INCREMENT"), "AUTO_INCREMENT"),
            (create("a INT COMMENT 'x'"), "COMMENT"),
        ] {
            let error = read(&text).await.unwrap_err();
            let own = Error::find_in(&error).unwrap();
            assert!(own.to_string().contains(part), "{text}: {own}");
        }
    }

    #[tokio::test]
    async fn columns_with_a_time_zone_are_seen_wherever_they_are_in_a_type() {
        for (column, zoned) in [
            ("a TIMESTAMP", false),
            ("a TIMESTAMP WITHOUT TIME ZONE", false),
            ("a TIMESTAMP WITH TIME ZONE", true),
            ("a TIMESTAMPTZ(3)", true),
            ("b INT, a ARRAY<STRUCT<b TIMESTAMPTZ>>", true),
        ] {
            let text =
                format!("CREATE EXTERNAL TABLE t ({column}) STORED AS SUPERTABLE LOCATION 'x'");
            assert_eq!(understand(&text).await.unwrap().zoned, zoned, "{text}");
        }
    }
}
