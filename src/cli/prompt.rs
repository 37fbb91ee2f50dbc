//! The interactive prompt.
//!
//! Owns reading lines, with datafusion-cli's history, completion and colours. Does not own running them: that is
//! what scripts have (`script`), so the prompt understands the same statements, `ALTER TABLE` among them, which
//! datafusion-cli's own prompt refuses to read.

use std::borrow::Cow;

use datafusion::config::{Dialect, SqlParserOptions};
use datafusion::sql::parser::DFParser;
use datafusion::sql::sqlparser::dialect::{GenericDialect, dialect_from_str};
use datafusion_cli::cli_context::CliSessionContext;
use datafusion_cli::helper::CliHelper;
use datafusion_cli::print_options::PrintOptions;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper, Result};

use super::context::CliContext;
use super::interrupts::{Interrupts, Stubborn};
use super::script::{self, Next};
use crate::sql::calls::with_calls;
use crate::sql::statement::with_stand_ins;

/// Where lines are remembered, as datafusion-cli does.
const HISTORY: &str = ".history";

/// Reads and runs statements until the end of input or `\q`. Ctrl-C ends a statement, not the session.
///
/// # Errors
/// The terminal cannot be read.
pub(super) async fn run(
    context: &CliContext,
    print: &mut PrintOptions,
    interrupts: &Interrupts,
) -> Result<()> {
    let mut editor = Editor::<Prompt, DefaultHistory>::new()?;
    let prompt = Prompt(
        CliHelper::new(&dialect(context), print.color),
        dialect(context),
    );
    editor.set_helper(Some(prompt));
    // There is none the first time.
    let _ = editor.load_history(HISTORY);
    loop {
        match editor.readline("> ") {
            Ok(line) => {
                editor.add_history_entry(line.trim_end())?;
                if let Next::Quit = run_line(context, &line, print, interrupts).await {
                    break;
                }
            }
            Err(ReadlineError::Interrupted) => {
                println!("^C");
                if let Some(prompt) = editor.helper() {
                    prompt.0.reset_hint();
                }
            }
            Err(ReadlineError::Eof) => {
                println!("\\q");
                break;
            }
            Err(error) => return Err(error),
        }
        // A statement may have changed it.
        if let Some(prompt) = editor.helper_mut() {
            prompt.1 = dialect(context);
            prompt.0.set_dialect(&prompt.1);
        }
    }
    editor.save_history(HISTORY)
}

async fn run_line(
    context: &CliContext,
    line: &str,
    print: &mut PrintOptions,
    interrupts: &Interrupts,
) -> Next {
    let done = async {
        match line.strip_prefix('\\') {
            Some(command) => script::run_command(context, command, print).await,
            None => {
                let failed = script::run_text(context, line.to_owned(), print).await;
                Ok(Next::Continue(failed))
            }
        }
    };
    match interrupts.unless_pressed(Stubborn::Told, done).await {
        Some(next) => next.unwrap_or_else(|error| {
            eprintln!("{error}");
            Next::Continue(1)
        }),
        None => {
            super::progress::clear();
            println!("^C");
            Next::Continue(1)
        }
    }
}

fn dialect(context: &CliContext) -> Dialect {
    let task = context.task_ctx();
    task.session_config().options().sql_parser.dialect
}

/// datafusion-cli's, but for what it takes for a statement.
struct Prompt(CliHelper, Dialect);

impl Validator for Prompt {
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        self.0.reset_hint();
        Ok(judge(context.input(), self.1))
    }
}

/// Whether the input is complete and can be read.
fn judge(input: &str, dialect: Dialect) -> ValidationResult {
    let input = input.trim_end();
    if input.starts_with('\\') {
        return ValidationResult::Valid(None);
    }
    let named = dialect;
    let dialect = dialect_from_str(named).unwrap_or_else(|| Box::new(GenericDialect {}));
    let complete = input.ends_with(';') && script::ends_a_statement(input, dialect.as_ref());
    if !complete {
        return ValidationResult::Incomplete;
    }
    let statements = with_calls(input, dialect.as_ref());
    let invalid = |error| ValidationResult::Invalid(Some(format!("  Invalid statement: {error}")));
    let options = SqlParserOptions {
        dialect: named,
        ..SqlParserOptions::default()
    };
    let statements = match with_stand_ins(&statements, &options) {
        Ok(Some((readable, _))) => readable,
        Ok(None) => statements,
        Err(error) => return invalid(error),
    };
    match DFParser::parse_sql_with_dialect(&statements, dialect.as_ref()) {
        Ok(statements) if statements.is_empty() => {
            ValidationResult::Invalid(Some("  You entered an empty statement".to_owned()))
        }
        Ok(_) => ValidationResult::Valid(None),
        Err(error) => invalid(error),
    }
}

impl Helper for Prompt {}

impl Completer for Prompt {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        context: &Context<'_>,
    ) -> Result<(usize, Vec<Pair>)> {
        self.0.complete(line, pos, context)
    }
}

impl Hinter for Prompt {
    type Hint = String;

    fn hint(&self, line: &str, pos: usize, context: &Context<'_>) -> Option<String> {
        self.0.hint(line, pos, context)
    }
}

impl Highlighter for Prompt {
    fn highlight<'l>(&self, line: &'l str, pos: usize) -> Cow<'l, str> {
        self.0.highlight(line, pos)
    }

    fn highlight_char(&self, line: &str, pos: usize, kind: CmdKind) -> bool {
        self.0.highlight_char(line, pos, kind)
    }

    fn highlight_hint<'h>(&self, hint: &'h str) -> Cow<'h, str> {
        self.0.highlight_hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_statement_is_run_and_one_that_cannot_be_read_is_corrected_first() {
        let judged = |input| judge(input, Dialect::Generic);
        for input in [
            "SELECT 1;",
            "SELECT 1; SELECT ';';  ",
            "\\d",
            "ALTER TABLE t ADD COLUMN a INT;",
            "ALTER TABLE t MOVE COLUMN a AFTER b, DROP COLUMN c;",
            "-- first\nSELECT 1;",
            "INSERT INTO t BY NAME SELECT 1 AS a RETURNING *;",
            "MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET *;",
        ] {
            assert!(
                matches!(judged(input), ValidationResult::Valid(_)),
                "{input}"
            );
        }
        for input in [
            "",
            "SELECT 1",
            "SELECT 'a;",
            "SELECT 1 -- a;",
            "ALTER TABLE t",
        ] {
            assert!(
                matches!(judged(input), ValidationResult::Incomplete),
                "{input}"
            );
        }
        for input in [";", "SELEC 1;", "SELECT 1 2 3;"] {
            assert!(
                matches!(judged(input), ValidationResult::Invalid(_)),
                "{input}"
            );
        }
    }
}
