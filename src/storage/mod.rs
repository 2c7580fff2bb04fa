//! Disks: the traits a sender reads from and a receiver writes to, and the file system behind them.
//!
//! Calls are asynchronous, so a slow disk never blocks the network. They work on batches, so ten thousand small files
//! do not cost ten thousand thread switches.

pub mod block;
mod error;
pub mod fs;
mod lookup;
mod roots;
mod source;
pub mod stdio;
mod target;
pub mod void;

pub use self::error::{Result, StorageError};
pub use self::lookup::look_and_prepare;
pub use self::roots::{read_again, source_roots};
pub use self::source::{SmallBatch, Source, Verdict, Walk, Walked};
pub use self::target::{Commit, Final, Target, Write};
