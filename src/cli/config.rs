//! The config file: every flag, under the name it has on the command line.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use etcetera::BaseStrategy;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::bwlimit::parse_bwlimit;
use super::size::{Wait, parse_duration, parse_listen, parse_ports, parse_retry, parse_wait};
use super::values::word;
use crate::app::settings::{Delta, Exists, PeerName};
use crate::node::size::parse_size;
use crate::protocol::path::printable;
use crate::session::Retry;
use crate::session::schedule::Schedule;
use crate::transport::Congestion;
use crate::transport::address::PortRange;
use crate::ui::{Color, Qr};

/// Bytes of a config file.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// Maximum characters of an error message: keys can be long.
const MESSAGE_CHARS_MAX: usize = 500;

/// The content of a config file. All fields are optional; unknown keys are an error.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// `--json`
    pub json: Option<bool>,
    /// `--quiet`
    pub quiet: Option<bool>,
    /// `--verbose`, as a number
    pub verbose: Option<u8>,
    /// `--no-progress`
    pub no_progress: Option<bool>,
    /// `--color`
    #[serde(deserialize_with = "word")]
    pub color: Option<Color>,
    /// `--to`
    pub to: Option<String>,
    /// `--from`
    pub from: Option<String>,
    /// `--into`
    pub into: Option<PathBuf>,
    /// `--atomic`
    pub atomic: Option<bool>,
    /// `--verify-disk`
    pub verify_disk: Option<bool>,
    /// `--limit`
    pub limit: Vec<String>,
    /// `--exists`
    #[serde(deserialize_with = "word")]
    pub exists: Option<Exists>,
    /// `--checksum`
    pub checksum: Option<bool>,
    /// `--delta`
    #[serde(deserialize_with = "word")]
    pub delta: Option<Delta>,
    /// `--yes`
    pub yes: Option<bool>,
    /// `--background`
    pub background: Option<bool>,
    /// `--remove-source`
    pub remove_source: Option<bool>,
    /// `--exclude`
    pub exclude: Vec<String>,
    /// `--include`
    pub include: Vec<String>,
    /// `--exclude-from`
    pub exclude_from: Vec<PathBuf>,
    /// `--ignore-files`
    pub ignore_files: Option<bool>,
    /// `--files-from`
    pub files_from: Option<PathBuf>,
    /// `--null`
    pub null: Option<bool>,
    /// `--one-file-system`
    pub one_file_system: Option<bool>,
    /// `--min-size`, bytes
    #[serde(deserialize_with = "size")]
    pub min_size: Option<u64>,
    /// `--max-size`, bytes
    #[serde(deserialize_with = "size")]
    pub max_size: Option<u64>,
    /// `--contents`
    pub contents: Option<bool>,
    /// `--archive`
    pub archive: Option<bool>,
    /// `--owner`
    pub owner: Option<bool>,
    /// `--numeric-ids`
    pub numeric_ids: Option<bool>,
    /// `--special-bits`
    pub special_bits: Option<bool>,
    /// `--acls`
    pub acls: Option<bool>,
    /// `--xattrs`
    pub xattrs: Option<bool>,
    /// `--receipt`
    pub receipt: Option<PathBuf>,
    /// `--manifest`
    pub manifest: Option<PathBuf>,
    /// `--wait`, a duration; true or false say whether a bench waits
    #[serde(deserialize_with = "wait")]
    pub wait: Option<Wait>,
    /// `--size`, bytes
    #[serde(deserialize_with = "size")]
    pub size: Option<u64>,
    /// `--files`
    pub files: Option<u64>,
    /// `--disk`
    pub disk: Option<PathBuf>,
    /// `--listen`
    #[serde(deserialize_with = "listen")]
    pub listen: Option<SocketAddr>,
    /// `--port-range`
    #[serde(deserialize_with = "ports")]
    pub port_range: Option<PortRange>,
    /// `--ssh`
    pub ssh: Option<String>,
    /// `--no-install`
    pub no_install: Option<bool>,
    /// `--fingerprint`
    pub fingerprint: Option<String>,
    /// `--allow`
    pub allow: Vec<PeerName>,
    /// `--ca`
    pub ca: Option<PathBuf>,
    /// `--cert`
    pub cert: Option<PathBuf>,
    /// `--key`
    pub key: Option<PathBuf>,
    /// `--peer-name`
    pub peer_name: Vec<String>,
    /// `--words`
    pub words: Option<usize>,
    /// `--uses`
    pub uses: Option<u32>,
    /// `--verify`
    pub verify: Option<bool>,
    /// `--expires`
    #[serde(deserialize_with = "duration")]
    pub expires: Option<Duration>,
    /// `--qr`
    #[serde(deserialize_with = "word")]
    pub qr: Option<Qr>,
    /// `--forever`
    pub forever: Option<bool>,
    /// `--tickets`
    pub tickets: Option<bool>,
    /// `--transfers`
    pub transfers: Option<u32>,
    /// `--grace`
    #[serde(deserialize_with = "duration")]
    pub grace: Option<Duration>,
    /// `--streams`
    pub streams: Option<u32>,
    /// `--connections`
    pub connections: Option<u32>,
    /// `--chunk-size`, bytes
    #[serde(deserialize_with = "size")]
    pub chunk_size: Option<u64>,
    /// `--bwlimit`
    #[serde(deserialize_with = "bwlimit")]
    pub bwlimit: Option<Schedule>,
    /// `--memory`, bytes
    #[serde(deserialize_with = "size")]
    pub memory: Option<u64>,
    /// `--congestion`
    #[serde(deserialize_with = "word")]
    pub congestion: Option<Congestion>,
    /// `--timeout`
    #[serde(deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    /// `--retry`, a duration or "forever"
    #[serde(deserialize_with = "retry")]
    pub retry: Option<Retry>,
    /// `--disk-timeout`
    #[serde(deserialize_with = "duration")]
    pub disk_timeout: Option<Duration>,
    /// `--no-path-memory`
    pub no_path_memory: Option<bool>,
    /// `--no-fsync`
    pub no_fsync: Option<bool>,
}

