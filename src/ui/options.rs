//! What to show, and how.

use std::io::{self, IsTerminal};

/// What to show and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// JSON Lines on standard output.
    pub json: bool,
    /// Nothing but errors.
    pub quiet: bool,
    /// 1, 2, 3: more and more.
    pub verbose: u8,
    /// Bars, where there is a terminal.
    pub progress: bool,
    /// When to use colours.
    pub color: Color,
    /// When to draw the ticket as a QR code.
    pub qr: Qr,
    /// This side lets in the one machine that `--fingerprint` names without the ticket.
    pub known_dialler: bool,
    /// Standard output is for the data of the transfer, so JSON goes to standard error.
    pub data_on_stdout: bool,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// When to draw the ticket as a QR code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Qr {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    #[default]
    Never,
}

impl Qr {
    /// The choice for standard error.
    pub(super) fn decide(self) -> bool {
        match self {
            Self::Auto => io::stderr().is_terminal(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

impl Color {
    /// The choice for standard error.
    pub(super) fn decide(self) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => io::stderr().is_terminal() && !set("NO_COLOR") && !is_dumb(),
        }
    }
}

pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}
