//! `walctl man` and `walctl completions`: made of the same description of the command line that parses it.

use std::fs;
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::VERSION;
use crate::exit::{Exit, Failure};
use crate::out::Out;

/// Write the manual pages, one for each verb
///
/// With DIR, walctl.1 and walctl-VERB.1 in that directory, which is created; without, the page of walctl itself on standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Where the pages are written
    dir: Option<PathBuf>,
}

/// Write the completions of a shell to standard output
///
/// Put it where your shell looks: for bash, for example, into /etc/bash_completion.d/walctl.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// `walctl man`.
pub(crate) fn man(args: &ManArgs, command: Command) -> Result<Exit, Failure> {
    // As `generate_to` has it: `help` is no page.
    let command = shown(&command).disable_help_subcommand(true);
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(|error| Failure::io("making a manual page", error))?;
        let mut out = Out::new();
        out.bytes(&page)?;
        out.flush()?;
        return Ok(Exit::Fine);
    };
    fs::create_dir_all(dir).map_err(|error| Failure::file("making", dir, error))?;
    clap_mangen::generate_to(command, dir).map_err(|error| Failure::file("writing pages to", dir, error))?;
    Ok(Exit::Fine)
}

/// `walctl completions`.
pub(crate) fn completions(args: &CompletionsArgs, command: Command) -> Result<Exit, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut shown(&command), "walctl", &mut text);
    let mut out = Out::new();
    out.bytes(&text)?;
    out.flush()?;
    Ok(Exit::Fine)
}

/// Without the verbs that are nobody's: hidden ones stand in completions otherwise.
fn shown(command: &Command) -> Command {
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let mut shown = Command::new("walctl").args(command.get_arguments().cloned()).subcommands(verbs);
    if let Some(about) = command.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(help) = command.get_after_help() {
        shown = shown.after_help(help.clone());
    }
    shown.version(VERSION)
}
