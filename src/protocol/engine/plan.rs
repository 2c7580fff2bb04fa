//! The state of each chunk of a file: wanted, held, in flight, written or durable.
//!
//! Both sides work from a [`Plan`]. The sender takes *wanted* chunks and advances them as acks arrive; the receiver
//! advances them as its disk works. Chunks lost with a connection or a stream become wanted again. A chunk that an
//! earlier transfer left at the receiver is held until the sender has claimed that its source has the same bytes.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::protocol::wire::limits::{CHUNK_LOG2_MIN, FILE_BYTES_MAX};

/// Chunks of the largest file.
const CHUNKS_MAX: u64 = FILE_BYTES_MAX >> CHUNK_LOG2_MIN;

/// Chunk indexes, as ranges that neither touch nor overlap.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChunkSet {
    /// First index to the one after the last.
    ranges: BTreeMap<u64, u64>,
    len: u64,
}

impl ChunkSet {
    /// The chunks of `range`.
    pub fn of(range: Range<u64>) -> Self {
        let mut set = Self::default();
        set.insert(range);
        set
    }

    /// Number of chunks.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ranges, in order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<u64>> {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }

    /// The lowest chunk.
    pub fn first(&self) -> Option<u64> {
        self.ranges.first_key_value().map(|(start, _)| *start)
    }

    /// Whether chunk `index` is in the set.
    pub fn contains(&self, index: u64) -> bool {
        self.ranges.range(..=index).next_back().is_some_and(|(_, end)| index < *end)
    }

    /// Adds the chunks of `range`; some may be in the set already.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        // Ranges that overlap or touch the new one are merged with it.
        while let Some((before, to)) = self.ranges.range(..=end).next_back().map(|(a, b)| (*a, *b))
            && to >= start
        {
            self.ranges.remove(&before);
            self.len -= to - before;
            (start, end) = (start.min(before), end.max(to));
        }
        self.ranges.insert(start, end);
        self.len += end - start;
    }

    /// Removes those chunks of `range` that are in the set.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((start, end)) = self.ranges.range(..range.end).next_back().map(|(a, b)| (*a, *b))
            && end > range.start
        {
            self.ranges.remove(&start);
            self.len -= end - start;
            for left in [start..range.start.max(start), range.end.min(end)..end] {
                if !left.is_empty() {
                    self.ranges.insert(left.start, left.end);
                    self.len += left.end - left.start;
                }
            }
        }
    }
}

/// The state of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    /// It must be sent.
    Wanted,
    /// An earlier transfer left it at the receiver, and the sender has yet to claim it.
    Held,
    /// The chunk or the claim of it is in flight, not acked.
    InFlight,
    /// The receiver has written it. A crash of the receiver can undo that.
    Written,
    /// The receiver has synced it.
    Durable,
}

/// The chunks of one file. Each is in exactly one [`ChunkState`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    chunks: u64,
    wanted: ChunkSet,
    held: ChunkSet,
    in_flight: ChunkSet,
    durable: ChunkSet,
}

impl Plan {
    /// A file of `chunks` chunks of which the receiver has none.
    pub fn new(chunks: u64) -> Self {
        Self {
            chunks,
            wanted: ChunkSet::of(0..chunks),
            held: ChunkSet::default(),
            in_flight: ChunkSet::default(),
            durable: ChunkSet::default(),
        }
    }

    /// A file whose number of chunks is not known yet.
    pub fn open_ended() -> Self {
        Self::new(CHUNKS_MAX)
    }

    /// Sets the number of chunks. Returns false, and changes nothing, when a chunk after the last one is in any state
    /// but wanted.
    pub fn end_at(&mut self, chunks: u64) -> bool {
        let behind = self.chunks.saturating_sub(chunks);
        let mut wanted = self.wanted.clone();
        wanted.remove(0..chunks);
        let fits = chunks <= self.chunks && wanted.len() == behind;
        if fits {
            self.wanted.remove(chunks..self.chunks);
            self.chunks = chunks;
        }
        fits
    }

    /// Number of chunks.
    pub fn chunks(&self) -> u64 {
        self.chunks
    }

