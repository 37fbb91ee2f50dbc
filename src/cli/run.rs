//! Carries out one invocation of `supertable`, from arguments to exit status.
//!
//! Owns the order of things: session, start-up files, statements, then waiting for the background
//! cleanup of every table that the session touched, so that a table at rest holds no WAL document.
//!
//! Exit status: 0 when every statement succeeded; 1 when one failed or nothing could be run; 130
//! after Ctrl-C (`interrupts`). A statement cancelled by Ctrl-C is undone by that cleanup, or, if that does not come
//! to its end, by the next process that opens the table.

use std::env;
use std::io::IsTerminal;
use std::process::ExitCode;

use datafusion::DATAFUSION_VERSION;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;

use super::interrupts::{INTERRUPTED, Interrupts, Stubborn};
use super::session::{self, CliSession};
#[cfg(feature = "distributed")]
use super::worker;
use super::{Args, logs, progress, prompt, script};

/// Runs what `args` ask for and answers with the exit status.
pub async fn run(args: Args) -> ExitCode {
    let interrupts = Interrupts::begin();
    logs::begin(if args.quiet { None } else { progress::line() });
    #[cfg(feature = "distributed")]
    if let Some(role) = &args.role {
        let worker = interrupts.unless_pressed(Stubborn::Left, worker::run(&args, role));
        return match worker.await {
            Some(Ok(())) => ExitCode::SUCCESS,
            Some(Err(error)) => failure(&error),
            None => ExitCode::from(INTERRUPTED),
        };
    }
    let prepared = interrupts.unless_pressed(Stubborn::Left, prepare(&args));
    let prepared = match prepared.await {
        Some(prepared) => prepared,
        None => return ExitCode::from(INTERRUPTED),
    };
    match prepared {
        Ok(mut session) => {
            let outcome = statements(&args, &mut session, &interrupts).await;
            let cleanup = crate::wait_for_background_work(&session.session);
            match outcome {
                // Still within the time that the Ctrl-C has left.
                Ok(None) => {
                    cleanup.await;
                    ExitCode::from(INTERRUPTED)
                }
                outcome => match interrupts.unless_pressed(Stubborn::Left, cleanup).await {
                    None => ExitCode::from(INTERRUPTED),
                    Some(()) => outcome.map_or_else(
                        |error| failure(&error),
                        |status| status.unwrap_or(ExitCode::from(INTERRUPTED)),
                    ),
                },
            }
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &impl std::fmt::Display) -> ExitCode {
    eprintln!("Error: {error}");
    ExitCode::FAILURE
}

async fn prepare(args: &Args) -> Result<CliSession> {
    if !args.quiet {
        println!(
            "supertable {} (DataFusion {DATAFUSION_VERSION})",
            env!("CARGO_PKG_VERSION")
        );
    }
    if let Some(path) = &args.data_path {
        env::set_current_dir(path)
            .map_err(|e| exec_datafusion_err!("cannot change to directory {path}: {e}"))?;
    }
    session::build(args).await
}

/// The exit status; none after a Ctrl-C that ends the process.
async fn statements(
    args: &Args,
    session: &mut CliSession,
    interrupts: &Interrupts,
) -> Result<Option<ExitCode>> {
    let at_prompt = args.reads_statements_from_stdin() && std::io::stdin().is_terminal();
    if at_prompt {
        let files = startup_files(args);
        let started = run_files(&files, session);
        match interrupts.unless_pressed(Stubborn::Left, started).await {
            Some(started) => started?,
            None => return Ok(report_interrupted()),
        };
        // The prompt handles Ctrl-C itself: it cancels the statement, not the session.
        return match prompt::run(&session.context, &mut session.print, interrupts).await {
            Ok(()) => Ok(Some(ExitCode::SUCCESS)),
            Err(error) => Err(exec_datafusion_err!("the prompt failed: {error}")),
        };
    }
    let done = batch(args, session);
    Ok(
        match interrupts.unless_pressed(Stubborn::Left, done).await {
            Some(failed) => Some(match failed? {
                0 => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            }),
            None => report_interrupted(),
        },
    )
}

fn report_interrupted() -> Option<ExitCode> {
    progress::clear();
    eprintln!("^C");
    None
}

/// Everything but the prompt; answers how many statements failed.
async fn batch(args: &Args, session: &mut CliSession) -> Result<usize> {
    if args.reads_statements_from_stdin() {
        let failed = run_files(&startup_files(args), session).await?;
        return Ok(failed + script::run_stdin(&session.context, &mut session.print).await?);
    }
    let failed = run_files(&args.file, session).await?;
    for command in &args.command {
        // One after the other: what one sets is in force when the next is read.
        let done = session.context.run(command, &session.print).await;
        progress::clear();
        done?;
    }
    Ok(failed)
}

async fn run_files(files: &[String], session: &mut CliSession) -> Result<usize> {
    let mut failed = 0;
    for file in files {
        failed += script::run_file(&session.context, file, &mut session.print).await?;
    }
    Ok(failed)
}

/// The files to run before a prompt: those of `--rc`, else `~/.datafusionrc` if there is one.
fn startup_files(args: &Args) -> Vec<String> {
    if let Some(files) = &args.rc {
        return files.clone();
    }
    env::home_dir()
        .map(|home| home.join(".datafusionrc"))
        .filter(|file| file.exists())
        .and_then(|file| file.into_os_string().into_string().ok())
        .into_iter()
        .collect()
}
