//! What a sender asks of its receiver, and what the receiver grants.

use crate::protocol::final_name::Exists;
use crate::protocol::path::RelPath;

/// What a sender asks of its receiver.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// What to do with existing files; `None` leaves it to the receiver.
    pub exists: Option<Exists>,
    /// Contents are compared although size and time agree.
    pub compares: bool,
    /// Nothing is changed: the receiver only tells what would be.
    pub is_dry: bool,
    /// What was not announced is removed from the directories that were.
    pub delete: Option<Delete>,
}

/// How extras are removed: what is in an announced directory and was not announced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delete {
    /// Nothing is removed if there are more.
    pub names_max: Option<u64>,
    /// They are moved there instead, under the target.
    pub backup: Option<RelPath>,
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
    /// A sender may have extras removed.
    pub allows_delete: bool,
}

/// How existing files are treated in one transfer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Treatment {
    /// What happens to a file with other content.
    pub exists: Exists,
    /// Contents are compared although size and time agree.
    pub compares: bool,
    /// Nothing is changed.
    pub is_dry: bool,
    /// What was not announced is removed from the directories that were.
    pub delete: Option<Delete>,
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
    /// Extras are to be removed.
    Delete,
    /// Extras are to be removed, and entries get other names beside existing ones: those of earlier transfers would be
    /// extras.
    DeleteBeside,
}

impl Rules {
    /// Does this with existing files, and lets a sender ask for the same or less.
    pub fn of(exists: Exists) -> Self {
        Self { exists, exists_max: exists, ..Self::default() }
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
        if request.delete.is_some() && !self.allows_delete {
            return Err(Beyond::Delete);
        }
        if request.delete.is_some() && exists == Exists::Rename {
            return Err(Beyond::DeleteBeside);
        }
        let Request { compares, is_dry, delete, .. } = request.clone();
        Ok(Treatment { exists, compares: self.compares || compares, is_dry, delete })
    }
}

/// Size and time are enough where contents need not be compared.
impl From<Exists> for Treatment {
    fn from(exists: Exists) -> Self {
        Self { exists, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [W-73]
    #[test]
    fn a_sender_may_ask_for_what_the_receiver_does_and_for_less() {
        let ask = |exists| Request { exists: Some(exists), ..Request::default() };
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
