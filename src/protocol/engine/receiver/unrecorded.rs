//! The chunks of one file that are written and in no checkpoint yet.

use std::mem;

use crate::protocol::engine::plan::ChunkSet;
use crate::protocol::hash::ChunkValue;

/// The chunks of a file on their way into a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    written: ChunkSet,
    /// Chaining values of the written chunks, for a file that can be resumed.
    values: Vec<ChunkValue>,
    /// Chunks that an earlier transfer recorded. They are only made durable.
    claimed: ChunkSet,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Idle,
    /// The driver has been asked for a checkpoint.
    Asked,
    /// A checkpoint of these chunks runs, with this many values.
    Running(ChunkSet, usize),
}

impl Checkpoints {
    /// Chaining values that are kept.
    pub(super) fn unrecorded(&self) -> usize {
        let running = if let Stage::Running(_, values) = self.stage { values } else { 0 };
        self.values.len() + running
    }

    /// A chunk that an earlier transfer recorded is still the same.
    pub(super) fn claimed(&mut self, index: u64) {
        self.claimed.insert(index..index + 1);
    }

    /// Whether some chunks are in no checkpoint that has ended.
    pub(super) fn is_behind(&self) -> bool {
        !self.is_idle() || !self.written.is_empty() || !self.claimed.is_empty()
    }

    fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle)
    }

    /// A chunk is written; its value is kept if it is to be recorded.
    pub(super) fn written(&mut self, chunk: ChunkValue, is_recorded: bool) {
        self.written.insert(chunk.index..chunk.index + 1);
        self.values.extend(is_recorded.then_some(chunk));
    }

    /// Written chunks that are in no checkpoint yet.
    pub(super) fn waiting(&self) -> u64 {
        self.written.len()
    }

    /// Whether the next checkpoint has something to record.
    pub(super) fn has_values(&self) -> bool {
        !self.values.is_empty()
    }

    /// Notes that a checkpoint is asked for. Returns false while one is on its way.
    pub(super) fn ask(&mut self) -> bool {
        let is_idle = self.is_idle();
        if is_idle {
            self.stage = Stage::Asked;
        }
        is_idle
    }

    /// The chaining values of the checkpoint that begins.
    pub(super) fn begin(&mut self) -> Vec<ChunkValue> {
        let mut chunks = mem::take(&mut self.written);
        mem::take(&mut self.claimed).ranges().for_each(|range| chunks.insert(range));
        let values = mem::take(&mut self.values);
        self.stage = Stage::Running(chunks, values.len());
        values
    }

    /// The chunks of the checkpoint that has ended.
    pub(super) fn end(&mut self) -> Option<(ChunkSet, usize)> {
        match mem::take(&mut self.stage) {
            Stage::Running(chunks, values) => Some((chunks, values)),
            other => {
                self.stage = other;
                None
            }
        }
    }
}
