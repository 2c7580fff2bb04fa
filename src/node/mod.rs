//! What there is once per process: signals, and what the host allows it.

pub mod host;
pub mod processor;
pub mod quota;
pub mod signals;