impl Config {
    /// Reads `path`, or else the default file, which need not exist.
    ///
    /// # Errors
    /// The file is missing or unreadable, is not TOML, or has an unknown key or a bad value.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let (path, may_be_absent) = match (path, default_path()) {
            (Some(path), _) => (path.to_owned(), false),
            (None, Some(path)) => (path, true),
            (None, None) => return Ok(Self::default()),
        };
        let shown = printable(path.as_os_str().as_encoded_bytes());
        let text = match read(&path) {
            Ok(text) => text,
            // The home directory may not exist, or may belong to another user.
            Err(_) if may_be_absent && std::fs::metadata(&path).is_err() => return Ok(Self::default()),
            Err(e) => return Err(e).with_context(|| format!("cannot read the config file {shown}")),
        };
        match Self::parse(&text) {
            Ok(config) => Ok(config),
            Err(e) => {
                let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
                let mut message = printable(e.message().as_bytes());
                if let Some((at, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
                    message.replace_range(at.., "…");
                }
                bail!("in the config file {shown}, line {line}: {message}")
            }
        }
    }

    /// Parses the text of a config file.
    ///
    /// # Errors
    /// It is not TOML, or has an unknown key or a bad value.
    pub fn parse(text: &str) -> std::result::Result<Self, toml::de::Error> {
        toml::from_str(text)
    }
}

/// Reads a regular file only: a FIFO would block, and a device might not end.
fn read(path: &Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {CONFIG_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn default_path() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.config_dir().join("towline").join("config.toml"))
}

