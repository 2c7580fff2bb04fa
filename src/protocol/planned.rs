//! What a transfer would do to an entry, as a dry run tells it.

/// What a transfer would do to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planned {
    /// Nothing has its name.
    Create,
    /// It would replace what has its name.
    Replace,
    /// What is there would get its attributes.
    Update,
    /// It would get another name.
    Rename,
}