    /// The state of chunk `index`; `None` after the end of the file.
    pub fn state(&self, index: u64) -> Option<ChunkState> {
        (index < self.chunks).then(|| match index {
            _ if self.wanted.contains(index) => ChunkState::Wanted,
            _ if self.held.contains(index) => ChunkState::Held,
            _ if self.in_flight.contains(index) => ChunkState::InFlight,
            _ if self.durable.contains(index) => ChunkState::Durable,
            _ => ChunkState::Written,
        })
    }

    /// The lowest wanted chunk.
    pub fn next_wanted(&self) -> Option<u64> {
        self.wanted.first()
    }

    /// Held chunks.
    pub fn held(&self) -> &ChunkSet {
        &self.held
    }

    /// Held bytes of a file of `size` bytes in chunks of 2^`chunk_log2`.
    pub fn held_bytes(&self, size: u64, chunk_log2: u8) -> u64 {
        let bytes = |range: Range<u64>| size.min(range.end << chunk_log2) - (range.start << chunk_log2);
        self.held.ranges().map(bytes).sum()
    }

    /// Written chunks, durable or not.
    pub fn written(&self) -> u64 {
        self.chunks - self.wanted.len() - self.held.len() - self.in_flight.len()
    }

    /// Written bytes of a file of `size` bytes in chunks of 2^`chunk_log2`.
    pub fn written_bytes(&self, size: u64, chunk_log2: u8) -> u64 {
        let last = self.chunks.saturating_sub(1);
        let is_last_written = matches!(self.state(last), Some(ChunkState::Written | ChunkState::Durable));
        let missing = ((last + 1) << chunk_log2).saturating_sub(size);
        (self.written() << chunk_log2).saturating_sub(if is_last_written { missing } else { 0 })
    }

    /// Durable chunks.
    pub fn durable(&self) -> &ChunkSet {
        &self.durable
    }

    /// Puts a wanted chunk in flight. Returns false, and changes nothing, when it was not wanted.
    pub fn begin(&mut self, index: u64) -> bool {
        let is_wanted = self.wanted.contains(index);
        if is_wanted {
            self.wanted.remove(index..index + 1);
            self.in_flight.insert(index..index + 1);
        }
        is_wanted
    }

    /// An earlier transfer left the wanted chunks of `range`.
    pub fn hold(&mut self, range: Range<u64>) {
        let both = |wanted: Range<u64>| wanted.start.max(range.start)..wanted.end.min(range.end);
        let held: Vec<_> = self.wanted.ranges().map(both).filter(|range| !range.is_empty()).collect();
        for range in held {
            self.wanted.remove(range.clone());
            self.held.insert(range);
        }
    }

    /// Puts the claim of a held chunk in flight. Returns false, and changes nothing, when it was not held.
    pub fn claim(&mut self, index: u64) -> bool {
        let is_held = self.held.contains(index);
        if is_held {
            self.held.remove(index..index + 1);
            self.in_flight.insert(index..index + 1);
        }
        is_held
    }

    /// A claim in flight was lost; its chunk is held again.
    pub fn lose_claim(&mut self, index: u64) {
        if self.in_flight.contains(index) {
            self.in_flight.remove(index..index + 1);
            self.held.insert(index..index + 1);
        }
    }

    /// A chunk in flight was lost, or a claim does not match; the chunk is wanted.
    pub fn lose(&mut self, index: u64) {
        if self.in_flight.contains(index) {
            self.in_flight.remove(index..index + 1);
            self.wanted.insert(index..index + 1);
        }
    }

    /// A chunk was written, or its claim matches. Returns false when it was written before.
    pub fn write(&mut self, index: u64) -> bool {
        let is_new =
            matches!(self.state(index), Some(ChunkState::InFlight | ChunkState::Held | ChunkState::Wanted));
        for open in [&mut self.in_flight, &mut self.held, &mut self.wanted] {
            open.remove(index..index.saturating_add(1));
        }
        is_new
    }

    /// Makes all written chunks durable.
    pub fn sync(&mut self) {
        let mut durable = ChunkSet::of(0..self.chunks);
        for open in [&self.wanted, &self.held, &self.in_flight] {
            open.ranges().for_each(|range| durable.remove(range));
        }
        self.durable = durable;
    }

