//! The program: arguments, and an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ngsi_ferry::cli::main()
}
