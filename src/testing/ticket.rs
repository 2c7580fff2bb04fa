//! A ticket for tests.

/// A ticket that leads nowhere.
pub(crate) const TICKET: &str = "tl1chaaaaqhckhcaainxaaaaaaaaaaaaaaaaaaap777ljnfuws2ljnfuws2ljnfuws2ljnfuws2uws2ljnfuws2ljnfuws2ljnfuxp7wnsx";
