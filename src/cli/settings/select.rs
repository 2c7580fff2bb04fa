//! Which of the sources `towline send` sends.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::archive::resolve_fidelity;
use crate::cli::args::{ArchiveArgs, SelectArgs};
use crate::cli::config::Config;
use crate::protocol::path::{RelPath, printable};
use crate::storage::fs::{Filters, Selection};

/// Bytes of a list of paths or patterns.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// `stdin` is `None` where something else is read from it.
pub(super) fn resolve_selection(
    (given, archive): (SelectArgs, &ArchiveArgs),
    config: &Config,
    sources: &[PathBuf],
    stdin: Option<&mut dyn Read>,
) -> Result<Selection> {
    let or = |given: Vec<String>, config: &[String]| if given.is_empty() { config.to_vec() } else { given };
    let files = if given.exclude_from.is_empty() { config.exclude_from.clone() } else { given.exclude_from };
    let mut patterns = Vec::new();
    for file in files {
        let shown = printable(file.as_os_str().as_bytes());
        let text = read_list(&file).with_context(|| format!("cannot read --exclude-from {shown}"))?;
        let text = String::from_utf8(text).map_err(|_| anyhow!("--exclude-from {shown} is not UTF-8"))?;
        patterns.extend(text.lines().map(str::to_owned));
    }
    patterns.extend(or(given.exclude, &config.exclude));
    for pattern in or(given.include, &config.include) {
        ensure!(!pattern.starts_with('!'), "--include {pattern}: a pattern to include has no `!`");
        patterns.push(format!("!{pattern}"));
    }
    let ends_with_slash = |source: &&PathBuf| source.as_os_str().as_bytes().ends_with(b"/");
    let slash = sources.iter().find(ends_with_slash);
    let contents = given.contents.or(config.contents).unwrap_or(false) || slash.is_some();
    if contents && sources.len() > 1 {
        let why = slash.map_or_else(
            || "--contents".to_owned(),
            |source| format!("`{}`, which ends with `/`,", printable(source.as_os_str().as_bytes())),
        );
        bail!(
            "{why} means what is in the directory and works for one SOURCE: remove it, or send each by itself"
        );
    }
    let only = match given.files_from.or_else(|| config.files_from.clone()) {
        None => None,
        Some(list) => {
            ensure!(sources.len() == 1, "the paths of --files-from are relative to one SOURCE");
            Some(read_paths(&list, given.null.or(config.null).unwrap_or(false), stdin)?)
        }
    };
    let (size_min, size_max) = (given.min_size.or(config.min_size), given.max_size.or(config.max_size));
    if let (Some(min), Some(max)) = (size_min, size_max) {
        ensure!(min <= max, "--min-size is greater than --max-size, so no file would be sent");
    }
    let filters = Filters {
        patterns,
        ignore_files: given.ignore_files.or(config.ignore_files).unwrap_or(false),
        only,
        one_file_system: given.one_file_system.or(config.one_file_system).unwrap_or(false),
        size_min,
        size_max,
        contents,
        fidelity: resolve_fidelity(archive, config),
    };
    Selection::new(filters).map_err(|error| anyhow!(error))
}

fn read_paths(list: &Path, ends_with_null: bool, stdin: Option<&mut dyn Read>) -> Result<BTreeSet<RelPath>> {
    let shown = printable(list.as_os_str().as_bytes());
    let bytes = if list.as_os_str() == "-" {
        let stdin = stdin.context("standard input is not free for --files-from - here: give it a file")?;
        limited(stdin).context("cannot read --files-from from standard input")?
    } else {
        read_list(list).with_context(|| format!("cannot read --files-from {shown}"))?
    };
    let mut paths = BTreeSet::new();
    for (number, line) in bytes.split(|byte| *byte == if ends_with_null { 0 } else { b'\n' }).enumerate() {
        if line.is_empty() {
            continue;
        }
        // As `find` prints them.
        let tidy: PathBuf = Path::new(OsStr::from_bytes(line)).components().collect();
        let tidy = tidy.strip_prefix(".").unwrap_or(&tidy);
        let path = RelPath::new(tidy.as_os_str().as_bytes()).map_err(|error| {
            anyhow!("--files-from {shown}, path {}, {}: {error}", number + 1, printable(line))
        })?;
        paths.insert(path);
    }
    ensure!(!paths.is_empty(), "--files-from {shown} has no path, so nothing would be sent");
    Ok(paths)
}

fn read_list(path: &Path) -> Result<Vec<u8>> {
    limited(&mut File::open(path)?)
}

fn limited(from: &mut dyn Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= LIST_BYTES_MAX, "it is larger than {LIST_BYTES_MAX} bytes");
    Ok(bytes)
}
