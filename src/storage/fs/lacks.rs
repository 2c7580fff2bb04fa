//! Attributes that a file system cannot keep. The content matters most, so this is only reported.

use std::fmt;

use rustix::io::Errno;

use crate::protocol::not_kept::Aspect;

/// Attributes not kept of one entry, and why.
pub(super) type Lacks = Vec<(Aspect, Cause)>;

/// Why an attribute is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The system's error.
    System(Errno),
    /// The sender has not the right.
    NotAllowed,
    /// The system could not say who has the name.
    UnknownName,
    /// They are for another owner than the entry has here.
    OtherOwner,
}

impl From<Errno> for Cause {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => errno.fmt(f),
            Self::UnknownName => f.write_str("the names of its users and groups cannot be looked up now"),
            Self::OtherOwner => f.write_str("it does not have the announced owner here"),
            Self::NotAllowed => f.write_str("this sender may not set it here"),
        }
    }
}

/// Notes an aspect, once for an entry.
pub(super) fn lack(lacks: &mut Lacks, aspect: Aspect, cause: impl Into<Cause>) {
    if !lacks.iter().any(|(known, _)| *known == aspect) {
        lacks.push((aspect, cause.into()));
    }
}

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
            lack(lacks, aspect, errno);
            Ok(())
        }
        other => other,
    }
}
