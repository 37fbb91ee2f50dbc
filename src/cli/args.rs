//! The command line: the flags of datafusion-cli 55.2, with the same names, defaults and meaning.
//!
//! Owns parsing and validating the arguments. Does not own what they configure.
//! Invariant: a parsed [`Args`] holds only values that can be used as they are (files that exist,
//! sizes that fit, a positive batch size), so later code has no argument errors to report.

use std::path::Path;

use clap::Parser;
use datafusion_cli::object_storage::instrumented::InstrumentedObjectStoreMode;
use datafusion_cli::object_storage::is_stdin_location;
use datafusion_cli::pool_type::PoolType;
use datafusion_cli::print_format::PrintFormat;
use datafusion_cli::print_options::MaxRows;

/// The arguments of `supertable`.
#[derive(Debug, Parser, PartialEq)]
#[command(name = "supertable", version, about, long_about = None, disable_help_subcommand = true)]
pub struct Args {
    /// Path to your data, default to current directory
    #[arg(short = 'p', long, value_parser = existing_directory)]
    pub data_path: Option<String>,

    /// The batch size of each query, or use DataFusion default
    #[arg(short = 'b', long, value_parser = batch_size)]
    pub batch_size: Option<usize>,

    /// Execute the given command string(s), then exit. Commands are expected to be non empty.
    #[arg(short = 'c', long, num_args = 0.., value_parser = non_empty)]
    pub command: Vec<String>,

    /// A location (path or URL) whose supertables are the default catalog: CREATE TABLE makes one there,
    /// DROP TABLE removes it, SHOW TABLES lists them. Schemas are directories, 'public' by default
    #[arg(value_name = "LOCATION", value_parser = non_empty_location)]
    pub location: Option<String>,

    /// The same
    #[arg(long, value_name = "LOCATION", value_parser = non_empty_location, conflicts_with = "location")]
    pub catalog: Option<String>,

    /// The memory pool limitation (e.g. '10g'), default to None (no limit)
    #[arg(short = 'm', long, value_parser = memory_limit)]
    pub memory_limit: Option<usize>,

    /// Execute commands from file(s), then exit
    #[arg(short = 'f', long, num_args = 0.., value_parser = existing_file)]
    pub file: Vec<String>,

    /// Run the provided files on startup instead of ~/.datafusionrc
    #[arg(short = 'r', long, num_args = 0.., value_parser = existing_file, conflicts_with = "file")]
    pub rc: Option<Vec<String>>,

    /// Output format
    #[arg(long, value_enum, default_value_t = PrintFormat::Automatic)]
    pub format: PrintFormat,

    /// Reduce printing other than the results and work quietly
    #[arg(short = 'q', long)]
    pub quiet: bool,

    /// Specify the memory pool type 'greedy' or 'fair'
    #[arg(long, default_value_t = PoolType::Greedy)]
    pub mem_pool_type: PoolType,

    /// The number of top memory consumers to display when query fails due to memory exhaustion. To
    /// disable memory consumer tracking, set this value to 0
    #[arg(long, default_value = "3")]
    pub top_memory_consumers: usize,

    /// The max number of rows to display for 'Table' format, default to 40 on a terminal and to no limit elsewhere;
    /// all rows are written in other formats
    /// [possible values: numbers(0/10/...), inf(no limit)]
    #[arg(long)]
    pub maxrows: Option<MaxRows>,

    /// Enables console syntax highlighting
    #[arg(long)]
    pub color: bool,

    /// Available disk space for spilling queries (e.g. '10g'), default to None (uses DataFusion's
    /// default value of '100g')
    #[arg(short = 'd', long, value_parser = disk_limit)]
    pub disk_limit: Option<u64>,

    /// Specify the default object_store_profiling mode, defaults to 'disabled'.
    /// [possible values: disabled, summary, trace]
    #[arg(long, default_value_t = InstrumentedObjectStoreMode::Disabled)]
    pub object_store_profiling: InstrumentedObjectStoreMode,

    /// Have workers execute parts of the statements: their addresses (as 'http://10.0.0.1:50051'), separated by commas
    #[cfg(feature = "distributed")]
    #[arg(long, value_name = "ADDRESSES", value_delimiter = ',')]
    pub workers: Vec<String>,

    /// What this process is, if not a session
    #[cfg(feature = "distributed")]
    #[command(subcommand)]
    pub role: Option<Role>,
}

