//! The `supertable` command: parses the arguments and hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use datafusion_supertable::cli::{self, Args};

// As datafusion-cli: queries allocate and free large buffers on many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: no threads can be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(cli::run(args));
    // A statement that was cancelled may compute on for minutes; the program does not wait for it.
    runtime.shutdown_background();
    status
}
