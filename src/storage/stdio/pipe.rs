//! Calls to a pipe, which wait for the other program as long as it takes.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Fills `room`, except at the end. Returns the number of bytes.
pub(super) fn fill(mut pipe: &File, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match pipe.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) => go_on(pipe, PollFlags::IN, error)?,
        }
    }
    Ok(filled)
}

/// Writes all of `bytes`.
pub(super) fn write(mut pipe: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match pipe.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => bytes = &bytes[n..],
            Err(error) => go_on(pipe, PollFlags::OUT, error)?,
        }
    }
    Ok(())
}

/// Whether nobody can read from the pipe any more.
pub(super) fn has_no_reader(pipe: &File) -> bool {
    let mut look = [PollFd::new(pipe, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut look, Some(&now)).is_ok() && look[0].revents().contains(PollFlags::ERR)
}

/// Whether to try again after `error`. Another process may have made the pipe one that does not wait.
fn go_on(pipe: &File, event: PollFlags, error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => match poll(&mut [PollFd::new(pipe, event)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        },
        _ => Err(error),
    }
}
