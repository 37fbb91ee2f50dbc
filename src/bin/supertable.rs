//! The `supertable` command: parses the arguments and hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use datafusion_supertable::cli::{self, Args};

// As datafusion-cli: queries allocate and free large buffers on many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    cli::run(Args::parse()).await
}
