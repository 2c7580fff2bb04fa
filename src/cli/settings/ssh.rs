//! The other side of a transfer by ssh: its command line.
//!
//! What flags and variables say here holds on both sides. A config file is about its own machine.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use humantime::format_duration;

use crate::app::settings::{Install, Peer, Remote};
use crate::cli::args::{MeetingArgs, ReceiveArgs, SendArgs, SshArgs, TransferArgs};
use crate::cli::config::Config;
use crate::cli::peer::SshPath;
use crate::session::Retry;

/// The program that connects.
const SSH: &str = "ssh";

/// Arguments of towline on the other machine.
pub(super) struct Words(Vec<OsString>);

/// Of `towline receive` for `towline send` here.
pub(super) fn receiving(given: &SendArgs, config: &Config) -> Words {
    let mut words = Words::new(["receive", "--from=stdio:", "--forever=false", "--yes"], &given.transfer);
    words.add("exists", given.target.exists.as_ref().map(word));
    words.add("allow-delete", given.target.delete.or(config.delete));
    words.add("atomic", given.target.atomic);
    words.add("verify-disk", given.verify_disk);
    words
}

/// Of `towline send` for `towline receive` here.
pub(super) fn sending(given: &ReceiveArgs) -> Words {
    let mut words = Words::new(["send", "--to=stdio:"], &given.transfer);
    words.add("chunk-size", given.transfer.chunk_size);
    words.add("congestion", given.transfer.congestion.as_ref().map(word));
    words
}

impl Words {
    fn new<const N: usize>(first: [&str; N], given: &TransferArgs) -> Self {
        // Standard output is the pipe to this side.
        let mut words = Self(first.iter().chain(&["--quiet", "--json=false"]).map(OsString::from).collect());
        words.add("streams", given.streams);
        words.add("connections", given.connections);
        words.add("memory", given.memory);
        words.add("port-range", given.port_range);
        words.add("timeout", given.timeout.map(format_duration));
        words.add("disk-timeout", given.disk_timeout.map(format_duration));
        words.add(
            "retry",
            given.retry.map(|retry| match retry {
                Retry::Off => "0".to_owned(),
                Retry::For(limit) => format_duration(limit).to_string(),
                Retry::Forever => "forever".to_owned(),
            }),
        );
        words.add("no-fsync", given.no_fsync);
        words
    }

    fn add(&mut self, flag: &str, value: Option<impl Display>) {
        self.0.extend(value.map(|value| OsString::from(format!("--{flag}={value}"))));
    }

    /// Into the directory `path` there.
    pub(super) fn into(mut self, path: &OsStr) -> Result<Vec<OsString>> {
        let path = if path.is_empty() { ".".as_ref() } else { path };
        let mut flag = OsString::from("--into=");
        flag.push(path);
        self.0.push(flag);
        Ok(self.0)
    }

    /// The files and directories `path` and `further` there.
    pub(super) fn of(mut self, path: &OsStr, further: &[OsString]) -> Result<Vec<OsString>> {
        ensure!(!path.is_empty(), "--from ssh:HOST:PATH needs the path of what is to be received");
        self.0.push("--".into());
        for path in std::iter::once(path).chain(further.iter().map(OsString::as_os_str)) {
            // `-` alone stands for standard input.
            let path = if path == "-" { Path::new("./-").as_os_str() } else { path };
            self.0.push(path.to_owned());
        }
        Ok(self.0)
    }
}

fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|word| word.get_name().to_owned()).unwrap_or_default()
}

/// How a machine is reached.
pub(super) struct Way {
    ssh: Option<String>,
    install: Install,
}

impl Way {
    pub(super) fn new(given: &mut SshArgs, yes: Option<bool>, config: &Config) -> Self {
        let no_install = given.no_install.or(config.no_install).unwrap_or(false);
        let install = match yes.or(config.yes).unwrap_or(false) {
            _ if no_install => Install::Never,
            true => Install::Yes,
            false => Install::Unsaid,
        };
        Self { ssh: given.ssh.take().or_else(|| config.ssh.clone()), install }
    }
}

/// The machine of `path`, reached as `way` says. `args` turns the path into the arguments of towline there.
pub(super) fn remote(
    path: SshPath,
    way: Way,
    args: impl FnOnce(&OsStr) -> Result<Vec<OsString>>,
) -> Result<Remote> {
    let SshPath { destination, host, path } = path;
    let ssh = split(way.ssh.as_deref().unwrap_or(SSH)).context("--ssh")?;
    Ok(Remote { ssh, destination, host, args: args(&path)?, install: way.install })
}

/// A peer by ssh is known to ssh.
pub(super) fn refuse_names(peer: Option<&Peer>, given: &MeetingArgs) -> Result<()> {
    let is_by_ssh = matches!(peer, Some(Peer::Ssh(_) | Peer::Stdio));
    ensure!(
        !is_by_ssh || given.remember.is_none(),
        "--remember does not go with ssh:, which vouches for the peer each time"
    );
    Ok(())
}

/// The words of a command. Quotes keep words together, and mean nothing else.
fn split(text: &str) -> Result<Vec<OsString>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    ensure!(quote.is_none(), "a quote is not closed");
    words.extend(word);
    ensure!(!words.is_empty(), "it is empty");
    Ok(words.into_iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_into_words() {
        for (text, words) in [
            ("ssh", &["ssh"][..]),
            ("  ssh  -p 2222 ", &["ssh", "-p", "2222"]),
            ("ssh -o 'A b' \"it's\" ''", &["ssh", "-o", "A b", "it's", ""]),
            ("/opt/my' 'ssh -x", &["/opt/my ssh", "-x"]),
        ] {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        assert!(split(" ").is_err() && split("ssh 'x").is_err());
    }
}
