//! What a machine knows: its peers and its settings.

/// A machine that this one knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMachine {
    /// Its name here.
    pub name: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// What it may do when it dials this machine: `send`, `receive`.
    pub may: Vec<&'static str>,
    /// Where it waits, best first.
    pub addresses: Vec<String>,
    /// Where its files go at a receiver that stays, safe to print, if it has a directory of its own.
    pub into: Option<String>,
    /// What it may do to existing files there; anything if this is empty.
    pub exists: Vec<&'static str>,
    /// Bytes that it may fill there, if they are limited.
    pub quota_bytes: Option<u64>,
    /// Bounds of each of its transfers there, as its entry has them.
    pub limits: Vec<String>,
}

/// A setting of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The long flag, without its dashes.
    pub name: String,
    /// Safe to print, without secrets; `None` if it is not set and has no default.
    pub value: Option<String>,
    /// Where the value comes from.
    pub from: SettingFrom,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingFrom {
    /// This variable.
    Variable(String),
    /// The profile of this name.
    Profile(String),
    /// The config file at this path.
    File(String),
    /// It was not set.
    Default,
}
