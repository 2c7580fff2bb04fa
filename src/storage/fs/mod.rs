//! The file system.
//!
//! Every access starts at an open directory and goes down one component at a time without following links. So nothing
//! outside the source or the target is reached, whatever is swapped meanwhile. Calls run on tokio's blocking threads, one
//! call per batch or block; network threads make those for blocks themselves while the disk does not wait (`calls.rs`).

mod acl;
mod attributes;
mod blocking;
mod bounds;
mod calls;
mod check;
mod checkpoint;
mod commit;
mod descriptors;
mod dirs;
mod existing;
mod extras;
mod final_files;
mod finish_dirs;
mod ids;
mod incoming;
mod journal;
mod journal_file;
mod kept_time;
mod known_roots;
mod lacking;
mod lacks;
mod left_over;
mod look;
mod moving;
mod names_made;
mod naming;
mod numbered;
mod old_files;
mod open;
mod origin;
mod partial;
mod partial_names;
#[cfg(test)]
mod partial_tests;
mod partials;
mod peer_quota;
mod pending_set;
mod prepare;
mod read_attributes;
mod read_back;
mod read_old;
mod remove_extras;
mod resume;
mod reveal;
mod roll_forward;
pub mod sample;
mod selection;
mod set_attributes;
mod set_log;
mod set_steps;
#[cfg(test)]
mod set_tests;
#[cfg(test)]
pub(crate) mod simulation;
mod source;
mod space;
mod staged_files;
mod staging;
mod sys;
mod target;
mod target_dir;
mod target_disk;
#[cfg(test)]
mod tests;
mod trust;
mod volumes;
mod walk;
mod watch;

pub(super) use self::blocking::blocking;
pub use self::bounds::Bounds;
pub use self::calls::NetworkThreads;
pub use self::check::check_target;
pub use self::incoming::Incoming;
pub use self::left_over::{discard_partials, list_partials};
pub use self::moving::{Remaining, Version};
pub use self::peer_quota::{PeerQuota, Usage};
pub use self::read_attributes::Fidelity;
pub use self::roll_forward::roll_forward;
pub use self::selection::{Filters, Selection};
pub use self::source::{FsFile, FsSource, FsWalk};
pub use self::space::free_bytes;
pub use self::target::FsTarget;
pub use self::target_dir::TargetDir;
