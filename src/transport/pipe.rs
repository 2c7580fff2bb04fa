//! Two pipes, one in each direction, as standard input and output of a program are.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::task::{Context, Poll};

use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};

/// Two pipes, one in each direction.
#[derive(Debug)]
pub struct BytePipe {
    input: Input,
    output: Output,
}

/// sshd gives its programs sockets or pipes, as it was built.
#[derive(Debug)]
enum Input {
    Pipe(Receiver),
    Socket(UnixStream),
}

#[derive(Debug)]
enum Output {
    Pipe(Sender),
    Socket(UnixStream),
}

impl BytePipe {
    /// Reads from `input` and writes to `output`. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// One of them is neither a pipe nor a socket.
    pub fn new(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        let input = match socket(input)? {
            Ok(socket) => Input::Socket(socket),
            Err(pipe) => Input::Pipe(Receiver::from_owned_fd(pipe)?),
        };
        let output = match socket(output)? {
            Ok(socket) => Output::Socket(socket),
            Err(pipe) => Output::Pipe(Sender::from_owned_fd(pipe)?),
        };
        Ok(Self { input, output })
    }

    /// Standard input and output of this process.
    ///
    /// # Errors
    ///
    /// As [`BytePipe::new`].
    pub fn standard() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        Self::new(input, io::stdout().as_fd().try_clone_to_owned()?)
    }

    /// Whether there is something to read. The latest caller is woken.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.input {
            Input::Pipe(pipe) => pipe.poll_read_ready(cx),
            Input::Socket(socket) => socket.poll_read_ready(cx),
        }
    }

    /// Reads what is there, or fails with `WouldBlock`.
    pub(super) fn try_read(&self, room: &mut [u8]) -> io::Result<usize> {
        match &self.input {
            Input::Pipe(pipe) => pipe.try_read(room),
            Input::Socket(socket) => socket.try_read(room),
        }
    }

    /// Waits until there may be room to write.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match &self.output {
            Output::Pipe(pipe) => pipe.writable().await,
            Output::Socket(socket) => socket.writable().await,
        }
    }

    /// Writes what there is room for, or fails with `WouldBlock`.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.output {
            Output::Pipe(pipe) => pipe.try_write(bytes),
            Output::Socket(socket) => socket.try_write(bytes),
        }
    }

    /// Copies the next bytes into `room` and returns their number; 0 at the end.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub async fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match &self.input {
                Input::Pipe(pipe) => pipe.readable().await?,
                Input::Socket(socket) => socket.readable().await?,
            }
            match self.try_read(room) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// Those of the system: nobody reads any more.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.writable().await?;
            match self.try_write(bytes) {
                Ok(len) => bytes = &bytes[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Takes `fd` for a socket if it is one, and gives it back otherwise.
fn socket(fd: OwnedFd) -> io::Result<Result<UnixStream, OwnedFd>> {
    let file = File::from(fd);
    if !file.metadata()?.file_type().is_socket() {
        return Ok(Err(file.into()));
    }
    let socket = std::os::unix::net::UnixStream::from(OwnedFd::from(file));
    socket.set_nonblocking(true)?;
    Ok(Ok(UnixStream::from_std(socket)?))
}
