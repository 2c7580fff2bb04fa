//! What a sender asks of its receiver, and what the receiver grants.

use crate::protocol::final_name::Exists;

/// What a sender asks of its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Request {
    /// What to do with existing files; `None` leaves it to the receiver.
    pub exists: Option<Exists>,
    /// Contents are compared although size and time agree.
    pub compares: bool,
}

/// What a receiver does by itself, and what it lets a sender ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// What it does with existing files, unless the sender asks for something else.
    pub exists: Exists,
    /// The most that a sender may ask for.
    pub exists_max: Exists,
    /// Contents are compared although size and time agree.
    pub compares: bool,
}

/// How existing files are treated in one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Treatment {
    /// What happens to a file with other content.
    pub exists: Exists,
    /// Contents are compared although size and time agree.
    pub compares: bool,
}

/// The sender asks for more than the receiver allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beyond {
    /// This is to be done with existing files, and at most `allowed` may be.
    Exists {
        /// What the sender asks for.
        asked: Exists,
        /// The most that it may ask for.
        allowed: Exists,
    },
}

impl Rules {
    /// Does this with existing files, and lets a sender ask for the same or less.
    pub fn of(exists: Exists) -> Self {
        Self { exists, exists_max: exists, compares: false }
    }

    /// What holds in a transfer of which the sender asks for `request`.
    ///
    /// # Errors
    ///
    /// The sender asks for more than it may.
    pub fn grant(&self, request: &Request) -> Result<Treatment, Beyond> {
        let exists = match request.exists {
            Some(asked) if asked > self.exists_max => {
                return Err(Beyond::Exists { asked, allowed: self.exists_max });
            }
            asked => asked.unwrap_or(self.exists),
        };
        Ok(Treatment { exists, compares: self.compares || request.compares })
    }
}

/// Size and time are enough where contents need not be compared.
impl From<Exists> for Treatment {
    fn from(exists: Exists) -> Self {
        Self { exists, compares: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [W-73]
    #[test]
    fn a_sender_may_ask_for_what_the_receiver_does_and_for_less() {
        let ask = |exists| Request { exists: Some(exists), compares: false };
        let order = [Exists::Refuse, Exists::Skip, Exists::Rename, Exists::Replace];
        for (own, allowed) in order.into_iter().enumerate() {
            let rules = Rules::of(allowed);
            assert_eq!(rules.grant(&Request::default()), Ok(allowed.into()));
            for (number, asked) in order.into_iter().enumerate() {
                let expected = match number <= own {
                    true => Ok(asked.into()),
                    false => Err(Beyond::Exists { asked, allowed }),
                };
                assert_eq!(rules.grant(&ask(asked)), expected, "{asked:?} of {allowed:?}");
            }
        }
    }

    #[test]
    fn contents_are_compared_when_either_side_wants_it() {
        for (own, asked) in [(false, false), (false, true), (true, false), (true, true)] {
            let rules = Rules { compares: own, ..Rules::default() };
            let request = Request { compares: asked, ..Request::default() };
            assert_eq!(rules.grant(&request).unwrap().compares, own || asked);
        }
    }
}
