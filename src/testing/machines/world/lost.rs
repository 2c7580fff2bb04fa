//! Parcels that are given up, and connections that are lost.

use super::ends::Ends;
use super::{MessageQueue, Stream, World, WorldEvent, changed};
use crate::protocol::engine::sender::Parcel;
use crate::protocol::failure::Failure;
use crate::protocol::wire::message::Message;

impl<E: Ends> World<E> {
    /// What the receiver has begun of a parcel and not written may come again.
    pub(super) fn drop_unwritten(&mut self, number: u64) {
        if matches!(self.streams[&number].parcel, Parcel::Claims { .. }) {
            self.compare(number).unwrap();
        }
        let stream = self.streams.get_mut(&number).unwrap();
        stream.is_open_at_receiver = false;
        for record in std::mem::take(&mut stream.unwritten) {
            self.receiver.record_cut(record.id, record.offset);
        }
    }

    pub(super) fn on_reset(&mut self, number: u64) {
        if self.streams[&number].is_open_at_receiver {
            self.drop_unwritten(number);
        }
        self.streams.remove(&number);
    }

    pub(super) fn on_give_up(&mut self, number: u64) -> Result<(), Failure> {
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.is_open_at_sender) else {
            return Ok(());
        };
        stream.is_open_at_sender = false;
        let parcel = stream.parcel.clone();
        let (Parcel::Chunk { id, .. } | Parcel::Claims { id, .. }) = parcel else {
            panic!("only chunks are given up")
        };
        self.sender.abandon(id, changed());
        self.sender.parcel_failed(&parcel, changed())?;
        let delay = self.delay();
        self.at(delay, WorldEvent::Reset(number));
        Ok(())
    }

    /// One parcel is reset and sent again at once, so that it may overtake the reset.
    pub(super) fn reset_a_parcel(&mut self) -> Result<(), Failure> {
        let open: Vec<_> =
            self.streams.iter().filter_map(|(n, stream)| stream.is_open_at_sender.then_some(*n)).collect();
        if open.is_empty() {
            return Ok(());
        }
        let number = open[self.random.index(open.len())];
        self.send_again(number)
    }

    fn send_again(&mut self, number: u64) -> Result<(), Failure> {
        let stream = self.streams.get_mut(&number).unwrap();
        stream.is_open_at_sender = false;
        let (parcel, abandoned) = (stream.parcel.clone(), std::mem::take(&mut stream.abandoned));
        let values: Vec<_> =
            stream.records.iter().map(|r| (r.id, r.content.value(r.offset, r.len))).collect();
        for (id, failure) in abandoned {
            self.sender.abandon(id, failure);
        }
        self.sender.parcel_lost(parcel, &values, true)?;
        let delay = self.delay();
        self.at(delay, WorldEvent::Reset(number));
        Ok(())
    }

    /// A connection beside the first dies: the sender sees it at once, the receiver later.
    pub(super) fn lose_a_lane(&mut self) -> Result<(), Failure> {
        let at = 1 + self.random.index(2);
        let lane = self.lanes[at];
        self.lanes[at] = self.lanes.iter().max().unwrap() + 1;
        let open = |stream: &&mut Stream| stream.lane == lane && stream.is_open_at_sender;
        let numbers: Vec<_> =
            self.streams.iter_mut().filter_map(|(n, stream)| open(&stream).then_some(*n)).collect();
        for number in numbers {
            self.send_again(number)?;
        }
        self.control(MessageQueue::ToReceiver, Message::Left(lane));
        Ok(())
    }

    pub(super) fn on_leave(&mut self, lane: u32) {
        assert!(!self.lanes.contains(&lane), "a connection that lives was closed");
        let open = |stream: &Stream| stream.lane == lane && stream.is_open_at_receiver;
        let numbers: Vec<_> =
            self.streams.iter().filter_map(|(n, stream)| open(stream).then_some(*n)).collect();
        for number in numbers {
            self.drop_unwritten(number);
        }
    }
}
