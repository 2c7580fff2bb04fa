//! `towline config`: each setting, its value and where it comes from.

use std::collections::BTreeMap;
use std::env;

use crate::app::settings::{ConfigSettings, Setting, SettingFrom};
use crate::auth::without_parts_of_tickets;
use crate::cli::args::command;
use crate::cli::config::ConfigFile;
use crate::protocol::path::printable;

/// Flags about one run, which are no settings.
const NOT_SETTINGS: [&str; 10] = [
    "config",
    "profile",
    "list-partial",
    "discard-partial",
    "remember",
    "name",
    "may",
    "dir",
    "policies",
    "quota",
];
/// Keys that are no flags.
const WITHOUT_FLAG: [&str; 1] = ["sources"];

/// All settings by name.
pub(super) fn resolve(file: &ConfigFile, profile: Option<&str>) -> ConfigSettings {
    let mut defaults = BTreeMap::new();
    for sub in command().get_subcommands() {
        for arg in sub.get_arguments().filter(|arg| !arg.is_hide_set()) {
            if let Some(name) = arg.get_long().filter(|name| !NOT_SETTINGS.contains(name) && *name != "help")
            {
                let default = arg.get_help().and_then(|help| default(&help.to_string()));
                let known = defaults.entry(name.to_owned()).or_insert(None);
                *known = known.take().or(default);
            }
        }
    }
    if profile.is_some() {
        WITHOUT_FLAG.iter().for_each(|key| {
            defaults.insert((*key).to_owned(), None);
        });
    }
    let of_profile = profile.map(|name| printable(name.as_bytes()));
    let of_file = file.path.as_ref().map(|path| printable(path.as_os_str().as_encoded_bytes()));
    let settings = defaults.into_iter().map(|(name, default)| {
        let variable = format!("TOWLINE_{}", name.replace('-', "_").to_uppercase());
        let (value, from) = match (env::var_os(&variable), file.value(&name, profile)) {
            (Some(value), _) if !WITHOUT_FLAG.contains(&name.as_str()) => {
                (Some(printable(value.as_encoded_bytes())), SettingFrom::Variable(variable))
            }
            (_, Some((value, true))) => (
                Some(printable(value.as_bytes())),
                SettingFrom::Profile(of_profile.clone().unwrap_or_default()),
            ),
            (_, Some((value, false))) => {
                (Some(printable(value.as_bytes())), SettingFrom::File(of_file.clone().unwrap_or_default()))
            }
            (_, None) => (default, SettingFrom::Default),
        };
        // A peer may be a ticket or a code.
        let value = value.map(|value| without_parts_of_tickets(&value).into_owned());
        Setting { name, value, from }
    });
    ConfigSettings { settings: settings.collect() }
}

/// The text after `default: ` in the help of a flag.
fn default(help: &str) -> Option<String> {
    let (_, rest) = help.split_once("[default: ")?;
    rest.split_once(']').map(|(default, _)| default.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ticket::TICKET;

    fn shown(text: &str, profile: Option<&str>) -> BTreeMap<String, (Option<String>, SettingFrom)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, text).unwrap();
        let file = ConfigFile::load(Some(&path)).unwrap();
        let settings = resolve(&file, profile).settings.into_iter();
        settings.map(|Setting { name, value, from }| (name, (value, from))).collect()
    }

    #[test]
    fn each_setting_says_where_it_comes_from() {
        let text = "memory = \"32M\"\nno-fsync = true\n[profile.n]\nmemory = \"64M\"\nsources = [\"a\"]";
        let all = shown(text, Some("n"));
        assert_eq!(all["memory"], (Some("64M".to_owned()), SettingFrom::Profile("n".to_owned())));
        assert_eq!(all["sources"].0.as_deref(), Some("[\"a\"]"));
        assert!(
            matches!(&all["no-fsync"], (Some(value), SettingFrom::File(path)) if value == "true" && path.ends_with("c.toml"))
        );
        assert_eq!(all["timeout"], (Some("30s".to_owned()), SettingFrom::Default));
        assert_eq!(all["manifest"], (None, SettingFrom::Default));
        let all = shown(text, None);
        assert!(matches!(&all["memory"], (Some(value), SettingFrom::File(_)) if value == "32M"));
        assert!(!all.contains_key("sources") && !all.contains_key("help") && !all.contains_key("config"));
    }

    #[test]
    fn attack_8_a_ticket_or_code_in_the_file_is_not_shown() {
        let all = shown(&format!("from = \"{TICKET}\"\nto = \"host/7-octopus-lantern\"\n"), None);
        let (from, to) = (all["from"].0.clone().unwrap(), all["to"].0.clone().unwrap());
        assert!(!TICKET.contains(&from) && !from.contains(&TICKET[10..30]), "{from}");
        assert!(!to.contains("octopus") && !to.contains("lantern"), "{to}");
    }
}
