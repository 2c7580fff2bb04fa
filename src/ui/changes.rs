//! What a dry run prints.

use crate::event::Change;

/// `create<TAB>path`, with a slash after a directory; `rename<TAB>path<TAB>other path`.
pub(super) fn change_line(change: &Change) -> String {
    let Change { kind, path, renamed, is_dir, .. } = change;
    let slash = if *is_dir { "/" } else { "" };
    let renamed = renamed.as_ref().map(|to| format!("\t{to}")).unwrap_or_default();
    format!("{}\t{path}{slash}{renamed}\n", kind.as_str())
}
