//! What a receiver does before it asks for an entry: it looks up the name, then it prepares the target.

use std::collections::HashMap;

use super::error::Result;
use super::target::Target;
use crate::protocol::final_name::{Exists, Lookup};
use crate::protocol::request::Treatment;
use crate::protocol::wire::entry::{Entry, EntryId, Kind};

/// Looks at the final names of `entries` and prepares for those that can be received, unless nothing is to be changed. One
/// answer for each, in order.
pub async fn look_and_prepare<T: Target>(
    target: &T,
    entries: Vec<(EntryId, Entry)>,
    treatment: impl Into<Treatment>,
) -> Vec<Result<Lookup>> {
    let Treatment { exists, compares, is_dry, .. } = treatment.into();
    let mut found = target.look(entries.iter().map(|(_, entry)| entry.clone()).collect(), exists).await;
    if is_dry {
        return found;
    }
    let (mut places, mut wanted, mut denied) = (Vec::new(), Vec::new(), HashMap::new());
    for (place, (id, entry)) in entries.into_iter().enumerate() {
        match &found[place] {
            Err(_) | Ok(Lookup::Refused(_)) => continue,
            // Something else is where a directory should be.
            Ok(Lookup::Conflict) if entry.kind == Kind::Dir => continue,
            // Nothing is written to these.
            Ok(Lookup::Same { .. }) if entry.kind != Kind::Dir => continue,
            Ok(Lookup::SameSize { is_unchanged: true, .. }) if !compares && exists != Exists::Skip => {
                continue;
            }
            Ok(Lookup::SameSize { .. } | Lookup::Conflict | Lookup::Directory) if exists == Exists::Skip => {
                continue;
            }
            Ok(Lookup::Directory) if exists == Exists::Replace => continue,
            Ok(Lookup::Denied(_)) => drop(denied.insert(place, entry.clone())),
            Ok(_) => {}
        }
        places.push(place);
        wanted.push((id, entry));
    }
    let mut again = Vec::new();
    for (place, prepared) in places.into_iter().zip(target.prepare(wanted).await) {
        match prepared {
            Ok(None) => again.extend(denied.remove(&place).map(|entry| (place, entry))),
            Ok(Some(lookup)) => found[place] = Ok(lookup),
            Err(error) => found[place] = Err(error),
        }
    }
    // The directory above may have denied the first look-up and be open to this process by now.
    if !again.is_empty() {
        let (places, entries): (Vec<_>, Vec<_>) = again.into_iter().unzip();
        for (place, lookup) in places.into_iter().zip(target.look(entries, exists).await) {
            found[place] = lookup;
        }
    }
    found
}
