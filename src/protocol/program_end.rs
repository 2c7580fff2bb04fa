//! How a program ended that the receiver ran after a transfer.

/// How a program ended that the receiver ran after a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramEnd {
    /// With this exit code.
    Exited(u8),
    /// By this signal.
    Killed(u8),
    /// It took too long and was killed.
    TimedOut,
    /// It could not be started.
    NotStarted,
}

impl ProgramEnd {
    /// Whether it has done its work.
    pub fn is_success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The numbers on the wire.
    pub fn code(self) -> [u8; 2] {
        match self {
            Self::Exited(code) => [0, code],
            Self::Killed(signal) => [1, signal],
            Self::TimedOut => [2, 0],
            Self::NotStarted => [3, 0],
        }
    }

    /// The end with these numbers.
    pub fn from_code(code: [u8; 2]) -> Option<Self> {
        match code {
            [0, code] => Some(Self::Exited(code)),
            [1, signal] => Some(Self::Killed(signal)),
            [2, 0] => Some(Self::TimedOut),
            [3, 0] => Some(Self::NotStarted),
            _ => None,
        }
    }
}
