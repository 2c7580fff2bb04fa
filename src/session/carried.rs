//! Which connection carries a session, for those outside of it.

use tokio::sync::watch;

/// Follows the connection that carries the control stream of a session. There is none while it is lost.
#[derive(Debug, Clone)]
pub struct Carried<C>(watch::Receiver<Option<C>>);

impl<C: Clone> Carried<C> {
    /// Follows what `session` tells.
    pub(super) fn of(session: &watch::Sender<Option<C>>) -> Self {
        Self(session.subscribe())
    }

    /// The connection; after the session, its last one. `None` if it is lost.
    pub fn connection(&self) -> Option<C> {
        self.0.borrow().clone()
    }

    /// Waits until the connection is lost. False when the session ends before that.
    pub async fn is_lost(&mut self) -> bool {
        self.0.wait_for(Option::is_none).await.is_ok()
    }

    /// Waits until another connection takes over. False when the session ends before that.
    pub async fn is_replaced(&mut self) -> bool {
        self.0.wait_for(Option::is_some).await.is_ok()
    }
}
