//! hearing — what a conversation says, what the verdict makes of it, and what is done about it.
//!
//! The protocol only reports, `smtp::verdict` judges, and here the judgement becomes a record, a
//! stop of the scope that it names, or another place in the queue.

use std::net::SocketAddr;
use std::time::Duration;

use super::conversation::{Heard, Route};
use super::store::Item;
use super::{Delivery, Notice, OnDoubt};
use crate::destination::{GroupNo, SiteNo, SourceNo};
use crate::outcome::{
    Binding, Class, Enhanced, Kind, Outcome, Session as SessionFacts, Stage, clipped,
};
use crate::rates::Who;
use crate::ring::{ConnId, Ring};
use crate::smtp::reply::Reply;
use crate::smtp::session::{End, Event, Tag};
use crate::smtp::verdict::{Action, Failure, Scope, Verdict, judge, judge_failure};
use crate::spool::handover::{Again, Back};
use crate::units::Utc;

/// How often a message may come back from a connection unattempted before that counts as an
/// attempt: a receiver that closes before every message would otherwise be asked for ever.
const RELEASES_MAX: u8 = 3;

/// Why a message has this outcome: a verdict, and the words for the record.
struct Finding {
    verdict: Verdict,
    stage: Stage,
    code: u16,
    enhanced: Option<Enhanced>,
    words: String,
}

impl Finding {
    fn of_reply(verdict: Verdict, stage: Stage, reply: &Reply) -> Finding {
        let (code, enhanced, words) = (reply.code, reply.enhanced, reply.text().into_owned());
        Finding { verdict, stage, code, enhanced, words }
    }

    fn of_failure(verdict: Verdict, stage: Stage, words: String) -> Finding {
        Finding { verdict, stage, code: 0, enhanced: None, words }
    }
}

