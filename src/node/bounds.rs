//! Bounds of what a receiver takes, as people write them: `entries=1000`, in flags and files alike.

use super::size::{exact, parse_size};
use crate::storage::fs::Bounds;

/// What stands before the `=`.
const KEYS: &str = "entries, size, file-size, depth, name, path, free or only";

/// Adds what `text` says to `bounds`.
///
/// # Errors
///
/// A sentence for people.
pub fn add_bound(bounds: &mut Bounds, text: &str) -> Result<(), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE, with KEY {KEYS}"))?;
    let number = || value.parse::<u64>().map_err(|_| format!("`{value}` is not a whole number"));
    match key {
        "entries" => bounds.entries_max = Some(number()?),
        "size" => bounds.size_max = Some(parse_size(value)?),
        "file-size" => bounds.file_size_max = Some(parse_size(value)?),
        "depth" => bounds.depth_max = Some(number()?),
        "name" => bounds.name_bytes_max = Some(number()?),
        "path" => bounds.path_bytes_max = Some(number()?),
        "free" => bounds.free_min = Some(parse_size(value)?),
        "only" => {
            bounds.only.push(value.to_owned());
            bounds.patterns()?;
        }
        _ => return Err(format!("`{key}` is not one of {KEYS}")),
    }
    Ok(())
}

/// All that `texts` say.
///
/// # Errors
///
/// A sentence for people, which names the text.
pub fn bounds_of<T: AsRef<str>>(texts: &[T]) -> Result<Bounds, String> {
    let mut bounds = Bounds::default();
    for text in texts.iter().map(AsRef::as_ref) {
        add_bound(&mut bounds, text).map_err(|error| format!("{text}: {error}"))?;
    }
    Ok(bounds)
}

/// The texts that say `bounds`.
pub fn texts_of(bounds: &Bounds) -> Vec<String> {
    let number = |number: u64| number.to_string();
    let written = [
        ("entries", bounds.entries_max.map(number)),
        ("size", bounds.size_max.map(exact)),
        ("file-size", bounds.file_size_max.map(exact)),
        ("depth", bounds.depth_max.map(number)),
        ("name", bounds.name_bytes_max.map(number)),
        ("path", bounds.path_bytes_max.map(number)),
        ("free", bounds.free_min.map(exact)),
    ];
    let written = written.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let patterns = bounds.only.iter().map(|pattern| ("only", pattern.clone()));
    written.chain(patterns).map(|(key, value)| format!("{key}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let all = [
            "entries=10",
            "size=50G",
            "file-size=1000",
            "depth=8",
            "name=100",
            "path=1000",
            "free=10G",
            "only=*.tar",
            "only=a=b/",
        ];
        assert_eq!(texts_of(&bounds_of(&all).unwrap()), all);
        assert_eq!(texts_of(&Bounds::default()), Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("entries", "expected KEY=VALUE"),
            ("entry=1", "`entry` is not one of entries, size"),
            ("entries=many", "`many` is not a whole number"),
            ("size=1X", "expected a number of bytes"),
            ("only=a{b", "`a{b` is not a valid pattern"),
        ] {
            let error = bounds_of(&[text]).unwrap_err();
            assert!(error.starts_with(text) && error.contains(why), "{error}");
        }
    }
}