    /// Makes the written chunks of `range` durable.
    pub fn sync_range(&mut self, range: Range<u64>) {
        let mut durable = ChunkSet::of(range.start.min(self.chunks)..range.end.min(self.chunks));
        for open in [&self.wanted, &self.held, &self.in_flight] {
            open.ranges().for_each(|range| durable.remove(range));
        }
        durable.ranges().for_each(|range| self.durable.insert(range));
    }

    /// Whether everything is written.
    pub fn is_written(&self) -> bool {
        self.wanted.is_empty() && self.held.is_empty() && self.in_flight.is_empty()
    }

    /// Whether everything is durable.
    pub fn is_durable(&self) -> bool {
        self.durable.len() == self.chunks
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const CHUNKS: u64 = 40;

    #[derive(Debug, Clone)]
    enum Change {
        Insert(Range<u64>),
        Remove(Range<u64>),
    }

    fn change() -> impl Strategy<Value = Change> {
        let range = (0..CHUNKS, 0..8u64).prop_map(|(start, len)| start..start + len);
        (any::<bool>(), range).prop_map(|(insert, range)| match insert {
            true => Change::Insert(range),
            false => Change::Remove(range),
        })
    }

    #[derive(Debug, Clone)]
    enum PlanStep {
        Begin(u64),
        Hold(Range<u64>),
        Claim(u64),
        LoseClaim(u64),
        Lose(u64),
        Write(u64),
        Sync,
        SyncRange(Range<u64>),
    }

    fn step() -> impl Strategy<Value = PlanStep> {
        // Includes indexes after the end.
        let index = 0..CHUNKS + 2;
        prop_oneof![
            4 => index.clone().prop_map(PlanStep::Begin),
            1 => index.clone().prop_map(PlanStep::Lose),
            2 => (index.clone(), 0..9u64).prop_map(|(start, len)| PlanStep::Hold(start..start + len)),
            2 => index.clone().prop_map(PlanStep::Claim),
            1 => index.clone().prop_map(PlanStep::LoseClaim),
            4 => index.clone().prop_map(PlanStep::Write),
            1 => Just(PlanStep::Sync),
            2 => (index, 0..9u64).prop_map(|(start, len)| PlanStep::SyncRange(start..start + len)),
        ]
    }

    /// The reference: a state for each chunk.
    fn apply(states: &mut [ChunkState], step: &PlanStep) {
        use ChunkState::{Durable, Held, InFlight, Wanted, Written};
        let at = |index: u64| usize::try_from(index).unwrap();
        let replace = |states: &mut [ChunkState], from: ChunkState, to: ChunkState| {
            states.iter_mut().filter(|state| **state == from).for_each(|state| *state = to);
        };
        match step {
            PlanStep::Begin(index) => {
                if let Some(state @ Wanted) = states.get_mut(at(*index)) {
                    *state = InFlight;
                }
            }
            PlanStep::Hold(range) => {
                let end = at(range.end).min(states.len());
                replace(&mut states[at(range.start).min(end)..end], Wanted, Held);
            }
            PlanStep::Claim(index) => {
                if let Some(state @ Held) = states.get_mut(at(*index)) {
                    *state = InFlight;
                }
            }
            PlanStep::LoseClaim(index) => {
                if let Some(state @ InFlight) = states.get_mut(at(*index)) {
                    *state = Held;
                }
            }
            PlanStep::Lose(index) => {
                if let Some(state @ InFlight) = states.get_mut(at(*index)) {
                    *state = Wanted;
                }
            }
            PlanStep::Write(index) => {
                if let Some(state @ (Wanted | Held | InFlight)) = states.get_mut(at(*index)) {
                    *state = Written;
                }
            }
            PlanStep::Sync => replace(states, Written, Durable),
            PlanStep::SyncRange(range) => {
                let end = at(range.end).min(states.len());
                replace(&mut states[at(range.start).min(end)..end], Written, Durable);
            }
        }
    }

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in(changes in prop::collection::vec(change(), 0..40)) {
            let (mut set, mut plain) = (ChunkSet::default(), BTreeSet::new());
            for change in changes {
                match change {
                    Change::Insert(range) => {
                        set.insert(range.clone());
                        plain.extend(range);
                    }
                    Change::Remove(range) => {
                        set.remove(range.clone());
                        plain.retain(|index| !range.contains(index));
                    }
                }
                prop_assert_eq!(set.ranges().flatten().collect::<BTreeSet<_>>(), plain.clone());
                prop_assert_eq!(set.len(), plain.len() as u64);
                prop_assert_eq!(set.first(), plain.first().copied());
                prop_assert_eq!(set.is_empty(), plain.is_empty());
                for index in 0..CHUNKS + 9 {
                    prop_assert_eq!(set.contains(index), plain.contains(&index));
                }
                let ranges: Vec<_> = set.ranges().collect();
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", ranges);
            }
        }

        #[test]
        fn each_chunk_has_one_state(steps in prop::collection::vec(step(), 0..60)) {
            let mut plan = Plan::new(CHUNKS);
            let mut states = vec![ChunkState::Wanted; usize::try_from(CHUNKS).unwrap()];
            for step in steps {
                let before = states.clone();
                apply(&mut states, &step);
                match &step {
                    PlanStep::Begin(index) => prop_assert_eq!(plan.begin(*index), states != before),
                    PlanStep::Hold(range) => plan.hold(range.clone()),
                    PlanStep::Claim(index) => prop_assert_eq!(plan.claim(*index), states != before),
                    PlanStep::LoseClaim(index) => plan.lose_claim(*index),
                    PlanStep::Lose(index) => plan.lose(*index),
                    PlanStep::Write(index) => prop_assert_eq!(plan.write(*index), states != before),
                    PlanStep::Sync => plan.sync(),
                    PlanStep::SyncRange(range) => plan.sync_range(range.clone()),
                }
                let shown: Vec<_> = (0..CHUNKS).filter_map(|index| plan.state(index)).collect();
                prop_assert_eq!(&shown, &states, "{:?}", step);
                let count = |wanted: ChunkState| states.iter().filter(|state| **state == wanted).count() as u64;
                let durable = count(ChunkState::Durable);
                prop_assert_eq!(plan.written(), durable + count(ChunkState::Written));
                prop_assert_eq!(plan.held().len(), count(ChunkState::Held));
                prop_assert_eq!(plan.is_durable(), durable == CHUNKS);
                prop_assert_eq!(plan.is_written(), plan.written() == CHUNKS);
                let first = states.iter().position(|state| *state == ChunkState::Wanted);
                prop_assert_eq!(plan.next_wanted(), first.map(|first| first as u64));
            }
            prop_assert_eq!(plan.state(CHUNKS), None);
        }
    }

