//! How the two sides find each other: one listens, the other dials.

mod again;
mod connected;
mod dial;
mod extra;
mod listen;
mod nearby;
mod pair;
mod slot;
mod ssh;
mod stay;
mod terms;
mod waiting;
mod whereabouts;

#[cfg(test)]
mod tests;

pub use connected::{Connected, Keeper};
pub use dial::{Destination, dial};
pub use listen::{Invitation, listen};
pub use pair::pair;
pub use ssh::{Install, Remote, SPEAKS, dial_by_ssh, introduced};
pub use stay::Staying;
pub use terms::Terms;
pub use waiting::Stop;