impl<R: Ring> Delivery<'_, R> {
    /// Works off everything that a conversation has to say.
    pub(super) fn hear(&mut self, conn: ConnId) {
        while let Some(heard) = self.conversation(conn).and_then(|known| known.hear()) {
            match heard {
                Heard::Unconnected(failure) => {
                    self.unreached(conn, &End::Failed(Stage::Connect, failure));
                    self.closed(conn);
                }
                Heard::Said(event) => self.said(conn, event),
            }
        }
        if self.conversation(conn).is_some() {
            self.find_work(conn);
        }
    }

    fn route(&mut self, conn: ConnId) -> Route {
        self.conversation(conn).expect("a connection that speaks is known").route
    }

    fn greeted(&mut self, conn: ConnId) {
        if let Some(conversation) = self.conversation(conn) {
            conversation.greeted = true;
            let site = conversation.route.site;
            self.sites[site.index()].greeting -= 1;
        }
    }

    fn judged(&self, group: GroupNo, stage: Stage, reply: &Reply) -> Finding {
        let provider = &self.groups[group.index()].provider;
        Finding::of_reply(judge(self.rules, provider, stage, reply), stage, reply)
    }

    fn rule(&self, finding: &Finding) -> &'static str {
        finding.verdict.rule.map_or("", |rule| self.rules.name(rule))
    }

    /// A connection came to nothing before any message was bound to it.
    ///
    /// What the reply asks for is done. Else, while others of the lane carry messages, it tells how
    /// many the receiver wants; if none does, the address rests. When the site has no other left,
    /// the message that would have been the next is charged with the attempt.
    fn unreached(&mut self, conn: ConnId, end: &End) {
        let route = self.route(conn);
        let finding = match end {
            End::Refused(stage, reply) => self.judged(route.group, greeting(*stage), reply),
            End::Failed(stage, failure) => {
                let stage = greeting(*stage);
                let verdict = judge_failure(stage, *failure);
                Finding::of_failure(verdict, stage, failure.to_string())
            }
            End::Finished => {
                let failure = Failure::ClosedByPeer;
                let verdict = judge_failure(Stage::Banner, failure);
                Finding::of_failure(verdict, Stage::Banner, failure.to_string())
            }
        };
        let facts = self.conversation(conn).map(|known| known.facts(0)).unwrap_or_default();
        self.turned_away(route, facts, &finding);
    }

    fn turned_away(&mut self, route: Route, facts: SessionFacts, finding: &Finding) {
        let Route { group, site, source, address } = route;
        let now = self.ring.now();
        let named = match finding.verdict.action {
            Action::Pause(time) => !time.is_zero(),
            action => action == Action::Halt,
        };
        let carrying = self.hands(group, source).carrying;
        let news = if named {
            self.heed(route, finding)
        } else if carrying > 0 {
            self.pace.narrow(group, source, carrying, now);
            false
        } else if self.heed(route, finding) {
            true
        } else {
            self.sites[site.index()].failed(address, now)
        };
        self.activate(group);
        if !news || self.stopping {
            return;
        }
        self.groups[group.index()].down_since.get_or_insert(now);
        if let Some(tag) = self.sites[site.index()].take_any() {
            self.groups[group.index()].ready -= 1;
            let limit = self.groups[group.index()].binding;
            let utc = self.ring.utc();
            self.store.item(tag).begin(limit, now, utc);
            self.conclude(tag, route, facts, finding);
        }
        self.site_is_down(route);
    }

    /// Messages of a site that rests for long go back until then, or end when it did so for too
    /// long.
    fn site_is_down(&mut self, route: Route) {
        let (now, utc) = (self.ring.now(), self.ring.utc());
        let Route { group, site, .. } = route;
        let line = &self.groups[group.index()];
        let only = line.all_sites.len() == 1;
        let down = line.down_since.map_or(Duration::ZERO, |since| now.since(since));
        if only && down > self.pace.limits(group).retry.expire_after && !line.given_up {
            self.groups[group.index()].given_up = true;
            let words = "expired: the receiver was out of reach all the time".to_owned();
            self.back(Back::GiveUp(Some(group), Kind::Expired, words));
        }
        let wakes = self.sites[site.index()].wakes_at();
        if only || wakes <= now {
            return; // the group as a whole waits
        }
        let due = utc.after(wakes.since(now));
        while let Some(tag) = self.sites[site.index()].take_any() {
            self.groups[group.index()].ready -= 1;
            let again = self.given_back(tag, due);
            self.back(Back::Again(again));
        }
    }

    /// The limits allow none of the site's addresses.
    pub(super) fn has_no_way(&mut self, tag: Tag, site: SiteNo) {
        let group = self.sites[site.index()].group;
        let verdict = judge_failure(Stage::Connect, Failure::Unreachable);
        let words = "none of the mail hosts has an address of the family that its limits allow";
        let finding = Finding::of_failure(verdict, Stage::Connect, words.to_owned());
        let (now, utc) = (self.ring.now(), self.ring.utc());
        self.store.item(tag).begin(Binding::Unreachable, now, utc);
        let route = Route { group, site, source: SourceNo(0), address: 0 };
        self.conclude(tag, route, SessionFacts::default(), &finding);
    }

    /// Not even a socket could be had.
    pub(super) fn no_socket(&mut self, route: Route, to: SocketAddr, why: &std::io::Error) {
        let verdict = judge_failure(Stage::Connect, Failure::Unreachable);
        let words = format!("no connection to {to}: {why}");
        let finding = Finding::of_failure(verdict, Stage::Connect, words);
        self.turned_away(route, SessionFacts::default(), &finding);
    }

    fn said(&mut self, conn: ConnId, event: Event) {
        match event {
            Event::Ready => self.greeted(conn),
            Event::Body(tag) => {
                self.bodies.push((conn, tag));
                self.touched(conn);
            }
            Event::Accepted(tag, reply) => {
                let Route { group, site, source, address } = self.route(conn);
                self.pace.success(group, source, self.ring.now());
                self.sites[site.index()].took(address);
                self.groups[group.index()].down_since = None;
                self.replied(conn, tag, Stage::Dot, &reply);
            }
            Event::Refused(tag, stage, reply) => self.replied(conn, tag, stage, &reply),
            Event::Unfit(tag, failure) => self.failed(conn, tag, Stage::Mail, failure),
            Event::Lost(tag, stage, failure) => self.failed(conn, tag, stage, failure),
            Event::Released(tag) => self.released(conn, tag),
            Event::Over(end) => self.over(conn, &end),
        }
    }

    fn over(&mut self, conn: ConnId, end: &End) {
        let carried = self.conversation(conn).is_some_and(|known| known.has_carried());
        if !carried && *end != End::Finished {
            self.unreached(conn, end);
        } else if let End::Refused(stage, reply) = end {
            let route = self.route(conn);
            let finding = self.judged(route.group, *stage, reply);
            self.heed(route, &finding);
        }
        self.closed(conn);
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        self.ring.close(conn);
        self.bodies.retain(|(asking, _)| *asking != conn);
        let Some(conversation) = self.conversations[conn.0 as usize].take() else { return };
        let Route { group, site, source, .. } = conversation.route;
        self.sites[site.index()].greeting -= u32::from(!conversation.greeted);
        self.hands(group, source).carrying -= u32::from(conversation.has_carried());
        self.pace.closed(group, source);
        self.tally.closed();
        self.live.connections.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.activate(group);
    }

    /// Remembers that the connection could use another message, or ends it.
    fn find_work(&mut self, conn: ConnId) {
        let now = self.ring.now();
        let Route { group, site, .. } = self.route(conn);
        let most = self.quota(site);
        let waiting = self.sites[site.index()].waiting() > 0;
        let Some(conversation) = self.conversation(conn) else { return };
        if conversation.is_used_up(most) {
            conversation.quit_if_idle(now);
            self.touched(conn);
        } else if conversation.is_idle(most) && !conversation.listed_idle {
            conversation.listed_idle = true;
            self.sites[site.index()].idle.push(conn);
            if !waiting {
                self.may_be_spared(conn);
            }
            // Another site of the group may want its place.
            if waiting || self.groups[group.index()].ready > 0 {
                self.activate(group);
            }
        } else if conversation.has_room_behind(most) && !conversation.listed_behind {
            conversation.listed_behind = true;
            self.sites[site.index()].behind.push_back(conn);
            if waiting {
                self.activate(group);
            }
        }
    }

    /// A reply decided the message.
    fn replied(&mut self, conn: ConnId, tag: Tag, stage: Stage, reply: &Reply) {
        let group = self.route(conn).group;
        let mut finding = self.judged(group, stage, reply);
        finding.verdict = finding.verdict.for_message(self.store.item(tag).index);
        self.decide(conn, tag, &finding);
    }

    /// A failure without a reply decided the message.
    fn failed(&mut self, conn: ConnId, tag: Tag, stage: Stage, failure: Failure) {
        let verdict = judge_failure(stage, failure).for_message(self.store.item(tag).index);
        self.decide(conn, tag, &Finding::of_failure(verdict, stage, failure.to_string()));
    }

    /// The message was not attempted: it is the next again, unless that happens too often.
    fn released(&mut self, conn: ConnId, tag: Tag) {
        if self.store.item(tag).damaged {
            return self.remake(conn, tag);
        }
        let exhausted = self.store.item(tag).releases >= RELEASES_MAX;
        if exhausted || !self.store.has_octets(tag) {
            self.failed(conn, tag, Stage::Mail, Failure::ClosedByPeer);
        } else {
            self.put_back(conn, tag);
        }
    }

    /// The message waits again, before the others.
    fn put_back(&mut self, conn: ConnId, tag: Tag) {
        let Route { group, source, .. } = self.route(conn);
        self.hands(group, source).messages -= 1;
        self.store.item(tag).releases += 1;
        self.wait_at_site(tag, true);
    }

    /// The message goes back to preparation, to be made again for the same attempt.
    fn remake(&mut self, conn: ConnId, tag: Tag) {
        let Route { group, source, .. } = self.route(conn);
        self.hands(group, source).messages -= 1;
        self.unwant(group);
        let again = self.given_back(tag, self.ring.utc());
        self.back(Back::Returned(again));
        self.activate(group);
    }

    fn decide(&mut self, conn: ConnId, tag: Tag, finding: &Finding) {
        let Verdict { scope, action, .. } = finding.verdict;
        let route = self.route(conn);
        self.heed(route, finding);
        if action != Action::Accept
            && scope == Scope::Connection
            && let Some(conversation) = self.conversation(conn)
        {
            conversation.retire();
        }
        if action == Action::Reconnect && self.store.item(tag).releases < RELEASES_MAX {
            // Attempted in form only; its place in the queue is kept if its octets are.
            if self.store.has_octets(tag) {
                return self.put_back(conn, tag);
            }
        }
        let index = self.store.item(tag).index;
        let facts = match self.conversation(conn) {
            Some(conversation) => {
                conversation.forget(tag);
                conversation.facts(index)
            }
            None => SessionFacts::default(),
        };
        self.hands(route.group, route.source).messages -= 1;
        self.conclude(tag, route, facts, finding);
        self.activate(route.group);
    }

    /// Does what a reply asks of the scope that it is about; whether that is news.
    fn heed(&mut self, route: Route, finding: &Finding) -> bool {
        let Route { group, source, .. } = route;
        let who = match finding.verdict.scope {
            Scope::Recipient | Scope::Message | Scope::Domain | Scope::Connection => return false,
            Scope::SourceAtProvider => Who::Lane(group, source),
            Scope::DomainAtProvider | Scope::CampaignAtProvider | Scope::Provider => {
                Who::Group(group)
            }
            Scope::Source => Who::Source(source),
            Scope::Campaign => Who::Everything,
        };
        let now = self.ring.now();
        let why = || {
            let rule = self.rule(finding);
            format!("{rule}: {} {}", finding.code, clipped(&finding.words))
        };
        let notice = match finding.verdict.action {
            Action::Slow => {
                self.pace.slow(who, now);
                return false;
            }
            Action::Pause(time) => {
                let why = why();
                if !self.pace.pause(who, time, now) {
                    return false;
                }
                self.groups[group.index()].down_since.get_or_insert(now);
                Notice::Paused { who, time, group, why }
            }
            Action::Halt => {
                let why = why();
                if !self.pace.halt(who) {
                    return false;
                }
                Notice::Halted { who, group, why }
            }
            _ => return false,
        };
        // Whoever listens may have gone; the stage goes on.
        drop(self.channels.notices.send(notice));
        self.leave(who);
        true
    }

    /// The scope was stopped: its connections take no further message, and what was bound to its
    /// source may come from another.
    pub(super) fn leave(&mut self, who: Who) {
        let now = self.ring.now();
        let concerned = |group: GroupNo, source: SourceNo| match who {
            Who::Everything => true,
            Who::Source(of) => of == source,
            Who::Group(of) => of == group,
            Who::Lane(of, from) => of == group && from == source,
        };
        for index in 0..self.conversations.len() {
            let Some(conversation) = self.conversations[index].as_mut() else { continue };
            let Route { group, source, .. } = conversation.route;
            if conversation.greeted && concerned(group, source) {
                conversation.retire();
                let conn = ConnId(u32::try_from(index).expect("connections count in 32 bits"));
                if conversation.quit_if_idle(now) {
                    self.touched(conn);
                }
            }
        }
        if let Who::Lane(_, source) | Who::Source(source) = who {
            for site in &mut self.sites {
                if concerned(site.group, source) {
                    site.unbind(source);
                }
            }
        }
        for group in 0..self.groups.len() {
            let group = GroupNo(u32::try_from(group).expect("groups count in 32 bits"));
            if matches!(who, Who::Everything | Who::Source(_)) || who_is(who, group) {
                self.activate(group);
            }
        }
    }

    /// Records the outcome of an attempt.
    fn conclude(&mut self, tag: Tag, route: Route, session: SessionFacts, finding: &Finding) {
        let item = self.store.settle(tag);
        let (now, utc) = (self.ring.now(), self.ring.utc());
        let first_attempt = item.first_attempt.unwrap_or(utc);
        let Route { group, site, source, address } = route;
        let (kind, next_attempt) = self.kind(&item, group, first_attempt, finding);
        let host = self.sites[site.index()].host(address).to_owned();
        let provider = std::mem::take(&mut self.groups[group.index()].name);
        self.record(&Outcome {
            row: item.head.row,
            attempt: item.head.attempt,
            kind,
            stage: finding.stage,
            class: finding.verdict.class,
            time: utc,
            spooled: item.head.spooled,
            first_attempt,
            next_attempt,
            smtp_code: finding.code,
            enhanced: finding.enhanced,
            session,
            took: now.since(item.begun_at),
            waited: item.begun_at.since(item.ready_at),
            data: item.body_at.map_or(Duration::ZERO, |body_at| now.since(body_at)),
            size: item.size,
            host: &host,
            provider: &provider,
            rule: self.rule(finding),
            limit: item.limit,
            response: clipped(&finding.words),
        });
        self.groups[group.index()].name = provider;
        if let Some(live) = self.live.groups.get(group.index()) {
            live.count(kind, finding.verdict.class);
        }
        self.settled += 1;
        if let Some(due) = next_attempt {
            // A greylist knows the sender by its address.
            let bound = finding.verdict.class == Class::Greylisted;
            let source = Some(source).filter(|_| bound);
            let (row, attempt) = (item.head.row, item.head.attempt + 1);
            let first_attempt = Some(first_attempt);
            let again = Again { due, row, attempt, first_attempt, site, group, source };
            self.back(Back::Again(again));
        }
    }

    fn kind(
        &self,
        item: &Item,
        group: GroupNo,
        first_attempt: Utc,
        finding: &Finding,
    ) -> (Kind, Option<Utc>) {
        let utc = self.ring.utc();
        let retry = &self.pace.limits(group).retry;
        let (row, attempt) = (item.head.row, item.head.attempt);
        let again = || match retry.next(row, attempt, first_attempt, utc) {
            Some(due) => (Kind::Deferred, Some(due)),
            None => (Kind::Expired, None),
        };
        match finding.verdict.action {
            Action::Accept => {
                assert_eq!(
                    finding.stage,
                    Stage::Dot,
                    "only the reply to its dot delivers a message"
                );
                (Kind::Delivered, None)
            }
            Action::Fail | Action::Suppress => (Kind::Bounced, None),
            Action::Doubt if self.settings.on_doubt == OnDoubt::Hold => (Kind::InDoubt, None),
            // It may have arrived: what cannot be sent again stays in doubt.
            Action::Doubt => match again() {
                (Kind::Expired, _) => (Kind::InDoubt, None),
                again => again,
            },
            // Kept until somebody has mended the cause, however long that takes.
            Action::Halt => match again() {
                (Kind::Expired, _) => (Kind::Deferred, Some(utc)),
                again => again,
            },
            Action::Retry | Action::Reconnect | Action::Slow | Action::Pause(_) => again(),
        }
    }

    /// The next message of a site is not begun any more if its time has run out; whether that was
    /// so. The time of a message that was never attempted runs out when nobody could be reached for
    /// as long.
    pub(super) fn expire_if_old(&mut self, tag: Tag) -> bool {
        let (now, utc) = (self.ring.now(), self.ring.utc());
        let site = self.store.item(tag).head.site;
        let group = self.sites[site.index()].group;
        let retry = &self.pace.limits(group).retry;
        let over = match self.store.item(tag).first_attempt {
            Some(first_attempt) => retry.is_over(first_attempt, utc),
            None => {
                let since = self.groups[group.index()].down_since;
                let down = since.map_or(Duration::ZERO, |since| now.since(since));
                down.max(self.sites[site.index()].down_for(now)) > retry.expire_after
            }
        };
        if !over {
            return false;
        }
        let first_attempt = self.store.item(tag).first_attempt.unwrap_or(utc);
        let removed = self.sites[site.index()].remove(tag);
        assert!(removed, "what expires is what was looked at");
        self.groups[group.index()].ready -= 1;
        let item = self.store.settle(tag);
        let message = (item.head.row, item.head.attempt);
        let end = (Kind::Expired, Class::MessageExpired);
        let words = "expired before a connection could be had for it";
        let host = self.sites[site.index()].first_host().to_owned();
        let provider = self.groups[group.index()].name.clone();
        self.record(&Outcome {
            spooled: item.head.spooled,
            waited: now.since(item.ready_at),
            size: item.size,
            host: &host,
            provider: &provider,
            ..Outcome::unconnected(message, end, (utc, first_attempt), words)
        });
        if let Some(live) = self.live.groups.get(group.index()) {
            live.count(Kind::Expired, Class::MessageExpired);
        }
        self.settled += 1;
        true
    }
}

/// A conversation that ended at its end before it began was refused at EHLO.
fn greeting(stage: Stage) -> Stage {
    match stage {
        Stage::Quit => Stage::Ehlo,
        stage => stage,
    }
}

fn who_is(who: Who, group: GroupNo) -> bool {
    matches!(who, Who::Group(of) | Who::Lane(of, _) if of == group)
}
