//! Congestion control by rate, in the manner of BBRv3 (draft-ietf-ccwg-bbr); `docs/congestion.md` tells the story.
//!
//! quinn's pacer sends 1.25 windows a round trip whatever the controller wants, so this one steers by the window
//! alone: a share of what the path holds (bandwidth × least round trip), and no more.

mod controller;
mod cycle;
mod phase;
mod quinn;
mod resume;
mod rounds;
mod window;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use controller::RateController;
pub(crate) use phase::Manner;
pub(crate) use quinn::RateConfig;
