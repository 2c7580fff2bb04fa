//! From the command line to the work and back to an exit code.

pub mod args;
mod bwlimit;
pub mod config;
mod exit;
mod log;
pub mod peer;
pub mod settings;
mod size;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

use self::args::Cli;
use self::config::Config;
use self::settings::Settings;
use crate::app;
use crate::app::settings::{Command, Ending};
use crate::protocol::failure::{Failure, Reason};
use crate::ui::Ui;

/// Runs the program with the arguments and variables of this process.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => exit::parse_error(&error),
    }
}

fn run(cli: Cli) -> ExitCode {
    let settings = match resolve(cli) {
        Ok(settings) => settings,
        Err(error) => return exit::usage(&error),
    };
    let ui = Ui::new(settings.output);
    let only_shows = matches!(settings.command, Command::Bench(_) | Command::Id(_));
    log::start(&ui);
    // A bug must not leave the terminal with half a bar, nor an exit code that the contract does not have.
    let ending = catch_unwind(AssertUnwindSafe(|| app::run(settings.command, ui.reporter())));
    let mut ending = ending.unwrap_or_else(|_| {
        Ending::failed(Failure::new(Reason::Internal, "a bug in towline ended it; the lines above say where"))
    });
    // A transfer is what it is without a word; these have done nothing but what they show.
    if let Err(error) = ui.finish()
        && only_shows
        && ending.exit_code == 0
    {
        let message = format!("cannot write the result to standard output: {error}");
        ending = Ending::failed(Failure::new(Reason::Setup, message));
    }
    if let Some(failure) = &ending.failure {
        ui.fail(failure, ending.exit_code);
    }
    ExitCode::from(ending.exit_code)
}

fn resolve(cli: Cli) -> anyhow::Result<Settings> {
    let config = Config::load(cli.config_path())?;
    cli.resolve(config, &mut std::io::stdin().lock())
}
