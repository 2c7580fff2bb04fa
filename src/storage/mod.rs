//! The disks: what a sender reads from and a receiver writes to, as traits, and the file system behind them.
//!
//! Calls are asynchronous so that a slow disk never holds up the network, and work on batches so that ten
//! thousand small files do not cost ten thousand hops between threads.

pub mod block;
mod error;
pub mod fs;
mod lookup;
mod roots;
mod source;
mod target;
pub mod void;

pub use self::error::{Result, StorageError};
pub use self::lookup::look_and_prepare;
pub use self::roots::{read_again, source_roots};
pub use self::source::{SmallBatch, Source, Verdict, Walk, Walked};
pub use self::target::{Commit, Final, Target, Write};
