//! The service manager: what it is told (sd_notify(3)).

use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::debug;

/// Names the socket of the service manager.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Tells the service manager, if there is one, of a new `state`: `READY=1`, `RELOADING=1`, `STOPPING=1`.
pub fn notify(state: &str) {
    if let Err(error) = send(state) {
        debug!(%error, state, "the service manager was not told");
    }
}

#[cfg(target_os = "linux")]
fn send(state: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::SocketAddr;

    let Some(path) = std::env::var_os(SOCKET_VARIABLE).filter(|path| !path.is_empty()) else { return Ok(()) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn send(_state: &str) -> io::Result<()> {
    Ok(())
}
