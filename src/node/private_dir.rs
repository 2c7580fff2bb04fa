//! Directories for files of this user only.

use std::fs;
use std::io;
use std::path::Path;

/// Makes `dir` and those above it, for this user only. Existing ones stay as they are.
pub(super) fn create(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}
