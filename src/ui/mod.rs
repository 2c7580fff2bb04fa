//! What people and scripts see: bars, plain lines or JSON. The only place that prints.
//!
//! Standard output carries data and JSON, standard error everything else. What is shown never decides how a transfer
//! ends: a write that fails ends nothing, and only [`Ui::finish`] tells of it. Nor does a write hold anything up: only
//! the thread of an `outlet` waits for whoever reads.

mod advice;
mod ask;
mod bars;
mod bench;
mod changes;
mod complaint;
mod desk;
pub mod format;
mod json;
mod narrator;
mod options;
mod outlet;
mod output;
mod paint;
mod peer_lines;
mod qr;
mod remaining;
mod setting;
mod summary;

pub use self::options::{Color, Options, Qr};
pub use self::outlet::ReaderPatience;
pub use self::output::{LogWriter, Ui, complain, complain_as_it_stands};
