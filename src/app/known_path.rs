//! A sender takes up what an earlier transfer found about the path, and keeps what this one finds.

use crate::node::path_memory::{PathMemory, PathName};
use crate::transport::{Connection, address};

/// The path of one sender, if it is to be remembered.
pub(super) struct PathOfSender<C> {
    connection: C,
    memory: Option<PathMemory>,
    name: Option<PathName>,
}

impl<C: Connection> PathOfSender<C> {
    /// Tells `connection` what is known of its path.
    pub(super) async fn take_up(connection: &C, is_remembered: bool) -> Self {
        let memory = is_remembered.then(PathMemory::of_this_user).flatten();
        let name = memory.as_ref().and_then(|_| name(connection));
        if let (Some(memory), Some(name)) = (&memory, name)
            && let Some(known) = memory.find(name).await
        {
            connection.know_path(known);
        }
        Self { connection: connection.clone(), memory, name }
    }

    /// Keeps what the path carried, unless the connection has moved to another.
    pub(super) async fn keep(self) {
        let now = self.memory.as_ref().and_then(|_| name(&self.connection));
        if let (Some(memory), Some(name), Some(learned)) =
            (self.memory, self.name, self.connection.stats().learned)
            && now == Some(name)
        {
            memory.keep(name, learned).await;
        }
    }
}

fn name(connection: &impl Connection) -> Option<PathName> {
    let there = connection.remote_address();
    let own = address::own_towards(there).ok()?;
    PathName::new(connection.peer_fingerprint(), own, there.ip())
}
