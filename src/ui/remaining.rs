//! Sources that `--remove-source` left where they are.

use super::format;

/// Why they stay, and one of them.
pub(super) fn sentence(path: &str, cause: &str, count: u64) -> String {
    match count {
        1 => format!("{path} was not removed: {cause}"),
        _ => {
            format!("{} were not removed, such as {path}: {cause}", format::count(count, "source", "sources"))
        }
    }
}
