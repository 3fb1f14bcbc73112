//! store — the segments in delivery and the messages in them, until each has met its outcome.
//!
//! A segment goes back as soon as the octets of all its messages have left or are not needed any
//! more; what is still awaited then is only a reply.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::outcome::Row;
use crate::smtp::session::{Envelope, Tag};
use crate::spool::{Damaged, Segment};
use crate::units::{Tick, Utc};

/// A segment as the ring sees it: octets that stay put.
pub(super) struct Mapped(Segment);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

struct Loaded {
    segment: Arc<Mapped>,
    /// Messages whose octets are still needed.
    needed: u32,
}

/// A message in delivery.
pub(super) struct Item {
    pub(super) row: Row,
    pub(super) attempt: u16,
    pub(super) spooled: Utc,
    /// When the first attempt began; `None` until it has.
    pub(super) first_attempt: Option<Utc>,
    pub(super) size: u32,
    pub(super) ready_at: Tick,
    pub(super) begun_at: Tick,
    pub(super) body_at: Option<Tick>,
    /// Which message of its connection it is, from 1; 0 before it is offered.
    pub(super) index: u32,
    /// How often it came back from a connection without having been attempted.
    pub(super) releases: u8,
    /// Its octets are not what was written; it must be made again.
    pub(super) damaged: bool,
    place: Option<(usize, u32)>,
}

impl Item {
    /// The attempt begins.
    pub(super) fn begin(&mut self, now: Tick, utc: Utc) {
        self.begun_at = now;
        self.body_at = None;
        self.index = 0;
        self.first_attempt.get_or_insert(utc);
    }
}

/// All segments and messages of the stage.
#[derive(Default)]
pub(super) struct Store {
    segments: Vec<Option<Loaded>>,
    items: Vec<Option<Item>>,
    free: Vec<u32>,
    ready: VecDeque<Tag>,
    emptied: Vec<Arc<Mapped>>,
}

impl Store {
    /// Takes a full segment; its messages are ready.
    pub(super) fn load(&mut self, segment: Segment, now: Tick) {
        let index = self.segments.iter().position(Option::is_none).unwrap_or_else(|| {
            self.segments.push(None);
            self.segments.len() - 1
        });
        let needed = u32::try_from(segment.len()).expect("a segment holds fewer records");
        for number in 0..needed {
            let record = segment.record(number as usize);
            let item = Item {
                row: record.row,
                attempt: record.attempt,
                spooled: record.spooled,
                first_attempt: (record.attempt > 1).then_some(record.first_attempt),
                size: u32::try_from(record.message.len()).expect("a message fits a segment"),
                ready_at: now,
                begun_at: now,
                body_at: None,
                index: 0,
                releases: 0,
                damaged: false,
                place: Some((index, number)),
            };
            let tag = self.keep(item);
            self.ready.push_back(tag);
        }
        let segment = Arc::new(Mapped(segment));
        match needed {
            0 => self.emptied.push(segment),
            _ => self.segments[index] = Some(Loaded { segment, needed }),
        }
    }

    fn keep(&mut self, item: Item) -> Tag {
        let index = self.free.pop().unwrap_or_else(|| {
            self.items.push(None);
            u32::try_from(self.items.len() - 1).expect("messages in delivery fit the spool")
        });
        self.items[index as usize] = Some(item);
        Tag(index)
    }

    pub(super) fn item(&mut self, tag: Tag) -> &mut Item {
        self.items[tag.0 as usize].as_mut().expect("a tag is used until its message is settled")
    }

    fn loaded(&self, tag: Tag) -> (&Loaded, usize) {
        let place = self.items[tag.0 as usize].as_ref().and_then(|item| item.place);
        let (index, number) = place.expect("the message's octets have not left yet");
        let loaded = self.segments[index].as_ref().expect("a segment stays while it is needed");
        (loaded, number as usize)
    }

    pub(super) fn envelope(&self, tag: Tag) -> Envelope<'_> {
        let (loaded, number) = self.loaded(tag);
        let record = loaded.segment.0.record(number);
        Envelope {
            mail_from: record.mail_from,
            rcpt_to: record.rcpt_to,
            size: record.message.len(),
        }
    }

    /// Checks that the message is what was written.
    pub(super) fn verify(&self, tag: Tag) -> Result<(), Damaged> {
        let (loaded, number) = self.loaded(tag);
        loaded.segment.0.verify(number)
    }

    /// The message's octets, and who keeps them.
    pub(super) fn octets(&self, tag: Tag) -> (Arc<Mapped>, Range<usize>) {
        let (loaded, number) = self.loaded(tag);
        (Arc::clone(&loaded.segment), loaded.segment.0.message_range(number))
    }

    /// The message's octets have left.
    pub(super) fn sent(&mut self, tag: Tag) {
        if let Some(item) = self.items[tag.0 as usize].as_mut() {
            let place = item.place.take();
            self.needless(place);
        }
    }

    fn needless(&mut self, place: Option<(usize, u32)>) {
        let Some((index, _)) = place else { return };
        let loaded = self.segments[index].as_mut().expect("a segment stays while it is needed");
        loaded.needed -= 1;
        if loaded.needed == 0
            && let Some(loaded) = self.segments[index].take()
        {
            self.emptied.push(loaded.segment);
        }
    }

    /// The message has met its outcome.
    pub(super) fn settle(&mut self, tag: Tag) -> Item {
        let item = self.items[tag.0 as usize].take().expect("a message is settled once");
        self.free.push(tag.0);
        self.needless(item.place);
        item
    }

    pub(super) fn first_ready(&self) -> Option<Tag> {
        self.ready.front().copied()
    }

    pub(super) fn take_first_ready(&mut self) -> Option<Tag> {
        self.ready.pop_front()
    }

    /// A message comes back from a connection unattempted; it is the next again.
    pub(super) fn back_to_ready(&mut self, tag: Tag) {
        self.item(tag).releases += 1;
        self.ready.push_front(tag);
    }

    /// Whether the message's octets are still here, so that it can go on another connection.
    pub(super) fn has_octets(&mut self, tag: Tag) -> bool {
        self.item(tag).place.is_some()
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.len() == self.free.len()
    }

    /// A segment that nobody needs any more. The ring may hold one a little longer than its last
    /// message; it comes with a later call.
    pub(super) fn emptied(&mut self) -> Option<Segment> {
        let at = self.emptied.iter().position(|mapped| Arc::strong_count(mapped) == 1)?;
        let mapped = self.emptied.swap_remove(at);
        Arc::into_inner(mapped).map(|mapped| mapped.0)
    }
}
