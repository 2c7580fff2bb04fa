//! Lines that are written together: ten thousand small files are not to cost ten thousand writes.

use std::io::Write;

/// Text gathered at most before it is written.
const BYTES_MAX: usize = 8 * 1024;

/// Writes to `O`, and keeps back what may wait for a moment. A write that fails is forgotten.
pub(super) struct Gathered<O> {
    out: O,
    waiting: Vec<u8>,
}

impl<O: Write> Gathered<O> {
    pub(super) fn new(out: O) -> Self {
        Self { out, waiting: Vec::new() }
    }

    /// Writes `text` behind what waits; a text that `may_wait` goes out with the next one that may not.
    pub(super) fn write(&mut self, text: &[u8], may_wait: bool) {
        self.waiting.extend_from_slice(text);
        if !may_wait || self.waiting.len() >= BYTES_MAX {
            self.flush();
        }
    }

    /// Writes what waits.
    pub(super) fn flush(&mut self) {
        if !self.waiting.is_empty() {
            let _ = self.out.write_all(&self.waiting).and_then(|()| self.out.flush());
            self.waiting.clear();
        }
    }
}

#[cfg(test)]
impl<O: Write> Gathered<O> {
    /// What it writes to, with everything in it.
    pub(super) fn into_inner(mut self) -> O {
        self.flush();
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
}