    #[test]
    fn the_last_chunk_has_fewer_bytes() {
        let mut plan = Plan::new(3);
        assert_eq!(plan.written_bytes(21, 3), 0);
        plan.write(2);
        assert_eq!(plan.written_bytes(21, 3), 5);
        plan.write(0);
        assert_eq!(plan.written_bytes(21, 3), 13);
        assert_eq!(Plan::new(0).written_bytes(0, 3), 0);
    }

    #[test]
    fn an_open_end_is_closed_once_and_behind_everything_that_came() {
        let mut plan = Plan::open_ended();
        assert!(plan.begin(0) && plan.write(0) && plan.begin(2));
        assert!(!plan.end_at(2), "chunk 2 is on its way");
        assert!(plan.end_at(3));
        assert!(!plan.end_at(4), "the end is known");
        assert_eq!((plan.chunks(), plan.next_wanted(), plan.is_written()), (3, Some(1), false));
        assert!(plan.write(1) && plan.write(2) && plan.is_written());
    }

    #[test]
    fn a_file_of_a_tebibyte_costs_ranges_and_not_chunks() {
        let mut plan = Plan::new(1 << 20);
        for index in 0..1 << 20 {
            assert!(plan.begin(index) && plan.write(index));
        }
        plan.sync();
        assert!(plan.is_durable());
        assert_eq!(plan.durable.ranges.len(), 1);
    }
}
