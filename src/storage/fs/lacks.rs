//! What a file system cannot keep. The content is what counts, so the rest is only told.

use rustix::io::Errno;

use crate::protocol::not_kept::Aspect;

/// What could not be kept of one entry, and what the system said.
pub(super) type Lacks = Vec<(Aspect, Errno)>;

/// Whether an error says that a file system cannot keep something, rather than that it has failed.
pub(super) fn is_lacking(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOTTY
    )
}

/// What the file system cannot keep is no reason to refuse an entry.
pub(super) fn unless_lacking(
    result: Result<(), Errno>,
    aspect: Aspect,
    lacks: &mut Lacks,
) -> Result<(), Errno> {
    match result {
        Err(errno) if is_lacking(errno) => {
            lacks.push((aspect, errno));
            Ok(())
        }
        other => other,
    }
}
