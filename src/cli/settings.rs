//! Resolves settings: a flag overrides its variable (clap does that), which overrides the config file, which
//! overrides the default. The result is checked and turned into the plain settings of `app` and `ui`.

mod archive;
mod bench;
mod common;
mod exec;
mod into;
mod meeting;
mod peers;
mod pki;
mod receive;
mod request;
mod select;
mod send;
mod shown;
mod sources;
mod ssh;
mod stay;
mod stdio;
#[cfg(test)]
mod tests;

use std::io::Read;

use anyhow::{Result, ensure};

use self::common::parse_fingerprint;
use super::args::{self, Cli, GeneralArgs, OutputArgs};
use super::config::{Config, ConfigFile};
use crate::app::settings::{Command, IdSettings, Peer, PeersFile, ReceiptSettings};
use crate::ui;

/// What one run is asked to do and to show.
#[derive(Debug)]
pub struct Settings {
    /// For `app`.
    pub command: Command,
    /// For `ui`.
    pub output: ui::Options,
}

impl Cli {
    /// The path of the config file, if one was given.
    pub fn config_path(&self) -> Option<&std::path::Path> {
        let GeneralArgs { config } = match &self.command {
            args::CliCommand::Send(a) => &a.general,
            args::CliCommand::Receive(a) => &a.general,
            args::CliCommand::Bench(a) => &a.general,
            args::CliCommand::Id(a) => &a.general,
            args::CliCommand::Peers(a) => &a.general,
            args::CliCommand::Receipt(a) => &a.general,
            args::CliCommand::Config(a) => &a.general,
        };
        config.as_deref()
    }

    /// The name of the profile, if one was given.
    pub fn profile(&self) -> Option<&str> {
        match &self.command {
            args::CliCommand::Send(a) => a.profile.profile.as_deref(),
            args::CliCommand::Receive(a) => a.profile.profile.as_deref(),
            args::CliCommand::Config(a) => a.profile.profile.as_deref(),
            _ => None,
        }
    }

    /// Resolves everything. `stdin` is read only for `--to -` and `--from -`, and `peers` only where a known peer may be
    /// named.
    ///
    /// # Errors
    /// A usage error that says why and how to fix it.
    pub fn resolve(self, file: &ConfigFile, peers: &PeersFile, stdin: &mut dyn Read) -> Result<Settings> {
        let config = file.config(self.profile())?;
        let (mut output, command) = match self.command {
            args::CliCommand::Send(mut a) => {
                send::take_sources(&mut a, &config)?;
                let mut output = resolve_output(std::mem::take(&mut a.output), &config);
                output.qr = a.meeting.qr.or(config.qr).unwrap_or_default();
                (output, send::resolve(a, config, peers, stdin)?)
            }
            args::CliCommand::Receive(mut a) => {
                let mut output = resolve_output(std::mem::take(&mut a.output), &config);
                output.qr = a.meeting.qr.or(config.qr).unwrap_or_default();
                (output, receive::resolve(a, config, peers, stdin)?)
            }
            args::CliCommand::Bench(mut a) => {
                let output = resolve_output(std::mem::take(&mut a.output), &config);
                (output, Command::Bench(bench::resolve(a, config, peers, stdin)?))
            }
            args::CliCommand::Id(a) => {
                let action = a.action;
                (resolve_output(a.output, &config), Command::Id(IdSettings { action }))
            }
            args::CliCommand::Receipt(a) => {
                let args::ReceiptArgs { file, manifest, fingerprint, output, .. } = a;
                let fingerprint = fingerprint.as_deref().map(parse_fingerprint).transpose()?;
                let settings = ReceiptSettings { file, manifest, fingerprint };
                (resolve_output(output, &config), Command::Receipt(settings))
            }
            args::CliCommand::Config(a) => {
                let settings = shown::resolve(file, a.profile.profile.as_deref());
                (resolve_output(a.output, &config), Command::Config(settings))
            }
            args::CliCommand::Peers(mut a) => {
                let output = resolve_output(std::mem::take(&mut a.output), &config);
                (output, Command::Peers(peers::resolve(a, peers.clone())?))
            }
        };
        let peer = match &command {
            Command::Send(s) => s.peer.as_ref(),
            Command::Receive(s) => s.peer.as_ref(),
            _ => None,
        };
        ensure!(
            peer != Some(&Peer::Stdio) || !output.json,
            "--json writes to standard output, which `stdio:` needs for the other side: give one of them"
        );
        output.data_on_stdout = command.writes_stdout();
        output.known_dialler = match &command {
            Command::Send(s) => !s.common.allowed.is_empty(),
            Command::Receive(s) => !s.common.allowed.is_empty(),
            Command::Bench(s) => !s.common.allowed.is_empty(),
            Command::Stay(_)
            | Command::Id(_)
            | Command::Peers(_)
            | Command::Config(_)
            | Command::Partial(_)
            | Command::Receipt(_) => false,
        };
        Ok(Settings { command, output })
    }
}

fn resolve_output(given: OutputArgs, config: &Config) -> ui::Options {
    ui::Options {
        json: given.json.or(config.json).unwrap_or(false),
        quiet: given.quiet.or(config.quiet).unwrap_or(false),
        verbose: if given.verbose > 0 { given.verbose } else { config.verbose.unwrap_or(0) },
        progress: !given.no_progress.or(config.no_progress).unwrap_or(false),
        color: given.color.or(config.color).unwrap_or_default(),
        qr: ui::Qr::default(),
        known_dialler: false,
        data_on_stdout: false,
    }
}
