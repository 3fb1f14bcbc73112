//! store — the segments in delivery and the messages in them, until each has met its outcome.
//!
//! A segment goes back as soon as the octets of all its messages have left or are not needed any
//! more; what is still awaited then is only a reply. When segments run short, the last few messages
//! of one are copied out of it.

use std::sync::Arc;

use crate::outcome::Binding;
use crate::ring::Shared;
use crate::smtp::session::{Envelope, Tag};
use crate::spool::{Damaged, RecordHead, Segment};
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

/// A message that was moved out of its segment.
struct Copy {
    mail_from: String,
    rcpt_to: String,
    octets: Arc<Vec<u8>>,
}

/// Where the octets of a message are.
enum Place {
    /// In a segment, as this record.
    Segment(usize, u32),
    /// On the heap.
    Heap(Copy),
    /// They have left.
    Gone,
}

/// A message in delivery.
pub(super) struct Item {
    pub(super) head: RecordHead,
    /// When the first attempt began; `None` until it has.
    pub(super) first_attempt: Option<Utc>,
    pub(super) size: u32,
    pub(super) ready_at: Tick,
    pub(super) begun_at: Tick,
    pub(super) body_at: Option<Tick>,
    /// What it waited for last.
    pub(super) limit: Binding,
    /// Which message of its connection it is, from 1; 0 before it is offered.
    pub(super) index: u32,
    /// How often it came back from a connection without having been attempted.
    pub(super) releases: u8,
    /// Its octets are not what was written; it must be made again.
    pub(super) damaged: bool,
    place: Place,
}

impl Item {
    /// The attempt begins.
    pub(super) fn begin(&mut self, limit: Binding, now: Tick, utc: Utc) {
        self.begun_at = now;
        self.body_at = None;
        self.index = 0;
        self.limit = limit;
        self.first_attempt.get_or_insert(utc);
    }
}

/// Messages left in a segment that is worth emptying by copying them.
const FEW: u32 = 16;

/// All segments and messages of the stage.
#[derive(Default)]
pub(super) struct Store {
    segments: Vec<Option<Loaded>>,
    held: usize,
    items: Vec<Option<Item>>,
    free: Vec<u32>,
    emptied: Vec<Arc<Mapped>>,
    /// Octets of messages loaded, and their number: for the size of a usual one.
    loaded: (u64, u64),
}

impl Store {
    /// Takes a full segment; tells each of its messages.
    pub(super) fn load(&mut self, segment: Segment, now: Tick, tell: &mut Vec<Tag>) {
        let index = self.segments.iter().position(Option::is_none).unwrap_or_else(|| {
            self.segments.push(None);
            self.segments.len() - 1
        });
        let needed = u32::try_from(segment.len()).expect("a segment holds fewer records");
        for number in 0..needed {
            let record = segment.record(number as usize);
            let size = u32::try_from(record.message.len()).expect("a message fits a segment");
            self.loaded.0 += u64::from(size);
            let item = Item {
                head: record.head,
                first_attempt: record.head.first_attempt,
                size,
                ready_at: now,
                begun_at: now,
                body_at: None,
                limit: Binding::Nothing,
                index: 0,
                releases: 0,
                damaged: false,
                place: Place::Segment(index, number),
            };
            let tag = self.keep(item);
            tell.push(tag);
        }
        self.loaded.1 += u64::from(needed);
        self.held += 1;
        let segment = Arc::new(Mapped(segment));
        match needed {
            0 => self.emptied.push(segment),
            _ => self.segments[index] = Some(Loaded { segment, needed }),
        }
    }

    /// Segments that are here.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Octets of a usual message; a guess before the first has come.
    pub(super) fn usual_size(&self) -> usize {
        const GUESS: u64 = 16 << 10;
        let (octets, messages) = self.loaded;
        octets.checked_div(messages).map_or(GUESS, |size| size.max(256)) as usize
    }

