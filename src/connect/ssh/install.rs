//! A copy of this program for a machine that has none.

use std::env::consts::{ARCH, OS};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;

use super::introduction::Unheard;
use crate::transport::BytePipe;

/// Bytes that are read at once.
const READ_BYTES: usize = 256 * 1024;
/// Characters of the hash in the name of the directory.
const HASH_CHARS: usize = 16;

/// What is done on a machine without a towline that this one can talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Install {
    /// A copy of this one goes there.
    Yes,
    /// Nothing.
    Never,
    /// Nothing, but the user is told how.
    Unsaid,
}

/// This program, as a file.
#[derive(Debug)]
pub(super) struct Program {
    file: File,
    pub(super) bytes: u64,
    /// SHA-256, which every system has a program for.
    hash: String,
}

impl Program {
    /// Opens and hashes it.
    pub(super) fn of_this_process() -> io::Result<Self> {
        // Also when the file was replaced meanwhile.
        let path = if OS == "linux" { PathBuf::from("/proc/self/exe") } else { std::env::current_exe()? };
        let (mut file, mut context, mut bytes) = (File::open(&path)?, Context::new(&SHA256), 0);
        let mut room = vec![0; READ_BYTES];
        loop {
            match file.read(&mut room)? {
                0 => break,
                len => {
                    context.update(&room[..len]);
                    bytes += len as u64;
                }
            }
        }
        Ok(Self { file: File::open(&path)?, bytes, hash: HEXLOWER.encode(context.finish().as_ref()) })
    }

    /// The name of its directory in `~/.cache/towline`: version and hash.
    pub(super) fn dir(&self) -> String {
        format!("{}-{}", env!("CARGO_PKG_VERSION"), &self.hash[..HASH_CHARS])
    }

    /// Where it goes, for people.
    pub(super) fn place(&self) -> String {
        format!("~/.cache/towline/{}/towline", self.dir())
    }

    /// Whether it runs on a machine of which `uname -sm` says `system`.
    pub(super) fn runs_on(system: &str) -> bool {
        let name = if OS == "linux" { "Linux" } else { OS };
        system == format!("{name} {ARCH}")
    }

    /// Tells the script at the other end of `pipe` size and hash, and sends all bytes. What the script says to that comes
    /// as the next line.
    pub(super) async fn send_through(&mut self, pipe: &BytePipe) -> Result<(), Unheard> {
        pipe.write_all(format!("{} {}\n", self.bytes, self.hash).as_bytes()).await?;
        let mut room = vec![0; READ_BYTES];
        let mut left = self.bytes;
        while left > 0 {
            let len = self.file.read(&mut room)?;
            if len == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
            if pipe.write_all(&room[..len]).await.is_err() {
                // It has given up, and says why.
                return Ok(());
            }
            left -= len as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_system_and_architecture_fit() {
        let own = std::process::Command::new("uname").arg("-sm").output().unwrap();
        assert!(Program::runs_on(String::from_utf8(own.stdout).unwrap().trim()));
        assert!(!Program::runs_on("Linux sparc64") && !Program::runs_on("Plan9 x86_64"));
    }
}
