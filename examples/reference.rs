//! Writes the manual pages and the shells' completions, for the packages:
//!
//!     cargo run --example reference -- FOLDER
//!
//! An example, so that nothing of it is in the gateway.

use std::fs::{File, create_dir_all};
use std::io::{Result, Write as _};
use std::path::{Path, PathBuf};

use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use ngsi_ferry::build;

const PROGRAM: &str = "ngsi-ferry";
/// What clap does not know.
const SECTIONS: &str = include_str!("reference/sections.roff");

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let pages = folder.join("man");
    create_dir_all(&pages)?;
    // Neither commit nor machine: the pages are the same everywhere.
    let command = ngsi_ferry::cli::command().version(build::VERSION);
    clap_mangen::generate_to(command.clone(), &pages)?;
    write_main_page(command.clone(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), PROGRAM, &folder)?;
    }
    Ok(())
}

fn write_main_page(command: clap::Command, pages: &Path) -> Result<()> {
    let mut page = File::create(pages.join(format!("{PROGRAM}.1")))?;
    let man = Man::new(command);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    man.render_subcommands_section(&mut page)?;
    page.write_all(SECTIONS.as_bytes())
}
