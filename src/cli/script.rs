//! Runs statements from a file or a pipe, one after the other.
//!
//! Owns finding where a statement ends and counting the ones that failed. Does not own executing
//! and printing one: datafusion-cli does.
//!
//! Like datafusion-cli, a failed statement is reported and the next one runs. Unlike it, the
//! failures are counted, so that the exit status tells; a `;` at a line's end inside a string, a
//! quoted name or a comment ends nothing; and the prompt's `\` commands work here, too.

use std::fs::File;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::pin::Pin;

use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, dialect_from_str};
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use datafusion_cli::cli_context::CliSessionContext;
use datafusion_cli::command::{Command, OutputFormat};
use datafusion_cli::print_options::PrintOptions;
use tokio::sync::mpsc;

use super::context::CliContext;
use super::progress;

/// How many lines are read ahead of the statement that is running.
const LINES_AHEAD: usize = 1024;

/// Runs the statements of one file.
///
/// Answers how many of them failed; each failure has been printed on standard error.
///
/// # Errors
/// When the file cannot be opened or read as UTF-8 text.
pub(super) fn run_file<'a>(
    context: &'a CliContext,
    path: &'a str,
    print: &'a mut PrintOptions,
) -> Pin<Box<dyn Future<Output = Result<usize>> + 'a>> {
    // Boxed because a script can include another one.
    Box::pin(async move {
        let file = File::open(path)
            .map_err(|e| exec_datafusion_err!("the file {path} cannot be opened: {e}"))?;
        run_lines(context, BufReader::new(file), path, print).await
    })
}

/// Runs the statements that arrive on standard input, each as soon as it is complete.
///
/// # Errors
/// When standard input cannot be read as UTF-8 text.
pub(super) async fn run_stdin(context: &CliContext, print: &mut PrintOptions) -> Result<usize> {
    let stdin = BufReader::new(std::io::stdin());
    run_lines(context, stdin, "standard input", print).await
}

async fn run_lines(
    context: &CliContext,
    reader: impl BufRead + Send + 'static,
    name: &str,
    print: &mut PrintOptions,
) -> Result<usize> {
    let mut lines = read_in_background(reader);
    let mut failed = 0;
    let mut pending = String::new();
    while let Some(line) = lines.recv().await {
        let line = line.map_err(|e| exec_datafusion_err!("{name} cannot be read: {e}"))?;
        let line = line.trim_end();
        if pending.is_empty() {
            if line.is_empty() || line.starts_with("#!") {
                continue;
            }
            if let Some(command) = line.strip_prefix('\\') {
                match run_command(context, command, print).await {
                    Ok(Next::Continue(failures)) => failed += failures,
                    Ok(Next::Quit) => return Ok(failed),
                    Err(error) => {
                        eprintln!("{error}");
                        failed += 1;
                    }
                }
                continue;
            }
        }
        pending.push_str(line);
        pending.push('\n');
        if line.ends_with(';') && ends_a_statement(&pending, dialect(context).as_ref()) {
            failed += run_text(context, std::mem::take(&mut pending), print).await;
        }
    }
    if !pending.trim().is_empty() {
        failed += run_text(context, pending, print).await;
    }
    Ok(failed)
}

/// Runs the statements in `text`; 1 if one of them failed, which ends them.
pub(super) async fn run_text(context: &CliContext, text: String, print: &PrintOptions) -> usize {
    let done = context.run(&text, print).await;
    progress::clear();
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// What follows a `\` command.
pub(super) enum Next {
    /// The next line; so many statements of an included file failed.
    Continue(usize),
    /// Nothing: the script asked to stop.
    Quit,
}

pub(super) async fn run_command(
    context: &CliContext,
    command: &str,
    print: &mut PrintOptions,
) -> Result<Next> {
    let command = command.split_whitespace().collect::<Vec<_>>().join(" ");
    let unknown =
        || exec_datafusion_err!("'\\{command}' is not a valid command, see '\\?' for all of them");
    match command.parse::<Command>().map_err(|()| unknown())? {
        Command::Quit => return Ok(Next::Quit),
        // datafusion-cli's own \i does not report which statements failed.
        Command::Include(Some(path)) => {
            return Ok(Next::Continue(run_file(context, &path, print).await?));
        }
        Command::OutputFormat(Some(change)) => change
            .parse::<OutputFormat>()
            .map_err(|()| unknown())?
            .execute(print)?,
        Command::OutputFormat(None) => println!("Output format is {:?}.", print.format),
        other => {
            // It may change how results are printed, but not how many rows of them.
            let mut shown = context.shown(print);
            other.execute(context, &mut shown).await?;
            *print = shown;
        }
    }
    Ok(Next::Continue(0))
}

/// The dialect in force: a statement before may have changed it.
pub(super) fn dialect(context: &CliContext) -> Box<dyn Dialect> {
    let task = context.task_ctx();
    dialect_from_str(task.session_config().options().sql_parser.dialect)
        .unwrap_or_else(|| Box::new(GenericDialect {}))
}

/// Whether `text` ends with the `;` of a statement, not with one inside a string or a comment.
pub(super) fn ends_a_statement(text: &str, dialect: &dyn Dialect) -> bool {
    let Ok(tokens) = Tokenizer::new(dialect, text).tokenize() else {
        return false; // something is still open
    };
    tokens
        .iter()
        .rfind(|token| !matches!(token, Token::Whitespace(_)))
        .is_some_and(|token| *token == Token::SemiColon)
}

/// Reads on a thread of its own: a read of a pipe may block for ever, and must not keep Ctrl-C
/// from being noticed.
fn read_in_background(
    reader: impl BufRead + Send + 'static,
) -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    std::thread::spawn(move || {
        for line in reader.lines() {
            let stop = line.is_err();
            if sender.blocking_send(line).is_err() || stop {
                break;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> bool {
        ends_a_statement(text, &GenericDialect {})
    }

    #[test]
    fn a_semicolon_ends_a_statement() {
        assert!(complete("SELECT 1;\n"));
        assert!(complete("-- why\nSELECT 1;\n"));
        assert!(complete("SELECT 1; SELECT ';';\n"));
    }

    #[test]
    fn a_semicolon_in_a_string_a_name_or_a_comment_ends_nothing() {
        assert!(!complete("SELECT 'a;\n"));
        assert!(!complete("SELECT \"a;\n"));
        assert!(!complete("SELECT 1 -- a;\n"));
        assert!(!complete("SELECT 1 /* a;\n"));
        assert!(complete("SELECT 'a;\nb' /* ; */;\n"));
    }
}