/// What a process can be.
#[cfg(feature = "distributed")]
#[derive(Debug, clap::Subcommand, PartialEq)]
pub enum Role {
    /// Execute parts of the statements of sessions that were started with --workers. Object stores are configured by the
    /// environment, as for a session
    Worker {
        /// The address to listen at; port 0 takes a free one. Let nobody reach it who may not read the tables
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
        listen: std::net::SocketAddr,
    },
}

impl Args {
    /// Whether statements come from standard input, typed at a prompt or piped, because neither
    /// `-c` nor `-f` names any.
    pub fn reads_statements_from_stdin(&self) -> bool {
        self.command.is_empty() && self.file.is_empty()
    }

    /// Whether standard input is spoken for by statements, so that no table can be read from it.
    pub fn stdin_carries_statements(&self) -> bool {
        self.reads_statements_from_stdin() || self.file.iter().any(|f| is_stdin_location(f))
    }
}

fn existing_file(path: &str) -> Result<String, String> {
    // A pipe such as /dev/stdin or <(command) is readable without being a regular file.
    if Path::new(path).exists() && !Path::new(path).is_dir() {
        Ok(path.to_owned())
    } else {
        Err(format!("Invalid file '{path}'"))
    }
}

fn existing_directory(path: &str) -> Result<String, String> {
    if Path::new(path).is_dir() {
        Ok(path.to_owned())
    } else {
        Err(format!("Invalid data directory '{path}'"))
    }
}

fn batch_size(size: &str) -> Result<usize, String> {
    match size.parse::<usize>() {
        Ok(size) if size > 0 => Ok(size),
        _ => Err(format!("Invalid batch size '{size}'")),
    }
}

fn non_empty(command: &str) -> Result<String, String> {
    if command.is_empty() {
        Err("-c flag expects only non empty commands".to_owned())
    } else {
        Ok(command.to_owned())
    }
}

fn non_empty_location(location: &str) -> Result<String, String> {
    if location.trim().is_empty() {
        Err("--catalog expects a path or URL".to_owned())
    } else {
        Ok(location.to_owned())
    }
}

fn memory_limit(size: &str) -> Result<usize, String> {
    let bytes = byte_size(size, "memory pool size")?;
    usize::try_from(bytes).map_err(|_| format!("memory pool size '{size}' is too large"))
}

fn disk_limit(size: &str) -> Result<u64, String> {
    byte_size(size, "disk limit")
}

/// Bytes in `size`: digits, then an optional unit (`b`, `k`, `kb`, … `tb`; powers of 1024; any case).
fn byte_size(size: &str, label: &str) -> Result<u64, String> {
    let lower = size.to_lowercase();
    let unit_at = lower
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(lower.len());
    let (digits, unit) = lower.split_at(unit_at);
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        _ => return Err(format!("Invalid {label} '{size}'")),
    };
    if digits.is_empty() {
        return Err(format!("Invalid {label} '{size}'"));
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1_u64 << shift))
        .ok_or_else(|| format!("{label} '{size}' is too large"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units_in_any_case() {
        assert_eq!(byte_size("5", "x"), Ok(5));
        assert_eq!(byte_size("5b", "x"), Ok(5));
        assert_eq!(byte_size("4K", "x"), Ok(4 << 10));
        assert_eq!(byte_size("20mb", "x"), Ok(20 << 20));
        assert_eq!(byte_size("2g", "x"), Ok(2 << 30));
        assert_eq!(byte_size("4TB", "x"), Ok(4 << 40));
    }

    #[test]
    fn sizes_that_are_malformed_or_too_large_are_refused() {
        for bad in ["", "g", "-1", "1.5g", "12q", "12 g", "18446744073709551616"] {
            assert!(byte_size(bad, "x").is_err(), "{bad}");
        }
        assert!(byte_size("16777216t", "x").is_err());
    }

    #[test]
    fn the_definition_of_the_arguments_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn several_commands_can_follow_one_flag() {
        let args = Args::parse_from(["supertable", "-q", "-c", "SELECT 1", "SELECT 2"]);
        assert_eq!(args.command, ["SELECT 1", "SELECT 2"]);
        assert!(args.quiet && !args.reads_statements_from_stdin());
    }

    #[test]
    fn without_statements_standard_input_carries_them() {
        let args = Args::try_parse_from(["supertable"]).unwrap();
        assert!(args.reads_statements_from_stdin() && args.stdin_carries_statements());
    }
}
