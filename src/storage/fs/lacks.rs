//! Attributes that a file system cannot keep. The content matters most, so this is only reported.

use rustix::io::Errno;

use crate::protocol::not_kept::Aspect;

/// Attributes not kept of one entry, with the system's errors.
pub(super) type Lacks = Vec<(Aspect, Errno)>;

/// Whether an error means that a file system cannot keep an attribute, rather than that it has failed.
pub(super) fn is_lacking(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOTTY
    )
}

/// Whether an error of a sync says that there is no such sync, for this file system or of this descriptor. EACCES and
/// EPERM say that a write has failed: a server has refused it after all.
pub(super) fn is_lacking_sync(errno: Errno) -> bool {
    matches!(errno, Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::BADF)
}

/// A missing attribute is not a reason to refuse an entry.
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