fn listen<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<SocketAddr>, D::Error> {
    parse_listen(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

fn ports<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<PortRange>, D::Error> {
    parse_ports(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

fn bwlimit<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Schedule>, D::Error> {
    parse_bwlimit(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Duration>, D::Error> {
    parse_duration(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

fn retry<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Retry>, D::Error> {
    parse_retry(&String::deserialize(from)?).map(Some).map_err(de::Error::custom)
}

/// A duration such as "5m", or true or false.
fn wait<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Wait>, D::Error> {
    struct Waits;
    impl Visitor<'_> for Waits {
        type Value = Wait;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"5m\", or true or false")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Wait, E> {
            parse_wait(text).map_err(E::custom)
        }
        fn visit_bool<E: de::Error>(self, waits: bool) -> std::result::Result<Wait, E> {
            Ok(if waits { Wait::Yes } else { Wait::No })
        }
    }
    from.deserialize_any(Waits).map(Some)
}

/// A size is a text such as "64M" or a number of bytes.
fn size<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<u64>, D::Error> {
    struct Size;
    impl Visitor<'_> for Size {
        type Value = u64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as \"64M\" or a number of bytes")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<u64, E> {
            parse_size(text).map_err(E::custom)
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> std::result::Result<u64, E> {
            u64::try_from(number).map_err(|_| E::custom("a size is not negative"))
        }
    }
    from.deserialize_any(Size).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::command;

    #[test]
    fn every_flag_is_a_key() {
        for sub in command().get_subcommands() {
            for key in sub.get_arguments().filter_map(|arg| arg.get_long()) {
                // They are about one run.
                if [
                    "config",
                    "list-partial",
                    "discard-partial",
                    "remember",
                    "name",
                    "may",
                    "dir",
                    "policies",
                    "quota",
                ]
                .contains(&key)
                {
                    continue;
                }
                let error =
                    Config::parse(&format!("{key} = []")).err().map(|e| e.to_string()).unwrap_or_default();
                assert!(!error.contains("unknown field"), "{key}: {error}");
            }
        }
    }

    #[test]
    fn values_are_read_as_flags_are() {
        let config = Config::parse(
            "memory = \"128M\"\nchunk-size = 1048576\ntimeout = \"1m\"\nlisten = \"[::]:1\"\n\
             exists = \"rename\"\ndelta = \"off\"\nbwlimit = \"2M\"\ncongestion = \"newreno\"\ncolor = \"never\"\nno-fsync = true\nverbose = 2",
        )
        .unwrap();
        assert_eq!(config.memory, Some(128 << 20));
        assert_eq!(config.chunk_size, Some(1 << 20));
        assert_eq!(config.timeout, Some(Duration::from_secs(60)));
        assert_eq!(config.listen, Some("[::]:1".parse().unwrap()));
        assert_eq!((config.exists, config.delta), (Some(Exists::Rename), Some(Delta::Off)));
        assert_eq!(config.bwlimit, parse_bwlimit("2M").ok());
        assert_eq!(config.congestion, Some(Congestion::NewReno));
        assert_eq!(config.color, Some(Color::Never));
        assert_eq!((config.no_fsync, config.verbose), (Some(true), Some(2)));
        assert_eq!(config.streams, None);
    }

    #[test]
    fn what_is_wrong_names_the_key_and_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        for (text, why) in [
            ("colour = \"never\"", "unknown field `colour`"),
            ("memory = \"lots\"", "expected a number of bytes"),
            ("memory = -1", "not negative"),
            ("memory = true", "a size such as"),
            ("timeout = 30", "expected a string"),
            ("wait = 5", "a duration such as"),
            ("wait = \"soon\"", "expected a duration"),
            ("bwlimit = \"8-9=1M\"", "is not a window"),
            ("exists = \"ask\"", "`ask` is not one of refuse, skip, replace, rename"),
            ("memory", "expected"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", Config::load(Some(&path)).unwrap_err());
            assert!(error.contains(why) && error.contains("c.toml"), "{text}: {error}");
        }
    }

    /// Fault 15 of the trials: `--config` read without a limit and printed raw bytes.
    #[test]
    fn fault_15_a_config_file_is_bounded_and_shown_harmlessly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let load = |path: &Path| format!("{:#}", Config::load(Some(path)).unwrap_err());
        std::fs::write(&path, "#".repeat(usize::try_from(CONFIG_BYTES_MAX).unwrap() + 1)).unwrap();
        assert!(load(&path).ends_with("it is larger than 65536 bytes"), "{}", load(&path));
        for other in ["/dev/zero", "/"] {
            assert!(load(Path::new(other)).ends_with("it is not a regular file"), "{other}");
        }
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        assert!(load(&fifo).ends_with("it is not a regular file"), "{}", load(&fifo));
        std::fs::write(&path, format!("streams = 3\n\"{}\" = 1\n", "\\u001b".repeat(9_000))).unwrap();
        let error = load(&path);
        assert!(!error.contains('\u{1b}') && error.len() < 1000, "{} bytes: {error}", error.len());
        assert!(error.contains("c.toml, line 2: unknown field `\\u{1b}"), "{error}");
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        let error = Config::load(Some(Path::new("/does/not/exist.toml"))).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read the config file /does/not/exist.toml: "));
    }
}
