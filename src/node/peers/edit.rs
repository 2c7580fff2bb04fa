//! Changes of entries in the text of the file of known peers.

use toml_edit::{Array, Decor, DocumentMut, Item, RawString, Table, Value, value};

use super::entry::{KnownPeer, exists_word};
use crate::node::bounds::texts_of;
use crate::node::size::exact;
use crate::transport::address::HostPort;

/// Gives an entry that is written in one line (`name = { … }`) or by dotted keys (`name.may = …`) a table of its own, so
/// that what is around it can be kept.
pub(super) fn spread_out(document: &mut DocumentMut, name: &str) {
    let Some((key, item)) = document.get_key_value_mut(name) else { return };
    if let Some(table) = item.as_table_mut() {
        table.set_dotted(false);
        table.set_implicit(false);
        return;
    }
    let text = |raw: Option<&RawString>| raw.and_then(RawString::as_str).unwrap_or_default().to_owned();
    let above = text(key.leaf_decor().prefix());
    let Some(inline) = item.as_inline_table() else { return };
    let beside = text(inline.decor().suffix());
    let mut table = inline.clone().into_table();
    for (mut key, item) in table.iter_mut() {
        key.leaf_decor_mut().clear();
        if let Some(value) = item.as_value_mut() {
            value.decor_mut().clear();
        }
    }
    *table.decor_mut() = Decor::new(above, beside);
    *item = Item::Table(table);
}

/// Puts `address` first among those of the entry `name`, of which there are `number` then.
pub(super) fn prefer(document: &mut DocumentMut, name: &str, address: &HostPort, number: usize) {
    let entry = &mut document[name];
    let written = match entry.get_mut("addresses").and_then(Item::as_array_mut) {
        Some(written) => written,
        None => {
            entry["addresses"] = value(Array::new());
            let Some(written) = entry["addresses"].as_array_mut() else { return };
            written
        }
    };
    let is_it = |at: &Value| at.as_str().and_then(|at| at.parse::<HostPort>().ok()).as_ref() == Some(address);
    if written.get(0).is_some_and(is_it) {
        return;
    }
    let found = written.iter().position(is_it);
    if let Some(at) = found {
        written.remove(at);
    }
    while written.len() >= number {
        written.remove(0);
    }
    let first = written.get(0).map(|first| first.decor().clone());
    written.insert(0, address.to_string());
    // What was written before the first one stays there.
    if let (Some(decor), Some(new)) = (first, written.get_mut(0)) {
        *new.decor_mut() = decor;
        if let Some(second) = written.get_mut(1) {
            *second.decor_mut() = Decor::new(" ", "");
        }
    }
}

/// Removes the entry `name` and the comment right above it. Comments before an empty line stay.
pub(super) fn remove(document: &mut DocumentMut, name: &str) {
    spread_out(document, name);
    let after = document.iter().map(|(key, _)| key.to_owned()).skip_while(|key| key != name).nth(1);
    let Some(Item::Table(table)) = document.remove(name) else { return };
    let above = table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
    let kept = above.rfind("\n\n").map_or("", |at| &above[..=at]);
    match after.and_then(|after| document.get_mut(&after)).and_then(Item::as_table_mut) {
        Some(next) => {
            let own = next.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default();
            let both = format!("{kept}{own}");
            next.decor_mut().set_prefix(both);
        }
        None => {
            let both = format!("{kept}{}", document.trailing().as_str().unwrap_or_default());
            document.set_trailing(both);
        }
    }
}

pub(super) fn table(peer: &KnownPeer) -> Table {
    let mut table = Table::new();
    table["fingerprint"] = value(peer.fingerprint.to_string());
    table["addresses"] = value(array(&peer.addresses));
    table["may"] = value(Array::new());
    write_rights(&mut table, peer);
    table
}

/// Writes what differs of the rights of `peer`. Comments beside a value stay.
pub(super) fn write_rights(table: &mut Table, peer: &KnownPeer) {
    let KnownPeer { may, into, exists, quota, limits, .. } = peer;
    let words = |words: Vec<&'static str>| Value::from(Array::from_iter(words));
    let may = words(may.iter().map(|right| right.as_str()).collect());
    let exists = (!exists.is_empty()).then(|| words(exists.iter().copied().map(exists_word).collect()));
    let into = into.as_ref().map(|dir| Value::from(dir.to_string_lossy().into_owned()));
    let quota = quota.map(|bytes| Value::from(exact(bytes)));
    let limits = texts_of(limits);
    let limits = (!limits.is_empty()).then(|| Value::from(Array::from_iter(limits)));
    let written =
        [("may", Some(may)), ("into", into), ("exists", exists), ("quota", quota), ("limits", limits)];
    for (key, new) in written {
        let Some(mut new) = new else {
            table.remove(key);
            continue;
        };
        if let Some(old) = table.get(key).and_then(Item::as_value) {
            *new.decor_mut() = old.decor().clone();
        }
        table[key] = Item::Value(new);
    }
}

fn array<'a>(addresses: impl IntoIterator<Item = &'a HostPort>) -> Array {
    addresses.into_iter().map(ToString::to_string).collect()
}
