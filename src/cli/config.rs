//! The config file: every flag, under the name it has on the command line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use etcetera::BaseStrategy;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::bwlimit::parse_bwlimit;
use super::size::{
    Wait, parse_compression, parse_duration, parse_listen, parse_ports, parse_retry, parse_wait,
};
use super::values::word;
use crate::app::settings::{Delta, Exists, PeerName};
use crate::node::size::parse_size;
use crate::protocol::path::printable;
use crate::session::schedule::Schedule;
use crate::session::{Compression, Retry};
use crate::transport::Congestion;
use crate::transport::address::PortRange;
use crate::ui::{Color, Qr};

/// Bytes of a config file.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;
/// Maximum characters of an error message: keys can be long.
const MESSAGE_CHARS_MAX: usize = 500;
/// Characters of a key that are compared with known ones.
const KEY_CHARS_MAX: usize = 100;
/// Likeness, up to 1, from which on another key was probably meant.
const LIKENESS_MIN: f64 = 0.75;
/// Likeness of a key that another one contains, and the bytes that it has at least.
const LIKENESS_OF_PART: f64 = 0.9;
const PART_BYTES_MIN: usize = 4;
/// The key of the profiles.
const PROFILE: &str = "profile";

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
    /// `--delete`
    pub delete: Option<bool>,
    /// `--max-delete`
    pub max_delete: Option<u64>,
    /// `--backup-dir`
    pub backup_dir: Option<PathBuf>,
    /// `--allow-delete`
    pub allow_delete: Option<bool>,
    /// `--dry-run`
    pub dry_run: Option<bool>,
    /// `--checksum`
    pub checksum: Option<bool>,
    /// `--delta`
    #[serde(deserialize_with = "word")]
    pub delta: Option<Delta>,
    /// `--exec`, program and arguments
    pub exec: Vec<String>,
    /// `--exec-timeout`
    #[serde(deserialize_with = "duration")]
    pub exec_timeout: Option<Duration>,
    /// `--compress`, a word or a level
    #[serde(deserialize_with = "compression")]
    pub compress: Option<Compression>,
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
    /// What `towline send` sends; only in a profile
    pub sources: Vec<PathBuf>,
    /// Tables `[profile.NAME]` with the same keys, for `--profile NAME`
    pub profile: BTreeMap<String, Config>,
}

/// A config file that was read and checked.
#[derive(Debug, Default)]
pub struct ConfigFile {
    /// Where it is; `None` if there is none.
    pub path: Option<PathBuf>,
    table: toml::Table,
}

impl ConfigFile {
    /// Reads `path`, or else the default file, which need not exist.
    ///
    /// # Errors
    /// The file is missing or unreadable, is not TOML, or has an unknown key or a bad value, in any profile.
    pub fn load(path: Option<&Path>) -> Result<Self> {
        let (path, may_be_absent) = match (path, Self::default_path()) {
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
            Ok((file, config)) => {
                config.check_profiles().with_context(|| format!("in the config file {shown}"))?;
                Ok(Self { path: Some(path), ..file })
            }
            Err(e) => {
                let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
                let mut message = printable(unknown_key(e.message()).as_bytes());
                if let Some((at, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
                    message.replace_range(at.., "…");
                }
                bail!("in the config file {shown}, line {line}: {message}")
            }
        }
    }

    /// Parses the text of a config file. Also returns all its keys.
    ///
    /// # Errors
    /// It is not TOML, or has an unknown key or a bad value.
    pub fn parse(text: &str) -> std::result::Result<(Self, Config), toml::de::Error> {
        let config = toml::from_str(text)?;
        Ok((Self { path: None, table: toml::from_str(text)? }, config))
    }

    /// The settings, those of `profile` before the others.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn config(&self, profile: Option<&str>) -> Result<Config> {
        let mut table = self.table.clone();
        let profiles = table.remove(PROFILE);
        if let Some(name) = profile {
            let profiles = profiles.as_ref().and_then(toml::Value::as_table);
            match profiles.and_then(|profiles| profiles.get(name)?.as_table()) {
                Some(own) => table.extend(own.clone()),
                None => bail!(self.no_profile(name, profiles)),
            }
        }
        Ok(table.try_into()?)
    }

    fn no_profile(&self, name: &str, profiles: Option<&toml::Table>) -> String {
        let name = printable(name.as_bytes());
        let file = self.path.as_ref().map(|path| printable(path.as_os_str().as_encoded_bytes()));
        let Some(file) = file else {
            return format!(
                "--profile {name}: there is no config file; `towline config` shows where it would be"
            );
        };
        let known: Vec<&str> = profiles.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let hint = match (nearest(&name, known.iter().copied()), known.is_empty()) {
            (Some(near), _) => format!("did you mean `{}`?", printable(near.as_bytes())),
            (None, true) => format!("add a table [profile.{name}]"),
            (None, false) => format!("there are {}", printable(known.join(", ").as_bytes())),
        };
        format!("there is no profile `{name}` in {file}; {hint}")
    }

