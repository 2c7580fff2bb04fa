//! `--manifest FILE`: one line per file, for `b3sum --check FILE` in the target directory.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;
use tokio::sync::watch;

use super::spool::Spool;
use crate::event::{Event, FileSettled, Report, Reporter, TransferId};
use crate::protocol::failure::{Failure, Reason};
use crate::protocol::path::{RelPath, printable};

/// Writes a line for each file that arrived, and passes every event on.
pub(super) struct WithManifest {
    path: PathBuf,
    place: ManifestPlace,
    inner: Arc<dyn Reporter>,
    lines: Mutex<ManifestLines>,
}

/// Where the lines end up.
enum ManifestPlace {
    /// In a regular file, new or existing. It gets its name, and replaces what was there, when the transfer has
    /// succeeded.
    File { directory: PathBuf, name: PathBuf },
    /// In a pipe, terminal or device, written as its reader takes the lines.
    Stream(Spool),
}

struct ManifestLines {
    file: BufWriter<File>,
    error: Option<io::Error>,
}

impl WithManifest {
    /// Starts a manifest for `path`. A link is followed.
    pub(super) fn create(path: PathBuf, inner: Arc<dyn Reporter>) -> Result<Arc<Self>, Failure> {
        let (place, file) = open(&path).map_err(|e| failure("create", &path, &e))?;
        let lines = Mutex::new(ManifestLines { file: BufWriter::new(file), error: None });
        Ok(Arc::new(Self { path, place, inner, lines }))
    }

    /// Completes the manifest. `stop` ends the wait for a reader.
    pub(super) async fn finish(&self, stop: &watch::Receiver<Option<Failure>>) -> Result<(), Failure> {
        let written = match (self.flush(), &self.place) {
            (Ok(()), ManifestPlace::Stream(spool)) => spool.finish(stop).await,
            (result, _) => result,
        };
        written.map_err(|e| failure("write", &self.path, &e))
    }

    /// Its path, as given.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the remaining lines, and gives a regular file its name.
    pub(super) fn flush(&self) -> io::Result<()> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = lines.error.take() {
            return Err(error);
        }
        lines.file.flush()?;
        match &self.place {
            ManifestPlace::Stream(_) => Ok(()),
            ManifestPlace::File { directory, name } => give_name(lines.file.get_mut(), directory, name),
        }
    }

    fn add(&self, transfer: Option<TransferId>, settled: &FileSettled) {
        let Some(root) = settled.blake3.filter(|_| settled.is_file) else { return };
        let path = settled.renamed.as_ref().unwrap_or(&settled.path);
        let Some(line) = line(path, root) else {
            let event = Event::Warning {
                path: Some(path.to_string()),
                reason: None,
                message: format!("{path} is not in the manifest: b3sum reads only names that are UTF-8"),
            };
            self.inner.take(Report { transfer, peer: None, event });
            return;
        };
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.error.is_none() {
            lines.error = lines.file.write_all(line.as_bytes()).err();
        }
        // The buffer has just been emptied into the file.
        if lines.file.buffer().len() <= line.len()
            && let ManifestPlace::Stream(spool) = &self.place
        {
            spool.grown();
        }
    }
}

impl Reporter for WithManifest {
    fn take(&self, report: Report) {
        if let Event::File(settled) = &report.event {
            self.add(report.transfer, settled);
        }
        self.inner.take(report);
    }
}

fn open(path: &Path) -> io::Result<(ManifestPlace, File)> {
    let name = match fs::metadata(path) {
        Ok(there) if there.is_file() => path.canonicalize()?,
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => {
            let (spool, file) = Spool::create(path.to_owned())?;
            return Ok((ManifestPlace::Stream(spool), file));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let directory = name.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).to_owned();
    let file = tempfile::tempfile_in(&directory)?;
    Ok((ManifestPlace::File { directory, name }, file))
}

fn give_name(lines: &mut File, directory: &Path, name: &Path) -> io::Result<()> {
    lines.rewind()?;
    let mut named = NamedTempFile::new_in(directory)?;
    io::copy(lines, &mut named)?;
    set_ordinary_mode(named.as_file())?;
    named.as_file().sync_all()?;
    named.persist(name)?;
    Ok(())
}

/// Temporary files are private; a manifest is not a secret.
#[cfg(unix)]
fn set_ordinary_mode(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn set_ordinary_mode(_: &File) -> io::Result<()> {
    Ok(())
}

/// A line as b3sum writes it: a leading backslash marks a name with escapes. `None` for a name that b3sum cannot
/// read.
fn line(path: &RelPath, root: blake3::Hash) -> Option<String> {
    let name = std::str::from_utf8(path.as_bytes()).ok().filter(|name| !name.contains('\u{fffd}'))?;
    let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
    let mark = if escaped == name { "" } else { "\\" };
    Some(format!("{mark}{root}  {escaped}\n"))
}

fn failure(op: &str, path: &Path, error: &io::Error) -> Failure {
    let path = printable(path.as_os_str().as_encoded_bytes());
    Failure::new(Reason::Storage, format!("cannot {op} the manifest {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::session::Nobody;

    fn settled(name: &str) -> Event {
        Event::File(FileSettled {
            path: RelPath::new(name.as_bytes()).unwrap(),
            renamed: None,
            is_file: true,
            size: 0,
            blake3: Some(blake3::hash(b"")),
            outcome: crate::event::Outcome::Written,
            message: None,
            removed: None,
        })
    }

    #[tokio::test]
    async fn a_manifest_gets_its_name_at_the_end_and_follows_a_link() {
        let temp = tempfile::tempdir().unwrap();
        let (real, link) = (temp.path().join("real"), temp.path().join("link"));
        fs::write(&real, "before").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let names = || fs::read_dir(temp.path()).unwrap().count();
        let manifest = WithManifest::create(link.clone(), Arc::new(Nobody)).unwrap();
        manifest.report(settled("a"));
        assert_eq!((fs::read_to_string(&real).unwrap().as_str(), names()), ("before", 2));
        manifest.finish(&watch::channel(None).1).await.unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), format!("{}  a\n", blake3::hash(b"")));
        assert!(link.is_symlink());
        assert_eq!(names(), 2);
    }

    #[tokio::test]
    async fn a_device_is_written_to_and_stays_a_device() {
        let manifest = WithManifest::create("/dev/null".into(), Arc::new(Nobody)).unwrap();
        assert!(matches!(manifest.place, ManifestPlace::Stream(_)));
        manifest.report(settled("a"));
        manifest.finish(&watch::channel(None).1).await.unwrap();
        let failure = WithManifest::create(std::env::temp_dir(), Arc::new(Nobody)).err().unwrap();
        assert_eq!(failure.reason, Reason::Storage);
    }

    #[test]
    fn lines_have_the_form_of_b3sum() {
        let root = blake3::hash(b"");
        let line = |name: &[u8]| line(&RelPath::new(name).unwrap(), root);
        assert_eq!(line(b"a b").unwrap(), format!("{root}  a b\n"));
        assert_eq!(line(b"a\\b\nc").unwrap(), format!("\\{root}  a\\\\b\\nc\n"));
        assert_eq!(line(b"\xff"), None);
    }
}
