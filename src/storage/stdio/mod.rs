//! Standard input and output: one file that is read once, or written once, from its start to its end.

mod pipe;
mod source;
mod target;

pub use self::source::{StdinSource, StdinWalk};
pub use self::target::StdoutTarget;
