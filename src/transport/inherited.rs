//! A socket that the service manager has bound before it started this process (sd_listen_fds(3)).

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;

use listenfd::ListenFd;

/// A bound UDP socket that was handed over. Cheap to clone.
#[derive(Debug, Clone)]
pub struct InheritedSocket(Arc<UdpSocket>);

impl PartialEq for InheritedSocket {
    /// Whether both are the same one.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for InheritedSocket {}

impl InheritedSocket {
    /// Takes the socket that `LISTEN_FDS` and `LISTEN_PID` tell of, and removes these variables. Called once, before there
    /// are other threads.
    ///
    /// # Errors
    ///
    /// What was handed over is not one UDP socket.
    pub fn from_environment() -> io::Result<Option<Self>> {
        let mut handed = ListenFd::from_env();
        if handed.len() > 1 {
            return Err(io::Error::other(format!("{} sockets were handed over, expected one", handed.len())));
        }
        Ok(handed.take_udp_socket(0)?.map(|socket| Self(Arc::new(socket))))
    }

    /// The socket.
    ///
    /// # Errors
    ///
    /// There are no file descriptors left.
    pub(super) fn get(&self) -> io::Result<UdpSocket> {
        self.0.try_clone()
    }
}
