//! Lines that are written together: ten thousand small files are not to cost ten thousand writes.

use std::io::{self, ErrorKind, Write};

/// Text gathered at most before it is written.
const BYTES_MAX: usize = 8 * 1024;

/// Writes to `O`, and keeps back what may wait for a moment. A write that fails is remembered, and nothing waits for it.
pub(super) struct Gathered<O> {
    out: O,
    waiting: Vec<u8>,
    failed: Option<io::Error>,
}

impl<O: Write> Gathered<O> {
    pub(super) fn new(out: O) -> Self {
        Self { out, waiting: Vec::new(), failed: None }
    }

    /// Writes `text` behind what waits; a text that `may_wait` goes out with the next one that may not.
    pub(super) fn write(&mut self, text: &[u8], may_wait: bool) {
        self.waiting.extend_from_slice(text);
        if !may_wait || self.waiting.len() >= BYTES_MAX {
            self.flush();
        }
    }

    /// Writes what waits, and tells of the first write that failed since it last told. A reader that went away is no
    /// failure: it has read what it wanted.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.flush();
        self.failed.take().map_or(Ok(()), Err)
    }

    fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        if let Err(error) = self.out.write_all(&self.waiting).and_then(|()| self.out.flush())
            && error.kind() != ErrorKind::BrokenPipe
        {
            self.failed.get_or_insert(error);
        }
        self.waiting.clear();
    }
}

#[cfg(test)]
impl<O: Write> Gathered<O> {
    /// What it writes to, with everything in it.
    pub(super) fn into_inner(mut self) -> O {
        let _ = self.finish();
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_wait_goes_out_in_order_and_in_time() {
        let mut gathered = Gathered::new(Vec::new());
        gathered.write(b"a", true);
        gathered.write(b"b", true);
        assert_eq!(gathered.out, b"");
        gathered.write(b"c", false);
        assert_eq!(gathered.out, b"abc");
        gathered.write(&[b'd'; BYTES_MAX], true);
        assert_eq!(gathered.out.len(), 3 + BYTES_MAX);
        gathered.write(b"e", true);
        assert_eq!(gathered.into_inner().last(), Some(&b'e'));
    }

    /// Fails the writes for which there is an error.
    struct Failing(Vec<Option<ErrorKind>>);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.pop().flatten().map_or(Ok(bytes.len()), |kind| Err(kind.into()))
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_first_failure_is_told_once_and_a_closed_pipe_is_none() {
        let kinds =
            [Some(ErrorKind::StorageFull), None, Some(ErrorKind::BrokenPipe), Some(ErrorKind::TimedOut)];
        let mut gathered = Gathered::new(Failing(kinds.into_iter().rev().collect()));
        gathered.write(b"full", false);
        gathered.write(b"written", false);
        gathered.write(b"closed", false);
        gathered.write(b"late", true);
        assert_eq!(gathered.finish().unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(gathered.out.0.is_empty() && gathered.finish().is_ok());
    }
}
