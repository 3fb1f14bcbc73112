//! buffers — the receive buffers that the kernel picks from, shared by all connections of a ring.
//!
//! One ring of provided buffers (`IORING_REGISTER_PBUF_RING`, Linux 5.19) instead of one buffer per
//! connection: 10,000 idle connections cost no receive memory. A buffer is taken when octets
//! arrive, copied to the caller's arena (replies are about 100 octets) and given back at once.

#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

/// Buffers of the ring; a power of two, as the kernel demands.
const COUNT: u16 = 1024;
/// Octets of one buffer: replies fit, an EHLO reply takes one or two.
const SIZE: u32 = 2048;
/// The group's number within its ring.
pub(super) const GROUP: u16 = 0;

const _: () = assert!(COUNT.is_power_of_two());

/// The provided buffers: entries that the kernel reads, and the memory they point to.
pub(super) struct Buffers {
    /// The ring of entries; page-aligned because it is a mapping of its own.
    entries: MmapMut,
    memory: MmapMut,
    tail: u16,
}

impl Buffers {
    /// Maps the buffers and offers all of them to the kernel.
    pub(super) fn register(submitter: &io_uring::Submitter<'_>) -> io::Result<Buffers> {
        let entries = MmapMut::map_anon(usize::from(COUNT) * size_of::<BufRingEntry>())?;
        let memory = MmapMut::map_anon(usize::from(COUNT) * SIZE as usize)?;
        let mut buffers = Buffers { entries, memory, tail: 0 };
        let base = buffers.entries.as_mut_ptr() as u64;
        // SAFETY: the entries are `COUNT` page-aligned `BufRingEntry`s in a mapping that lives as
        // long as `Buffers`, which its owner drops after the ring.
        unsafe { submitter.register_buf_ring_with_flags(base, COUNT, GROUP, 0) }?;
        for id in 0..COUNT {
            buffers.give(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The first `len` octets of buffer `id`, as the kernel filled it.
    pub(super) fn octets(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < COUNT && len <= SIZE as usize, "the kernel names a buffer that it was given");
        let start = usize::from(id) * SIZE as usize;
        &self.memory[start..start + len]
    }

    /// Puts buffer `id` back; the kernel sees it after the next [`Buffers::publish`].
    pub(super) fn give(&mut self, id: u16) {
        assert!(id < COUNT, "buffer ids are below the count");
        let slot = usize::from(self.tail & (COUNT - 1));
        let address = self.memory.as_ptr() as u64 + u64::from(id) * u64::from(SIZE);
        let base = self.entries.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: `slot` is below `COUNT`, so the sum stays within the mapping of `COUNT` entries.
        let entry = unsafe { base.add(slot) };
        // SAFETY: the mapping is zeroed or was written as entries before, so this is a valid
        // `BufRingEntry`; nobody else refers to it, and the kernel reads only up to the tail.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(SIZE);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see the buffers given back so far.
    pub(super) fn publish(&mut self) {
        let base = self.entries.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `base` is the first entry of the registered ring, mapped and aligned.
        let tail = unsafe { BufRingEntry::tail(base) };
        // SAFETY: the tail lies in our writable mapping, is aligned for u16, and is written by
        // nobody but us; the kernel only reads it.
        let shared = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        shared.store(self.tail, Ordering::Release);
    }
}
