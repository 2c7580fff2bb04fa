//! `send --receipt FILE`: keeps the receiver's receipt.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::auth::Receipt;
use crate::event::{Event, Reporter, Summary};
use crate::protocol::failure::{Failure, Reason, Side};
use crate::protocol::path::printable;

/// Where a receipt goes. It gets its name once it is there.
pub(super) struct ReceiptFile {
    path: PathBuf,
    directory: PathBuf,
    file: NamedTempFile,
}

impl ReceiptFile {
    /// Prepares for a receipt in `path`. A file that is there is replaced at the end.
    pub(super) fn create(path: PathBuf) -> Result<Self, Failure> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new(".")).to_owned();
        let made = match path.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => NamedTempFile::new_in(&directory),
        };
        match made {
            Ok(file) => Ok(Self { path, directory, file }),
            Err(error) => Err(failure("create", &path, &error)),
        }
    }

    /// Keeps the receipt of a transfer that has ended. Without a valid one, the transfer has failed.
    pub(super) fn keep(mut self, summary: &Summary, reporter: &dyn Reporter) -> Result<(), Failure> {
        let text = match &summary.receipt {
            Some(Ok(text)) => text,
            Some(Err(why)) => return Err(invalid(why)),
            None => return Err(invalid("it was not asked for one")),
        };
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.as_file().sync_all());
        let path = self.path.clone();
        let kept = written.and_then(|()| {
            self.file.persist(&self.path)?;
            File::open(&self.directory)?.sync_all()
        });
        kept.map_err(|error| failure("write", &path, &error))?;
        if text.parse::<Receipt>().is_ok_and(|receipt| !receipt.statement.is_lasting) {
            let message = "the receiver signed the receipt with a key for this run only, so nobody can tell later whose it was";
            let message = message.to_owned();
            reporter.report(Event::Warning { path: None, reason: None, message });
        }
        Ok(())
    }
}

fn invalid(why: &str) -> Failure {
    let message = format!("everything has arrived, but the receiver gave no valid receipt: {why}");
    Failure::on(Side::Receiver, Reason::Verification, message)
}

fn failure(op: &str, path: &Path, error: &io::Error) -> Failure {
    let path = printable(path.as_os_str().as_encoded_bytes());
    Failure::on(Side::Sender, Reason::Setup, format!("cannot {op} the receipt {path}: {error}"))
}
