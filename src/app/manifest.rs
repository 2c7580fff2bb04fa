//! `--manifest FILE`: a line a file that `b3sum --check FILE` accepts in the target directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{Event, FileSettled, Reporter};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::{RelPath, printable};

/// Writes a line for each file that is there, and passes every event on.
pub(super) struct WithManifest {
    path: PathBuf,
    partial: PathBuf,
    inner: Arc<dyn Reporter>,
    lines: Mutex<Lines>,
}

struct Lines {
    file: BufWriter<File>,
    error: Option<io::Error>,
}

impl WithManifest {
    /// Begins beside `path`, which gets its name when the transfer has ended well.
    pub(super) fn create(path: PathBuf, inner: Arc<dyn Reporter>) -> Result<Arc<Self>, Failure> {
        let mut partial = OsString::from(path.as_os_str());
        partial.push(format!(".partial-{}", std::process::id()));
        let partial = PathBuf::from(partial);
        let file = File::create(&partial).map_err(|e| failure("create", &path, &e))?;
        let lines = Mutex::new(Lines { file: BufWriter::new(file), error: None });
        Ok(Arc::new(Self { path, partial, inner, lines }))
    }

    /// Gives the file its name.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match lines.error.take() {
            Some(error) => Err(error),
            None => lines.file.flush().and_then(|()| lines.file.get_ref().sync_all()),
        };
        written
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .map_err(|e| failure("write", &self.path, &e))
    }

    fn add(&self, settled: &FileSettled) {
        let Some(root) = settled.blake3.filter(|_| settled.is_file) else { return };
        let path = settled.renamed.as_ref().unwrap_or(&settled.path);
        let Some(line) = line(path, root) else {
            self.inner.report(Event::Warning {
                path: Some(path.to_string()),
                reason: None,
                message: format!("{path} is not in the manifest: b3sum reads only names that are UTF-8"),
            });
            return;
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.error.is_none() {
            lines.error = lines.file.write_all(line.as_bytes()).err();
        }
    }
}

impl Reporter for WithManifest {
    fn report(&self, event: Event) {
        if let Event::File(settled) = &event {
            self.add(settled);
        }
        self.inner.report(event);
    }
}

impl Drop for WithManifest {
    fn drop(&mut self) {
        // Gone already when it was given its name.
        let _ = fs::remove_file(&self.partial);
    }
}

/// As b3sum writes and reads it: a backslash in front marks a name with escapes. `None` for a name that it cannot
/// read.
fn line(path: &RelPath, root: blake3::Hash) -> Option<String> {
    let name = std::str::from_utf8(path.as_bytes()).ok().filter(|name| !name.contains('\u{fffd}'))?;
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    Some(format!("{mark}{root}  {escaped}\n"))
}

fn failure(op: &str, path: &std::path::Path, error: &io::Error) -> Failure {
    let path = printable(path.as_os_str().as_encoded_bytes());
    Failure::new(Reason::Storage, format!("cannot {op} the manifest {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_b3sum() {
        let root = blake3::hash(b"");
        let line = |name: &[u8]| line(&RelPath::new(name).unwrap(), root);
        assert_eq!(line(b"a b").unwrap(), format!("{root}  a b\n"));
        assert_eq!(line(b"a\\b\nc").unwrap(), format!("\\{root}  a\\\\b\\nc\n"));
        assert_eq!(line(b"\xff"), None);
    }
}
