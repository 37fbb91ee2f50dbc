//! Carries out one invocation of `supertable`, from arguments to exit status.
//!
//! Owns the order of things: session, start-up files, statements, then waiting for the background
//! cleanup of every table that the session touched, so that a table at rest holds no WAL document.
//!
//! Exit status: 0 when every statement succeeded; 1 when one failed or nothing could be run; 130
//! after Ctrl-C. A statement cancelled by Ctrl-C is undone by that cleanup, or, if a second Ctrl-C
//! cuts it short, by whoever opens the table next.

use std::env;
use std::io::IsTerminal;
use std::process::ExitCode;

use datafusion::DATAFUSION_VERSION;
use datafusion::common::exec_datafusion_err;
use datafusion::error::Result;
use datafusion_cli::exec;
use tokio::signal;

use super::session::{self, CliSession};
use super::{Args, logs, progress, prompt, script};

/// The exit status of a process that Ctrl-C ended, by the shells' convention (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// Runs what `args` ask for and answers with the exit status.
pub async fn run(args: Args) -> ExitCode {
    logs::begin(if args.quiet { None } else { progress::line() });
    match prepare(&args).await {
        Ok(mut session) => {
            let outcome = statements(&args, &mut session).await;
            let interrupted = tokio::select! {
                () = crate::shutdown(&session.session) => false,
                _ = signal::ctrl_c() => true,
            };
            match outcome {
                _ if interrupted => ExitCode::from(INTERRUPTED),
                Ok(status) => status,
                Err(error) => failure(&error),
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

async fn statements(args: &Args, session: &mut CliSession) -> Result<ExitCode> {
    let at_prompt = args.reads_statements_from_stdin() && std::io::stdin().is_terminal();
    if at_prompt {
        // The prompt handles Ctrl-C itself: it cancels the statement, not the session.
        run_files(&startup_files(args), session).await?;
        return match prompt::run(&session.context, &mut session.print).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => Err(exec_datafusion_err!("the prompt failed: {error}")),
        };
    }
    let interrupted = signal::ctrl_c();
    tokio::select! {
        failed = batch(args, session) => Ok(match failed? {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }),
        _ = interrupted => {
            progress::clear();
            eprintln!("^C");
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Everything but the prompt; answers how many statements failed.
async fn batch(args: &Args, session: &mut CliSession) -> Result<usize> {
    if args.reads_statements_from_stdin() {
        let failed = run_files(&startup_files(args), session).await?;
        return Ok(failed + script::run_stdin(&session.context, &mut session.print).await?);
    }
    let failed = run_files(&args.file, session).await?;
    for command in &args.command {
        let command = session.context.readable(command)?;
        let print = session.context.shown(&session.print);
        let done = exec::exec_from_commands(&session.context, vec![command], &print).await;
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
