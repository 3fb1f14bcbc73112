//! dispatch — which message begins next, on which connection, and who has to wait for what.
//!
//! Groups that can go on take turns, a few messages each; within a group its sites do. A message
//! goes to an idle connection of its site, else its envelope goes behind a message that is being
//! sent (RFC 2920), else connections are made and it waits. It is bound to a connection only when
//! that has greeted: one that never does holds back nobody.
//!
//! What cannot go for a while does not stay: it goes back to preparation and is made again when it
//! can. And what will be able to go soon is asked for ahead of its time.

use std::cmp::Reverse;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::conversation::{Conversation, Route};
use super::{Delivery, Hands, Line, Site};
use crate::destination::{GroupNo, SiteNo, SourceNo};
use crate::limits::SEGMENT_BYTES;
use crate::outcome::Binding;
use crate::ring::{ConnId, Ring};
use crate::smtp::session::Tag;
use crate::spool::Segment;
use crate::spool::handover::{Again, Back};
use crate::units::{Tick, Utc};

/// Messages of one group before the next group has its turn.
const QUANTUM: u32 = 64;
/// Messages begun in one round; then what they sent is transmitted.
const ROUND: u32 = 1024;
/// How long before its time a message is asked for: long enough for a batch to be rendered and
/// signed on busy cores, short enough for a fresh `Date:` and signature.
const LEAD: Duration = Duration::from_secs(5);
/// Messages that cannot begin for this long go back and make room.
const PATIENCE: Duration = Duration::from_secs(10);
/// Up to so many messages that could begin soon, connections are made at once.
const SOON: Duration = Duration::from_secs(1);

/// A message that waited no longer than a round takes did not wait for anything.
const AT_ONCE: Duration = Duration::from_millis(2);

const NEVER: Tick = Tick(u64::MAX);

/// What came of looking for a place for a group's next message.
enum Placed {
    /// It has begun.
    Begun,
    /// Nothing can begin before this time, for this reason.
    Stuck(Tick, Binding),
}

