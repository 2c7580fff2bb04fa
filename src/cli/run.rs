//! One run, from the command line to the exit code.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, anyhow, ensure};
use clap::Parser;

use super::args::Cli;
use super::config::ConfigFile;
use super::settings::Settings;
use super::{exit, log};
use crate::app;
use crate::app::settings::{Command, Ending, PeersFile};
use crate::auth::without_tickets;
use crate::protocol::failure::{Failure, Reason};
use crate::transport::InheritedSocket;
use crate::ui::{ReaderPatience, Ui};

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
    let ui = match Ui::new(settings.output) {
        Ok(ui) => ui,
        Err(error) => return exit::no_threads(&error),
    };
    let asker = ui.asker();
    if settings.command.has_to_ask() && asker.is_none() {
        return exit::usage(&anyhow!("--verify asks a question, so it needs a terminal, and no --json"));
    }
    let only_shows = matches!(
        settings.command,
        Command::Bench(_)
            | Command::Id(_)
            | Command::Peers(_)
            | Command::Config(_)
            | Command::Partial(_)
            | Command::Receipt(_)
    );
    if settings.command.sends_stdin() && std::io::stdin().is_terminal() {
        return exit::usage(&anyhow!(
            "standard input is a terminal: let a program write to `towline send -`, or use `cat | towline send -` to send what you type"
        ));
    }
    if settings.command.writes_stdout() && std::io::stdout().is_terminal() {
        return exit::usage(&anyhow!(
            "standard output is a terminal: let a program read from `towline receive --into -`, or use `| cat`"
        ));
    }
    log::start(&ui);
    let tell = |ending, signal: &dyn Fn() -> Option<u8>| last_words(&ui, ending, only_shows, signal);
    ExitCode::from(app::run(settings.command, ui.reporter(), asker, tell))
}

/// Writes all waiting output and says why the run failed. `signal` returns the exit code of a signal that has
/// arrived.
fn last_words(ui: &Ui, mut ending: Ending, only_shows: bool, signal: &dyn Fn() -> Option<u8>) -> u8 {
    let is_stopped = || signal().is_some();
    let patience = ReaderPatience::new(&is_stopped);
    // The output is the whole result of a bench or of `id`, but not of a transfer.
    if let Err(error) = ui.finish(&patience)
        && only_shows
        && ending.exit_code == 0
    {
        let message = format!("cannot write the result to standard output: {error}");
        ending = Ending::failed(Failure::new(Reason::Setup, message));
        ending.exit_code = signal().unwrap_or(ending.exit_code);
    }
    if let Some(failure) = &mut ending.failure {
        // The message may quote a ticket that was given as a path.
        failure.message = without_tickets(&failure.message).into_owned();
        ui.fail(failure, ending.exit_code, &patience);
    }
    ending.exit_code
}

fn resolve(cli: Cli) -> anyhow::Result<Settings> {
    // There are no other threads yet.
    let inherited = InheritedSocket::from_environment().context("the socket of the service manager")?;
    let config = ConfigFile::load(cli.config_path())?;
    let mut settings = cli.resolve(&config, &PeersFile::of_this_user(), &mut std::io::stdin().lock())?;
    if let (Some(socket), Some(common)) = (inherited, settings.command.waiting()) {
        ensure!(common.listen.is_none(), "--listen does not go with a socket of the service manager");
        common.inherited = Some(socket);
    }
    Ok(settings)
}
