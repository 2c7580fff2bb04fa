//! A ticket for tests.

/// A ticket that leads nowhere.
pub(crate) const TICKET: &str = "tl1aicmaaaca4ji4braaeg3qaaaaaaaaaaaaaaaaaah777vuws2ljnfuws2ljnfuws2ljnfuws2ljnfuws2ljnfuws2ljnfuwvfuws2ljnfuws2ljnfuws2ljnf7vb6rvi";
