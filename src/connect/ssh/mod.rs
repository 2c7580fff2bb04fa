//! Two sides that meet by ssh: one starts ssh, which starts the other. They introduce themselves over its pipes.

mod blame;
mod here;
mod install;
mod introduction;
pub(super) mod program;
mod shell;
mod there;

pub use here::dial_by_ssh;
pub use install::Install;
pub use program::{Remote, SPEAKS};
pub use there::introduced;
