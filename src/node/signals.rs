//! Ctrl-C and termination: the first signal asks for a clean stop, the second exits at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use tokio::sync::watch;
#[cfg(unix)]
use tokio::time::{Duration, Instant};

use crate::protocol::failure::{Failure, Reason};

/// Signals this close together count as one: a terminal and a wrapper may both pass on the same Ctrl-C.
#[cfg(unix)]
const ONE_REQUEST: Duration = Duration::from_millis(500);

/// Remembers the signal received.
pub struct Signals {
    exit_code: Arc<AtomicU8>,
}

impl Signals {
    /// 128 plus the number of the signal, if one was received.
    pub fn exit_code(&self) -> Option<u8> {
        Some(self.exit_code.load(Relaxed)).filter(|code| *code != 0)
    }
}

/// What SIGHUP asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// A clean stop: the terminal is gone.
    Stop,
    /// To read files again, for whoever watches [`Hangups`].
    Reload,
}

/// SIGHUPs, after the moment it was made.
pub struct Hangups {
    #[cfg(unix)]
    inner: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Hangups {
    /// Starts to watch.
    pub fn watch() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { inner: signal(SignalKind::hangup())? })
    }

    /// The next one.
    pub async fn next(&mut self) {
        if self.inner.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[cfg(not(unix))]
impl Hangups {
    /// There are none on this system.
    pub fn watch() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Never comes.
    pub async fn next(&mut self) {
        std::future::pending().await
    }
}

/// Starts to watch. The receiver becomes a failure with the first signal.
#[cfg(unix)]
pub fn watch(on_hangup: Hangup) -> io::Result<(Signals, watch::Receiver<Option<Failure>>)> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let exit_code = Arc::new(AtomicU8::new(0));
    let (stop, stopped) = watch::channel(None);
    let code = Arc::clone(&exit_code);
    tokio::spawn(async move {
        let mut first = None;
        loop {
            let (number, name) = tokio::select! {
                _ = interrupt.recv() => (2, "SIGINT"),
                _ = terminate.recv() => (15, "SIGTERM"),
                _ = hangup.recv() => match on_hangup {
                    Hangup::Stop => (1, "SIGHUP"),
                    Hangup::Reload => continue,
                },
            };
            if first.get_or_insert_with(Instant::now).elapsed() > ONE_REQUEST {
                std::process::exit(i32::from(128 + number));
            }
            code.store(128 + number, Relaxed);
            let failure = Failure::new(Reason::Interrupted, format!("stopped by {name}"));
            stop.send_replace(Some(failure));
        }
    });
    Ok((Signals { exit_code }, stopped))
}

/// Starts to watch. The receiver becomes a failure with Ctrl-C.
#[cfg(not(unix))]
pub fn watch(_: Hangup) -> io::Result<(Signals, watch::Receiver<Option<Failure>>)> {
    let exit_code = Arc::new(AtomicU8::new(0));
    let (stop, stopped) = watch::channel(None);
    let code = Arc::clone(&exit_code);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if code.swap(130, Relaxed) != 0 {
                std::process::exit(130);
            }
            stop.send_replace(Some(Failure::new(Reason::Interrupted, "stopped by Ctrl-C")));
        }
    });
    Ok((Signals { exit_code }, stopped))
}
