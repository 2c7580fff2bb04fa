//! The words of flags that take one of a few, and what the help says about each.

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::de::{Deserialize, Deserializer, Error};

use crate::app::settings::{Delta, Exists, IdAction, Right};
use crate::node::peers::exists_word;
use crate::transport::Congestion;
use crate::ui::{Color, Qr};

impl ValueEnum for Exists {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Refuse, Self::Skip, Self::Replace, Self::Rename]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(exists_word(*self)).help(match self {
            Self::Refuse => "Do not receive the file; the exit code is then 5",
            Self::Skip => "Keep the existing file; this is not an error",
            Self::Replace => "Replace the existing file",
            Self::Rename => "Save the new file under another name",
        }))
    }
}

impl ValueEnum for Right {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Send, Self::Receive, Self::Archive, Self::Delete]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Send => PossibleValue::new("send").help("Send to this machine"),
            Self::Receive => PossibleValue::new("receive").help("Receive what this machine offers"),
            Self::Archive => PossibleValue::new("archive").help("Keep owners and the like of what it sends"),
            Self::Delete => PossibleValue::new("delete").help("Use send --delete at a receiver that stays"),
        })
    }
}

impl ValueEnum for Delta {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Off]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Auto => PossibleValue::new("auto").help("Where that saves time on the path at hand"),
            Self::Off => PossibleValue::new("off").help("Send each file whole"),
        })
    }
}

impl ValueEnum for Congestion {
    /// [`Congestion::Background`] has a flag of its own.
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Cubic, Self::NewReno]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Auto => PossibleValue::new("auto").help("By delivery rate and round-trip time"),
            Self::Cubic => PossibleValue::new("cubic").help("CUBIC (RFC 9438)"),
            Self::NewReno => PossibleValue::new("newreno").help("NewReno (RFC 9002)"),
            Self::Background => return None,
        })
    }
}

impl ValueEnum for Color {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Always, Self::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Auto => PossibleValue::new("auto").help("On a terminal, unless NO_COLOR is set"),
            Self::Always => PossibleValue::new("always").help("Even into a file"),
            Self::Never => PossibleValue::new("never").help("No colours"),
        })
    }
}

impl ValueEnum for Qr {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Always, Self::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Auto => PossibleValue::new("auto").help("On a terminal"),
            Self::Always => PossibleValue::new("always").help("Even into a file"),
            Self::Never => PossibleValue::new("never").help("No QR code"),
        })
    }
}

impl ValueEnum for IdAction {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Show, Self::New]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Show => PossibleValue::new("show")
                .help("Print the fingerprint; the identity is made when there is none"),
            Self::New => PossibleValue::new("new")
                .help("Make a new identity; peers that knew the old one no longer accept this machine"),
        })
    }
}

/// One of the words of `T`, from the config file.
pub(super) fn word<'de, D: Deserializer<'de>, T: ValueEnum>(from: D) -> Result<Option<T>, D::Error> {
    let word = String::deserialize(from)?;
    let found = T::value_variants()
        .iter()
        .find(|value| value.to_possible_value().is_some_and(|known| known.matches(&word, false)));
    found.cloned().map(Some).ok_or_else(|| {
        let known: Vec<_> = T::value_variants().iter().filter_map(T::to_possible_value).collect();
        let known: Vec<_> = known.iter().map(PossibleValue::get_name).collect();
        D::Error::custom(format!("`{word}` is not one of {}", known.join(", ")))
    })
}