    /// The value of `key` as text, and whether it is from `profile`.
    pub fn value(&self, key: &str, profile: Option<&str>) -> Option<(String, bool)> {
        let own = profile.and_then(|name| self.table.get(PROFILE)?.get(name)?.get(key));
        let found = own.or_else(|| self.table.get(key))?;
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => text.clone(),
            other => serde_json::to_string(other).unwrap_or_default(),
        };
        Some((text(found), own.is_some()))
    }

    /// The default file, which need not exist.
    pub fn default_path() -> Option<PathBuf> {
        Some(etcetera::choose_base_strategy().ok()?.config_dir().join("towline").join("config.toml"))
    }
}

impl Config {
    fn check_profiles(&self) -> Result<()> {
        ensure!(
            self.sources.is_empty(),
            "`sources` belongs into a profile: write it below a line such as [profile.nightly]"
        );
        for (name, profile) in &self.profile {
            let name = printable(name.as_bytes());
            ensure!(profile.profile.is_empty(), "the profile `{name}` has profiles of its own");
        }
        Ok(())
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

/// The message about an unknown key, with the known key that is nearest to it instead of all.
fn unknown_key(message: &str) -> Cow<'_, str> {
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.into() };
    let mut words = rest.split('`');
    let Some(key) = words.next() else { return message.into() };
    // Every second one is a key.
    let near = nearest(key, words.skip(1).step_by(2));
    let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("unknown key `{key}`{hint}").into()
}

/// The one of `known` that `name` was probably meant to be.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.chars().take(KEY_CHARS_MAX).collect();
    let is_part = |other: &str| name.len() >= PART_BYTES_MIN && other.contains(&name);
    let likeness = |other: &&str| if is_part(other) { LIKENESS_OF_PART } else { strsim::jaro(&name, other) };
    let near = known.max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&near) >= LIKENESS_MIN).then_some(near)
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

/// "auto", "off", or a level, which may be a number.
fn compression<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Compression>, D::Error> {
    struct Level;
    impl Visitor<'_> for Level {
        type Value = Compression;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\"auto\", \"off\" or a level")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Compression, E> {
            parse_compression(text).map_err(E::custom)
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> std::result::Result<Compression, E> {
            parse_compression(&number.to_string()).map_err(E::custom)
        }
    }
    from.deserialize_any(Level).map(Some)
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
                    "profile",
                ]
                .contains(&key)
                {
                    continue;
                }
                let error = ConfigFile::parse(&format!("{key} = []"))
                    .err()
                    .map(|e| e.to_string())
                    .unwrap_or_default();
                assert!(!error.contains("unknown field"), "{key}: {error}");
            }
        }
    }

    #[test]
    fn values_are_read_as_flags_are() {
        let (_, config) = ConfigFile::parse(
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
            ("colour = \"never\"", "line 1: unknown key `colour`; did you mean `color`?"),
            ("\n[profile.a]\nfsync = true", "line 3: unknown key `fsync`; did you mean `no-fsync`?"),
            ("xyzzy = 1", "unknown key `xyzzy`"),
            ("sources = [\"a\"]", "`sources` belongs into a profile"),
            ("[profile.a.profile.b]\njson = true", "has profiles of its own"),
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
            let error = format!("{:#}", ConfigFile::load(Some(&path)).unwrap_err());
            assert!(error.contains(why) && error.contains("c.toml"), "{text}: {error}");
        }
    }

    #[test]
    fn a_profile_comes_before_the_other_keys_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let text = "memory = \"32M\"\nstreams = 3\n[profile.nightly]\nsources = [\"/a\", \"b c\"]\nmemory = \"128M\"\n\
                    exclude = [\"*.tmp\"]\n[profile.other]\njson = true\n";
        std::fs::write(&path, text).unwrap();
        let file = ConfigFile::load(Some(&path)).unwrap();
        let nightly = file.config(Some("nightly")).unwrap();
        assert_eq!((nightly.memory, nightly.streams, nightly.json), (Some(128 << 20), Some(3), None));
        assert_eq!(nightly.sources, [PathBuf::from("/a"), "b c".into()]);
        let without = file.config(None).unwrap();
        assert_eq!((without.memory, without.exclude.len(), without.sources.len()), (Some(32 << 20), 0, 0));
        assert_eq!(file.value("memory", Some("nightly")), Some(("128M".to_owned(), true)));
        assert_eq!(file.value("streams", Some("nightly")), Some(("3".to_owned(), false)));
        assert_eq!(file.value("json", Some("nightly")), None);
        for (name, hint) in [("nightl", "did you mean `nightly`?"), ("zzz", "there are nightly, other")] {
            let error = file.config(Some(name)).unwrap_err().to_string();
            assert!(
                error.contains(&format!("there is no profile `{name}`")) && error.ends_with(hint),
                "{error}"
            );
        }
        assert!(ConfigFile::default().config(Some("a")).unwrap_err().to_string().contains("no config file"));
    }

    /// Fault 15 of the trials: `--config` read without a limit and printed raw bytes.
    #[test]
    fn fault_15_a_config_file_is_bounded_and_shown_harmlessly() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        let load = |path: &Path| format!("{:#}", ConfigFile::load(Some(path)).unwrap_err());
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
        assert!(error.contains("c.toml, line 2: unknown key `\\u{1b}"), "{error}");
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        let error = ConfigFile::load(Some(Path::new("/does/not/exist.toml"))).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot read the config file /does/not/exist.toml: "));
    }
}
