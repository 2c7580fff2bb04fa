//! How a chunk is made: runs of bytes that are sent, of zeros, and of bytes of the old file.

use crate::protocol::wire::limits::RUNS_MAX;
use crate::protocol::wire::record::Run;

/// The source of the bytes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunSource {
    /// They are sent.
    Sent,
    /// A hole.
    Hole,
    /// The old file has them at this offset.
    Old(u64),
}

/// A run of bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipeRun {
    /// Bytes, at least 1.
    pub len: u64,
    /// Where they come from.
    pub source: RunSource,
}

/// The recipe of a chunk: runs from its start, without gaps, at most [`RUNS_MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipe(Vec<RecipeRun>);

impl Recipe {
    /// A recipe as it was received.
    pub fn of(runs: Vec<RecipeRun>) -> Self {
        Self(runs)
    }

    /// Its runs.
    pub fn runs(&self) -> &[RecipeRun] {
        &self.0
    }

    /// Bytes that are sent.
    pub fn sent_bytes(&self) -> u64 {
        self.sum(|source| source == RunSource::Sent)
    }

    /// Bytes that the old file has.
    pub fn copied_bytes(&self) -> u64 {
        self.sum(|source| matches!(source, RunSource::Old(_)))
    }

    fn sum(&self, of: impl Fn(RunSource) -> bool) -> u64 {
        self.0.iter().filter(|run| of(run.source)).map(|run| run.len).sum()
    }

    /// Appends a run. At the limit of runs, the last one and everything after it is sent: more bytes travel, none are
    /// wrong.
    pub fn push(&mut self, len: u64, source: RunSource) {
        let is_full = self.0.len() == RUNS_MAX;
        match self.0.last_mut() {
            Some(last) if continues(last, source) => last.len += len,
            _ if len == 0 => {}
            Some(last) if is_full => {
                last.len += len;
                last.source = RunSource::Sent;
            }
            _ => self.0.push(RecipeRun { len, source }),
        }
    }

    /// The same recipe with the holes of the new file, which has these `runs`.
    pub fn with_holes(&self, runs: &[Run]) -> Self {
        let mut merged = Self::default();
        let mut rest = self.0.iter().copied();
        let mut ours = rest.next();
        for run in runs {
            let mut left = run.len;
            while let Some(mine) = &mut ours
                && left > 0
            {
                let len = left.min(mine.len);
                merged.push(len, if run.is_hole { RunSource::Hole } else { mine.source });
                left -= len;
                mine.len -= len;
                if let RunSource::Old(offset) = &mut mine.source {
                    *offset += len;
                }
                if mine.len == 0 {
                    ours = rest.next();
                }
            }
        }
        merged
    }
}

fn continues(last: &RecipeRun, source: RunSource) -> bool {
    match (last.source, source) {
        (RunSource::Old(offset), RunSource::Old(next)) => offset + last.len == next,
        (last, source) => last == source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(len: u64, source: RunSource) -> RecipeRun {
        RecipeRun { len, source }
    }

    #[test]
    fn runs_that_continue_are_one() {
        let mut recipe = Recipe::default();
        for (len, source) in [
            (10, RunSource::Old(100)),
            (5, RunSource::Old(110)),
            (5, RunSource::Old(110)),
            (0, RunSource::Hole),
            (7, RunSource::Sent),
            (3, RunSource::Sent),
        ] {
            recipe.push(len, source);
        }
        let runs = [run(15, RunSource::Old(100)), run(5, RunSource::Old(110)), run(10, RunSource::Sent)];
        assert_eq!(recipe.runs(), runs);
        assert_eq!((recipe.sent_bytes(), recipe.copied_bytes()), (10, 20));
    }

    #[test]
    fn holes_of_the_new_file_go_first() {
        let mut recipe = Recipe::default();
        recipe.push(50, RunSource::Old(1000));
        recipe.push(50, RunSource::Sent);
        let hole = |len, is_hole| Run { len, is_hole };
        let merged = recipe.with_holes(&[hole(10, false), hole(20, true), hole(40, false), hole(30, true)]);
        let runs = [
            run(10, RunSource::Old(1000)),
            run(20, RunSource::Hole),
            run(20, RunSource::Old(1030)),
            run(20, RunSource::Sent),
            run(30, RunSource::Hole),
        ];
        assert_eq!(merged.runs(), runs);
        assert_eq!(recipe.with_holes(&[hole(100, false)]), recipe);
    }

    #[test]
    fn too_many_runs_end_in_bytes_that_are_sent() {
        let mut recipe = Recipe::default();
        for n in 0..1000 {
            recipe.push(10, RunSource::Old(n * 20));
        }
        assert_eq!(recipe.runs().len(), RUNS_MAX);
        assert_eq!(recipe.runs().iter().map(|run| run.len).sum::<u64>(), 10_000);
        assert_eq!(recipe.runs().last(), Some(&run(10_000 - 2550, RunSource::Sent)));
    }
}