    /// Moves the last few messages of a segment to the heap, so that it can be filled again: one
    /// that hangs on a slow receiver must not hold back the others. Whether there was one.
    pub(super) fn vacate(&mut self) -> bool {
        let few = |loaded: &Option<Loaded>| {
            loaded.as_ref().map(|loaded| loaded.needed).filter(|needed| *needed <= FEW)
        };
        let of_segments = self.segments.iter().enumerate();
        let fewest = of_segments.filter_map(|(at, loaded)| Some((few(loaded)?, at))).min();
        let Some((_, index)) = fewest else { return false };
        let in_it = |item: &Item| match item.place {
            Place::Segment(at, number) if at == index => Some(number as usize),
            _ => None,
        };
        let segment = self.segment(index);
        let damaged = |number: usize| segment.0.verify(number).is_err();
        if self.items.iter().flatten().filter_map(in_it).any(damaged) {
            return false; // whoever sends it will find that out
        }
        let loaded = self.segments[index].take().expect("it was just found");
        for item in self.items.iter_mut().flatten() {
            let Some(number) = in_it(item) else { continue };
            let record = loaded.segment.0.record(number);
            item.place = Place::Heap(Copy {
                mail_from: record.mail_from.to_owned(),
                rcpt_to: record.rcpt_to.to_owned(),
                octets: Arc::new(record.message.to_vec()),
            });
        }
        self.emptied.push(loaded.segment);
        true
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

    fn place(&self, tag: Tag) -> &Place {
        let item = self.items[tag.0 as usize].as_ref();
        &item.expect("a tag is used until its message is settled").place
    }

    fn segment(&self, index: usize) -> &Arc<Mapped> {
        &self.segments[index].as_ref().expect("a segment stays while it is needed").segment
    }

    pub(super) fn envelope(&self, tag: Tag) -> Envelope<'_> {
        match self.place(tag) {
            Place::Segment(index, number) => {
                let record = self.segment(*index).0.record(*number as usize);
                let size = record.message.len();
                Envelope { mail_from: record.mail_from, rcpt_to: record.rcpt_to, size }
            }
            Place::Heap(Copy { mail_from, rcpt_to, octets }) => {
                Envelope { mail_from, rcpt_to, size: octets.len() }
            }
            Place::Gone => unreachable!("the message's octets have not left yet"),
        }
    }

    /// Checks that the message is what was written.
    pub(super) fn verify(&self, tag: Tag) -> Result<(), Damaged> {
        match self.place(tag) {
            Place::Segment(index, number) => self.segment(*index).0.verify(*number as usize),
            // It was verified when it was copied.
            Place::Heap(_) | Place::Gone => Ok(()),
        }
    }

    /// The message's octets, and who keeps them.
    pub(super) fn octets(&self, tag: Tag) -> Shared {
        match self.place(tag) {
            Place::Segment(index, number) => {
                let segment = self.segment(*index);
                let range = segment.0.message_range(*number as usize);
                Shared::new(Arc::clone(segment) as _, range)
            }
            Place::Heap(copy) => Shared::new(Arc::clone(&copy.octets) as _, 0..copy.octets.len()),
            Place::Gone => unreachable!("the message's octets have not left yet"),
        }
    }

    /// The message's octets have left.
    pub(super) fn sent(&mut self, tag: Tag) {
        if let Some(item) = self.items[tag.0 as usize].as_mut() {
            let place = std::mem::replace(&mut item.place, Place::Gone);
            self.needless(&place);
        }
    }

    fn needless(&mut self, place: &Place) {
        let Place::Segment(index, _) = place else { return };
        let slot = &mut self.segments[*index];
        let loaded = slot.as_mut().expect("a segment stays while it is needed");
        loaded.needed -= 1;
        if loaded.needed == 0
            && let Some(loaded) = slot.take()
        {
            self.emptied.push(loaded.segment);
        }
    }

    /// The message has met its outcome.
    pub(super) fn settle(&mut self, tag: Tag) -> Item {
        let item = self.items[tag.0 as usize].take().expect("a message is settled once");
        self.free.push(tag.0);
        self.needless(&item.place);
        item
    }

    /// Whether the message's octets are still here, so that it can go on another connection.
    pub(super) fn has_octets(&mut self, tag: Tag) -> bool {
        !matches!(self.item(tag).place, Place::Gone)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.len() == self.free.len()
    }

    /// A segment that nobody needs any more. The ring may hold one a little longer than its last
    /// message; it comes with a later call.
    pub(super) fn emptied(&mut self) -> Option<Segment> {
        let at = self.emptied.iter().position(|mapped| Arc::strong_count(mapped) == 1)?;
        let mapped = self.emptied.swap_remove(at);
        self.held -= 1;
        Arc::into_inner(mapped).map(|mapped| mapped.0)
    }
}
