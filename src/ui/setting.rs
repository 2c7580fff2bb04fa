//! A line of `towline config`.

use crate::event::{Setting, SettingFrom};

/// `memory = 128M  (profile nightly)`.
pub(super) fn setting_line(setting: &Setting) -> String {
    let Setting { name, value, from } = setting;
    let from = match from {
        SettingFrom::Variable(name) => format!("variable {name}"),
        SettingFrom::Profile(name) => format!("profile {name}"),
        SettingFrom::File(path) => path.clone(),
        SettingFrom::Default => "default".to_owned(),
    };
    format!("{name} = {}  ({from})\n", value.as_deref().unwrap_or("-"))
}
