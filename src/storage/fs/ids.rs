//! Names and numbers of users and groups on this machine.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Gid, Group, Uid, User};

use crate::protocol::wire::attributes::Principal;

/// Answers of the system that are kept. Each may cost a request to a server.
const KNOWN_MAX: usize = 1024;

/// Users and groups, looked up once each.
#[derive(Default)]
pub(super) struct Ids {
    user_names: Known<u32, Option<String>>,
    group_names: Known<u32, Option<String>>,
    users: Known<String, Option<u32>>,
    groups: Known<String, Option<u32>>,
}

/// Answers, forgotten together when there are too many.
struct Known<K, V>(Mutex<HashMap<K, V>>);

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Known<K, V> {
    fn get(&self, key: &K, ask: impl FnOnce(&K) -> V) -> V {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = known().get(key) {
            return value.clone();
        }
        let value = ask(key);
        let mut known = known();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(key.clone(), value.clone());
        value
    }
}

impl Ids {
    /// A user for the receiver; `None` for the number that stands for none.
    pub(super) fn user(&self, id: u32, is_named: bool) -> Option<Principal> {
        let ask = |id: &u32| User::from_uid(Uid::from_raw(*id)).ok().flatten().map(|user| user.name);
        Principal::new(id, if is_named { self.user_names.get(&id, ask) } else { None })
    }

    /// The same for a group.
    pub(super) fn group(&self, id: u32, is_named: bool) -> Option<Principal> {
        let ask = |id: &u32| Group::from_gid(Gid::from_raw(*id)).ok().flatten().map(|group| group.name);
        Principal::new(id, if is_named { self.group_names.get(&id, ask) } else { None })
    }

    /// The number of a user here: that of the name, or the same as at the sender.
    pub(super) fn local_user(&self, user: &Principal) -> u32 {
        let ask = |name: &String| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
        user.name.as_ref().and_then(|name| self.users.get(name, ask)).unwrap_or(user.id)
    }

    /// The same for a group.
    pub(super) fn local_group(&self, group: &Principal) -> u32 {
        let ask = |name: &String| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
        group.name.as_ref().and_then(|name| self.groups.get(name, ask)).unwrap_or(group.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_before_a_number_where_it_is_known() {
        let ids = Ids::default();
        assert_eq!(ids.user(0, true), Principal::new(0, Some("root".into())));
        assert_eq!(ids.group(0, false), Principal::new(0, None));
        assert_eq!(ids.user(u32::MAX, true), None);
        let principal = |id, name: &str| Principal::new(id, Some(name.to_owned())).unwrap();
        assert_eq!(ids.local_user(&principal(77_777, "root")), 0);
        assert_eq!(ids.local_group(&principal(77_777, "root")), 0);
        assert_eq!(ids.local_user(&principal(77_777, "nobody-has-this-name")), 77_777);
        assert_eq!(ids.local_group(&Principal::new(77_778, None).unwrap()), 77_778);
    }
}