impl<R: Ring> Delivery<'_, R> {
    pub(super) fn add_group(&mut self, group: super::Group) {
        self.pace.add(group.limits, self.ring.now());
        let sources = self.settings.sources.len();
        self.hands.extend(std::iter::repeat_n(Hands::default(), sources));
        self.groups.push(Line {
            name: group.name,
            provider: group.provider.unwrap_or_default(),
            sites: Default::default(),
            all_sites: Vec::new(),
            ready: 0,
            wanted: 0,
            dry: false,
            listed: false,
            queueing: false,
            wakes_at: NEVER,
            binding: Binding::Nothing,
            down_since: None,
            given_up: false,
        });
        let group = GroupNo(u32::try_from(self.groups.len() - 1).expect("groups fit 32 bits"));
        self.activate(group);
    }

    pub(super) fn add_site(&mut self, site: crate::destination::Site) {
        let policy = self.pace.limits(site.group).ip;
        let number = SiteNo(u32::try_from(self.sites.len()).expect("sites fit 32 bits"));
        self.groups[site.group.index()].all_sites.push(number);
        self.sites.push(Site::new(site, self.settings.port, policy));
    }

    pub(super) fn hands(&mut self, group: GroupNo, source: SourceNo) -> &mut Hands {
        let sources = self.settings.sources.len();
        &mut self.hands[group.index() * sources + source.index()]
    }

    /// A full segment came; its messages wait at their sites.
    pub(super) fn load(&mut self, segment: Segment) {
        let now = self.ring.now();
        let mut loaded = std::mem::take(&mut self.loaded);
        self.store.load(segment, now, &mut loaded);
        for tag in loaded.drain(..) {
            let group = self.sites[self.store.item(tag).head.site.index()].group;
            let line = &mut self.groups[group.index()];
            self.wanting -= u32::from(line.wanted > 0);
            line.wanted = line.wanted.saturating_sub(1);
            let site = self.store.item(tag).head.site;
            match self.sites[site.index()].has_address() {
                true => self.wait_at_site(tag, false),
                false => self.has_no_way(tag, site),
            }
        }
        self.loaded = loaded;
    }

    /// The message waits at its site, as the last or as the next.
    pub(super) fn wait_at_site(&mut self, tag: Tag, first: bool) {
        let head = self.store.item(tag).head;
        let group = self.sites[head.site.index()].group;
        let patience = self.ring.now().after(PATIENCE * self.settings.speed);
        // Better from another source than not at all.
        let source = head.source.filter(|source| self.pace.opens(group, *source).0 <= patience);
        let site = &mut self.sites[head.site.index()];
        site.push(tag, source, first);
        let line = &mut self.groups[site.group.index()];
        line.ready += 1;
        if !std::mem::replace(&mut site.listed, true) {
            line.sites.push_back(head.site);
        }
        self.activate(group);
    }

    /// Whether the group is this thread's.
    fn is_ours(&self, group: GroupNo) -> bool {
        let (thread, of) = self.settings.thread;
        group.0 % of == thread
    }

    pub(super) fn activate(&mut self, group: GroupNo) {
        if !self.is_ours(group) {
            return;
        }
        if !std::mem::replace(&mut self.groups[group.index()].listed, true) {
            self.active.push_back(group);
        }
    }

    /// The group looks again at this time, if not before.
    fn sleep(&mut self, group: GroupNo, until: Tick) {
        let line = &mut self.groups[group.index()];
        if until < line.wakes_at {
            line.wakes_at = until;
            self.sleeping.push(Reverse((until, group)));
        }
    }

    fn wake(&mut self) {
        for _ in 0..self.pace.free() {
            let Some(group) = self.queueing.pop_front() else { break };
            self.groups[group.index()].queueing = false;
            self.activate(group);
        }
        let now = self.ring.now();
        while let Some(Reverse((at, group))) = self.sleeping.peek().copied() {
            if at > now {
                return;
            }
            self.sleeping.pop();
            let line = &mut self.groups[group.index()];
            if line.wakes_at == at {
                line.wakes_at = NEVER;
                self.activate(group);
            }
        }
    }

    /// Gives waiting messages to connections, as far as lanes and connections allow.
    pub(super) fn dispatch(&mut self) {
        if self.stopping {
            return;
        }
        self.wake();
        let mut left = ROUND;
        let mut turns = self.active.len();
        while left > 0
            && turns > 0
            && let Some(group) = self.active.pop_front()
        {
            self.groups[group.index()].listed = false;
            let begun = self.serve(group, QUANTUM.min(left));
            left -= begun;
            turns -= 1;
            if begun > 0 {
                self.activate(group);
                turns += 1;
            }
        }
    }

    /// Begins up to `most` messages of a group; how many. One that begins none has said when it
    /// wants to be asked again.
    fn serve(&mut self, group: GroupNo, most: u32) -> u32 {
        let mut begun = 0;
        while begun < most && self.groups[group.index()].ready > 0 {
            match self.place(group) {
                Placed::Begun => begun += 1,
                Placed::Stuck(until, binding) => {
                    self.stuck(group, until, binding);
                    break;
                }
            }
        }
        while self.groups[group.index()].ready == 0
            && let Some(site) = self.groups[group.index()].sites.pop_front()
        {
            self.sites[site.index()].listed = false;
            self.spare(site);
        }
        self.ask(group);
        self.show(group);
        begun
    }

    fn stuck(&mut self, group: GroupNo, until: Tick, binding: Binding) {
        self.groups[group.index()].binding = binding;
        let patience = self.ring.now().after(PATIENCE * self.settings.speed);
        if self.first_lane(group).0 > patience {
            self.send_back(group);
        } else {
            self.sleep(group, until);
        }
    }

    /// What comes back ends the wants of its group; they are asked for anew when they can go.
    pub(super) fn unwant(&mut self, group: GroupNo) {
        let wanted = std::mem::take(&mut self.groups[group.index()].wanted);
        self.wanting -= wanted;
    }

    /// All waiting messages of the group go back to preparation, as the next ones.
    pub(super) fn send_back(&mut self, group: GroupNo) {
        self.unwant(group);
        while let Some(site) = self.groups[group.index()].sites.pop_front() {
            self.sites[site.index()].listed = false;
            while let Some(tag) = self.sites[site.index()].take_any() {
                self.groups[group.index()].ready -= 1;
                let again = self.given_back(tag, self.ring.utc());
                self.back(Back::Returned(again));
            }
        }
    }

    /// What preparation gets of a message that was not attempted; the message is settled.
    pub(super) fn given_back(&mut self, tag: Tag, due: Utc) -> Again {
        let item = self.store.settle(tag);
        self.settled += 1;
        Again {
            due,
            row: item.head.row,
            attempt: item.head.attempt,
            first_attempt: item.first_attempt,
            site: item.head.site,
            group: self.sites[item.head.site.index()].group,
            source: item.head.source,
        }
    }

    /// Finds a place for the next message of the group.
    fn place(&mut self, group: GroupNo) -> Placed {
        let mut order = std::mem::take(&mut self.order);
        self.pace.order(group, &mut order);
        let mut later = (NEVER, Binding::Nothing);
        order.retain(|source| {
            let (at, binding) = self.open(group, *source);
            let open = at <= self.ring.now();
            if !open && (at < later.0 || later.1 == Binding::Nothing) {
                later = (at, binding);
            }
            open
        });
        let placed = match order.is_empty() {
            true => Placed::Stuck(later.0, later.1),
            false => self.place_from(group, &order, later),
        };
        self.order = order;
        placed
    }

    /// When the lane is open, and what closes it. A lane that is probed has one message at a time.
    fn open(&mut self, group: GroupNo, source: SourceNo) -> (Tick, Binding) {
        let probing = self.pace.is_probing(group, source);
        if probing && self.hands(group, source).messages > 0 {
            return (NEVER, Binding::Pause);
        }
        self.pace.opens(group, source)
    }

    /// Finds a place on a connection from one of `sources`, or makes connections.
    fn place_from(
        &mut self,
        group: GroupNo,
        sources: &[SourceNo],
        mut later: (Tick, Binding),
    ) -> Placed {
        let now = self.ring.now();
        let mut blocked = None;
        for _ in 0..self.groups[group.index()].sites.len() {
            let line = &mut self.groups[group.index()];
            let Some(site) = line.sites.pop_front() else { break };
            if self.sites[site.index()].waiting() == 0 {
                self.sites[site.index()].listed = false;
                self.spare(site);
                continue;
            }
            line.sites.push_back(site);
            if let Some((conn, tag)) = self.free_connection(site, sources) {
                self.begin(conn, tag);
                return Placed::Begun;
            }
            while let Some(tag) = self.sites[site.index()].first()
                && self.expire_if_old(tag)
            {}
            if self.sites[site.index()].waiting() == 0 {
                continue;
            }
            let wakes = self.sites[site.index()].wakes_at();
            if wakes > now {
                later = sooner(later, (wakes, Binding::Unreachable));
                continue;
            }
            for source in sources {
                if let Err(why) = self.connect(group, site, *source) {
                    blocked = Some(why);
                }
            }
        }
        let Some((at, binding)) = blocked else {
            // Connections are being made; what becomes of them is an event.
            return Placed::Stuck(
                later.0,
                match later.1 {
                    Binding::Unreachable => Binding::Unreachable,
                    _ => Binding::Connections,
                },
            );
        };
        self.free_a_place(group, binding);
        Placed::Stuck(at.min(later.0), binding)
    }

    /// A connection to the site that can take a message, and which.
    fn free_connection(&mut self, site: SiteNo, sources: &[SourceNo]) -> Option<(ConnId, Tag)> {
        if let Some(found) = self.idle_connection(site, sources) {
            return Some(found);
        }
        let behind = self.sites[site.index()].behind.len();
        for _ in 0..behind {
            let conn = self.sites[site.index()].behind.pop_front()?;
            let most = self.quota(site);
            let Some(known) = self.conversation(conn) else { continue };
            let source = known.route.source;
            if known.route.site != site || !known.has_room_behind(most) {
                known.listed_behind &= known.route.site != site;
                continue;
            }
            let group = known.route.group;
            let probing = self.pace.is_probing(group, source);
            match self.next_for(site, source, sources).filter(|_| !probing) {
                Some(tag) => {
                    if let Some(known) = self.conversation(conn) {
                        known.listed_behind = false;
                    }
                    return Some((conn, tag));
                }
                None => self.sites[site.index()].behind.push_back(conn),
            }
        }
        None
    }

    /// An idle connection from the source whose turn it is most; the one used last, so that the
    /// others may time out.
    fn idle_connection(&mut self, site: SiteNo, sources: &[SourceNo]) -> Option<(ConnId, Tag)> {
        let most = self.quota(site);
        let mut best: Option<(ConnId, usize)> = None;
        for at in (0..self.sites[site.index()].idle.len()).rev() {
            let conn = self.sites[site.index()].idle[at];
            let known = self.conversation(conn).filter(|known| known.route.site == site);
            let Some(known) = known.filter(|known| known.listed_idle) else {
                self.sites[site.index()].idle.swap_remove(at);
                continue;
            };
            if !known.is_idle(most) {
                known.listed_idle = false;
                self.sites[site.index()].idle.swap_remove(at);
                continue;
            }
            let source = known.route.source;
            let Some(rank) = sources.iter().position(|of| *of == source) else { continue };
            if best.is_none_or(|(_, least)| rank < least) {
                best = Some((conn, rank));
            }
            if rank == 0 {
                break;
            }
        }
        let (conn, rank) = best?;
        let tag = self.next_for(site, sources[rank], sources)?;
        let idle = &mut self.sites[site.index()].idle;
        idle.remove(idle.iter().rposition(|of| *of == conn)?);
        if let Some(known) = self.conversation(conn) {
            known.listed_idle = false;
        }
        Some((conn, tag))
    }

    /// The next message that may go from this source; those whose time is over are ended.
    fn next_for(&mut self, site: SiteNo, source: SourceNo, open: &[SourceNo]) -> Option<Tag> {
        if !open.contains(&source) {
            return None;
        }
        while let Some(tag) = self.sites[site.index()].next(source) {
            if !self.expire_if_old(tag) {
                return Some(tag);
            }
        }
        None
    }

    /// How many messages a connection to the site may carry.
    pub(super) fn quota(&self, site: SiteNo) -> Option<u32> {
        self.pace.limits(self.sites[site.index()].group).messages_per_connection
    }

    fn begin(&mut self, conn: ConnId, tag: Tag) {
        let (now, utc) = (self.ring.now(), self.ring.utc());
        let Some(route) = self.conversation(conn).map(|known| known.route) else {
            unreachable!("a message begins on a connection that was just checked");
        };
        let Route { group, site, source, .. } = route;
        self.pace.take(group, source, now);
        let taken = self.sites[site.index()].take(source);
        assert_eq!(taken, Some(tag), "what begins is what was looked at");
        let line = &mut self.groups[group.index()];
        line.ready -= 1;
        let waited = now.since(self.store.item(tag).ready_at);
        let limit = match waited > AT_ONCE * self.settings.speed {
            true => line.binding,
            false => Binding::Nothing,
        };
        self.store.item(tag).begin(limit, now, utc);
        let conversation = self.conversations[conn.0 as usize].as_mut();
        let conversation = conversation.expect("it was there a moment ago");
        let first = !conversation.has_carried();
        let index = conversation.offer(tag, self.store.envelope(tag), now);
        self.store.item(tag).index = index;
        let hands = self.hands(group, source);
        hands.messages += 1;
        hands.carrying += u32::from(first);
        self.touched(conn);
        self.hear(conn);
    }

    /// Makes connections to the site, as many as are allowed and could be used soon.
    fn connect(
        &mut self,
        group: GroupNo,
        site: SiteNo,
        source: SourceNo,
    ) -> Result<(), (Tick, Binding)> {
        let now = self.ring.now();
        loop {
            let waiting = self.sites[site.index()].waiting_for(source);
            let soon = match self.pace.limits(group).rates.is_empty() {
                true => waiting,
                false => {
                    let soon = SOON * self.settings.speed;
                    let soon = self.pace.within(group, now, soon).unwrap_or(u64::MAX);
                    waiting.min(usize::try_from(soon).unwrap_or(usize::MAX))
                }
            };
            if soon <= self.sites[site.index()].greeting as usize {
                return Ok(());
            }
            self.pace.may_connect(group, source, now)?;
            let Some((address, to)) = self.sites[site.index()].next_address(now) else {
                return Ok(()); // the last one has just failed
            };
            let ours = self.settings.sources[source.index()].address;
            let made = match self.settings.loopback_only && !to.ip().is_loopback() {
                true => Err(std::io::ErrorKind::PermissionDenied.into()),
                false => self.ring.connect(to, ours),
            };
            let route = Route { group, site, source, address };
            match made {
                Ok(conn) => self.connecting(conn, route, to, now),
                Err(error) => {
                    self.no_socket(route, to, &error);
                    return Ok(());
                }
            }
        }
    }

    fn connecting(&mut self, conn: ConnId, route: Route, to: SocketAddr, now: Tick) {
        let key = self.live.last_connection.fetch_add(1, Ordering::Relaxed) + 1;
        let index = conn.0 as usize;
        if index >= self.conversations.len() {
            self.conversations.resize_with(index + 1, || None);
        }
        let conversation = Conversation::connecting(key, route, to, now);
        self.ring.deadline(conn, conversation.deadline());
        self.conversations[index] = Some(conversation);
        self.sites[route.site.index()].greeting += 1;
        self.pace.opened(route.group, route.source, now);
        self.tally.opened();
        self.live.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// The site has no message any more: its idle connections may make place for other sites.
    fn spare(&mut self, site: SiteNo) {
        for at in 0..self.sites[site.index()].idle.len() {
            let conn = self.sites[site.index()].idle[at];
            self.may_be_spared(conn);
        }
    }

    /// The connection is idle and its site has no message.
    pub(super) fn may_be_spared(&mut self, conn: ConnId) {
        let known = self.conversation(conn);
        if known.is_some_and(|known| !std::mem::replace(&mut known.listed_spare, true)) {
            self.spare.push_back(conn);
        }
    }

    /// The group, or the run, has all its connections and a site without one waits: a connection
    /// that is idle because its own site has no message makes place.
    fn free_a_place(&mut self, group: GroupNo, binding: Binding) {
        let any = binding == Binding::Ceiling;
        if any && !std::mem::replace(&mut self.groups[group.index()].queueing, true) {
            self.queueing.push_back(group);
        }
        if !any && self.groups[group.index()].all_sites.len() == 1 {
            return; // its own connections are the only ones, and they have work
        }
        let now = self.ring.now();
        for _ in 0..self.spare.len() {
            let Some(conn) = self.spare.pop_front() else { return };
            let Some(known) = self.conversation(conn).filter(|known| known.listed_spare) else {
                continue;
            };
            let route = known.route;
            if self.sites[route.site.index()].waiting() > 0 {
                if let Some(known) = self.conversation(conn) {
                    known.listed_spare = false;
                }
                continue;
            }
            if !any && route.group != group {
                self.spare.push_back(conn);
                continue;
            }
            if let Some(known) = self.conversation(conn) {
                known.listed_spare = false;
                if known.quit_if_idle(now) {
                    return self.touched(conn);
                }
            }
        }
    }

    /// Asks preparation for what could begin within the lead.
    pub(super) fn ask(&mut self, group: GroupNo) {
        if self.stopping || !self.feeding || self.groups[group.index()].given_up {
            return;
        }
        let now = self.ring.now();
        let lead = LEAD * self.settings.speed;
        let target = self.target(group, now, lead);
        let line = &mut self.groups[group.index()];
        let have = line.ready + line.wanted;
        if target > 0 && have <= target - target.div_ceil(4) {
            let more = target - have;
            line.wanted += more;
            self.wanting += more;
            self.back(Back::Want(group, more));
        } else if target == 0 && have == 0 {
            // Everything is closed for longer than the lead: look again when that begins.
            let (opens, binding) = self.first_opening(group);
            self.groups[group.index()].binding = binding;
            if opens < NEVER {
                let lead = u64::try_from(lead.as_nanos()).unwrap_or(u64::MAX);
                self.sleep(group, Tick(opens.0.saturating_sub(lead)).max(now.after(AT_ONCE)));
            }
        }
    }

    /// How many messages of the group ought to be here.
    fn target(&self, group: GroupNo, now: Tick, lead: Duration) -> u32 {
        if self.first_lane(group).0 > now.after(lead) {
            return 0;
        }
        let line = &self.groups[group.index()];
        if let [only] = line.all_sites[..] {
            let wakes = self.sites[only.index()].wakes_at();
            if wakes > now {
                // A probe is enough, and none if it is far.
                return u32::from(wakes <= now.after(lead));
            }
        }
        let room = self.settings.segments * SEGMENT_BYTES / self.store.usual_size();
        let room = u32::try_from(room / 2).unwrap_or(u32::MAX).max(1);
        match self.pace.within(group, now, lead) {
            None => room,
            Some(soon) => u32::try_from(soon).unwrap_or(u32::MAX).min(room),
        }
    }

    /// When the first lane of the group opens, and what keeps it closed.
    fn first_lane(&self, group: GroupNo) -> (Tick, Binding) {
        let lanes = (0..self.pace.sources()).map(|source| self.pace.opens(group, SourceNo(source)));
        lanes.min_by_key(|(at, _)| *at).unwrap_or((NEVER, Binding::Nothing))
    }

    /// When the first message of the group may begin, and what it waits for until then.
    fn first_opening(&self, group: GroupNo) -> (Tick, Binding) {
        let lane = self.first_lane(group);
        match self.groups[group.index()].all_sites[..] {
            [only] if self.sites[only.index()].wakes_at() > lane.0 => {
                (self.sites[only.index()].wakes_at(), Binding::Unreachable)
            }
            _ => lane,
        }
    }

    /// Publishes what binds the group.
    fn show(&self, group: GroupNo) {
        let line = &self.groups[group.index()];
        let Some(live) = self.live.groups.get(group.index()) else { return };
        let binding = match line.ready {
            0 if line.wanted > 0 && line.dry => Binding::Retry,
            0 if line.wanted > 0 => Binding::Preparation,
            _ => line.binding,
        };
        live.binding.store(binding as u8, Ordering::Relaxed);
    }
}

fn sooner(a: (Tick, Binding), b: (Tick, Binding)) -> (Tick, Binding) {
    if b.0 < a.0 || a.1 == Binding::Nothing { b } else { a }
}
