//! Writes the manual pages and the shells' completions, for the packages:
//!
//!     cargo run --example reference -- FOLDER
//!
//! An example, so that nothing of it is in the gateway.

use std::fs::{File, create_dir_all};
use std::io::{Result, Write as _};
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use ngsi_ferry::build;

const PROGRAM: &str = "ngsi-ferry";
const DESCRIPTION: &str = "\
A gateway beside a plant. It takes the notifications of a FIWARE Orion context \
broker and answers each once it is on stable storage; remote Apache Spark reads \
them over TLS, and its write-backs are kept and replayed to Orion, in order for \
each entity. Whatever is away, the line, Orion, Spark or the gateway itself for \
a moment: what was answered is kept.";
/// What clap does not know.
const SECTIONS: &str = include_str!("reference/sections.roff");

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let pages = folder.join("man");
    create_dir_all(&pages)?;
    // Neither commit nor machine: the pages are the same everywhere.
    let mut command = ngsi_ferry::cli::command().version(build::VERSION);
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, PROGRAM, &folder)?;
    }
    let mut command = ngsi_ferry::cli::command()
        .version(build::VERSION)
        .long_about(DESCRIPTION)
        .disable_help_subcommand(true);
    command.build();
    write_pages(&command, &pages)
}

/// A page for each command, as `git` has them.
fn write_pages(command: &Command, folder: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or(PROGRAM);
    let mut page = File::create(folder.join(format!("{name}.1")))?;
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .source(format!("{PROGRAM} {}", build::VERSION))
        .manual(PROGRAM);
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if name == PROGRAM {
        page.write_all(SECTIONS.as_bytes())?;
    } else {
        writeln!(page, ".SH SEE ALSO\n.BR {} (1)", PROGRAM.replace('-', "\\-"))?;
    }
    command.get_subcommands().try_for_each(|sub| write_pages(sub, folder))
}
