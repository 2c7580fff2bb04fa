//! Checks whether a directory can be a target.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path};

use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::protocol::path::printable;
use crate::protocol::place::Place;
use crate::storage::error::{Result, failed};

/// Whether `dir` can be a target, checked without making anything: the nearest existing one of `dir` and the
/// directories above it must be a directory that this process may write to.
pub fn check_target(dir: &Path) -> Result<()> {
    let whole = path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let shown = || Place::target_directory(printable(whole.as_os_str().as_bytes()));
    for part in whole.ancestors() {
        match fs::metadata(part) {
            Ok(there) if !there.is_dir() => return Err(failed("write to", shown(), Errno::NOTDIR)),
            Ok(_) => {
                return access(part, Access::WRITE_OK | Access::EXEC_OK)
                    .map_err(|errno| failed("write to", shown(), errno));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("open", shown(), error)),
        }
    }
    Ok(())
}
