//! prepare — the stage driven through its channels on real segments, by a delivery end that does
//! what each test says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Select, Sender};
use mailshot::destination::{DomainNo, GroupNo, SiteNo, SourceNo};
use mailshot::dkim::Signers;
use mailshot::ledger::{At, Book, Record};
use mailshot::outcome::{Class, Kind, Outcome, Row};
use mailshot::prepare::{self, Address, Channels, Letterhead, Made, Press, Queue};
use mailshot::problem::Place;
use mailshot::rates::Retry;
use mailshot::recipients::{Index, IndexWriter, Layout, Options, intake};
use mailshot::ring::{Clock, Uring};
use mailshot::spool::handover::{Again, Back, Fate, Feed};
use mailshot::template::{Part, Source, Templates};
use mailshot::units::Utc;

/// Longer than anything takes here; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the site of a group is more than its group.
const SITE: u32 = 100;

/// A campaign whose row `n` belongs to the domain and group `(n - 1) % groups`.
struct House {
    folder: tempfile::TempDir,
    rows: u32,
    groups: u32,
    /// Threads that make messages.
    cores: usize,
}

impl House {
    fn new(rows: u32, groups: u32) -> House {
        let folder = tempfile::tempdir().unwrap();
        let mut list = String::from("email,divisor\n");
        for row in 1..=rows {
            // No message can be made of each hundredth row.
            let divisor = u32::from(row % 100 != 0);
            list.push_str(&format!("r{row}@d{}.example,{divisor}\n", (row - 1) % groups));
        }
        fs::write(folder.path().join("list.csv"), list).unwrap();
        let house = House { folder, rows, groups, cores: 2 };
        let (list, layout) = house.list();
        let index = File::create(house.path("recipients.idx")).unwrap();
        let mut index = IndexWriter::new(index).unwrap();
        let counts = intake(&list, &layout, &[], &mut index, &mut |_| {}).unwrap();
        index.finish().unwrap();
        assert_eq!((counts.accepted, counts.domains.len()), (rows, groups as usize));
        house
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn list(&self) -> (File, Layout) {
        let path = self.path("list.csv");
        let options = Options { delimiter: None, address_column: "email", engagement_column: None };
        let layout = Layout::read("list.csv", &fs::read(&path).unwrap(), &options).unwrap();
        (File::open(path).unwrap(), layout)
    }

    fn press(&self) -> Press {
        let source = |part, text: &str| Source {
            part,
            text: text.to_owned(),
            place: Place::whole("campaign.toml"),
        };
        let (list, layout) = self.list();
        let sources = vec![
            source(Part::Subject, "Hello"),
            source(Part::Text, "Dear {{ address }}, {{ 7 // (divisor|int) }}\n"),
        ];
        Press {
            head: Letterhead {
                campaign: "spring".into(),
                run: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N".into(),
                from: "news@n.example".into(),
                domain: "n.example".into(),
                reply_to: None,
                bounce_local: "bounce".into(),
                bounce_domain: "n.example".into(),
                headers: Vec::new(),
                one_click: false,
            },
            templates: Templates::compile(sources, &layout.columns).unwrap(),
            signers: Signers::new(Vec::new()),
            list,
            layout,
        }
    }

    fn index(&self) -> Index {
        Index::open(&self.path("recipients.idx")).unwrap()
    }

    /// Everything of the list, by group, nothing attempted yet.
    fn queue(&self) -> Queue {
        Queue::new(self.index(), Book::new(self.rows), &|domain| Some(place(domain)), &|_| None)
            .unwrap()
    }

    fn group_of(&self, row: u32) -> u32 {
        (row - 1) % self.groups
    }

    /// The rows of a group of which a message can be made, in order.
    fn good_rows(&self, group: u32) -> Vec<u32> {
        (1..=self.rows).filter(|row| self.group_of(*row) == group && row % 100 != 0).collect()
    }

    /// Runs the stage against `far` for so many delivery threads, with channels of that capacity.
    fn run<T>(
        &self,
        queue: Queue,
        (threads, capacity): (usize, usize),
        far: impl FnOnce(&mut Far) -> T,
    ) -> (T, Made) {
        let clock = Clock::start();
        let ring = Uring::new(clock).unwrap();
        let (feeds_in, feeds): (Vec<_>, Vec<_>) =
            (0..threads).map(|_| channel::bounded(capacity)).unzip();
        let (back, back_out) = channel::unbounded();
        let feeds_in = feeds_in.into_iter().map(|feed| (feed, ring.waker())).collect();
        let channels = Channels { feeds: feeds_in, back: back_out };
        let spool = tempfile::tempdir().unwrap();
        let segments = mailshot::spool::create(spool.path(), 1, 64, 64 << 10).unwrap();
        let retry = vec![retry(); self.groups as usize];
        let (press, stop) = (self.press(), AtomicBool::new(false));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.cores).build().unwrap();
        std::thread::scope(|scope| {
            let stage = scope.spawn(|| {
                pool.install(|| {
                    prepare::run(&press, queue, segments, retry, channels, (clock, &stop)).unwrap()
                })
            });
            let mut end = Far { feeds, back, clock, threads };
            let told = far(&mut end);
            drop(end);
            (told, stage.join().unwrap())
        })
    }
}

fn place(domain: DomainNo) -> Address {
    Address { site: SiteNo(domain.0 + SITE), group: GroupNo(domain.0) }
}

fn retry() -> Retry {
    Retry { steps: vec![Duration::from_secs(1)], expire_after: Duration::from_secs(3600) }
}

/// A message as delivery gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    row: u32,
    attempt: u16,
    spooled: Utc,
    first_attempt: Option<Utc>,
    site: SiteNo,
    source: Option<SourceNo>,
    octets: String,
}

/// The delivery end.
struct Far {
    feeds: Vec<Receiver<Feed>>,
    back: Sender<Back>,
    clock: Clock,
    threads: usize,
}

/// What came in one piece.
enum Came {
    Messages(Vec<Message>),
    Fate(Fate),
    /// The feed is closed.
    End,
}

impl Far {
    fn tell(&self, back: Back) {
        // The stage may have ended by then.
        drop(self.back.send(back));
    }

    fn want(&self, group: u32, more: u32) {
        self.tell(Back::Want(GroupNo(group), more));
    }

    /// The next that comes for a thread; a segment goes back at once, and its messages are not
    /// settled.
    fn next(&self, thread: usize) -> Came {
        loop {
            match self.feeds[thread].recv_timeout(PATIENCE) {
                Ok(Feed::Dry(..)) => {}
                Ok(feed) => return self.opened(thread, feed),
                Err(channel::RecvTimeoutError::Disconnected) => return Came::End,
                Err(channel::RecvTimeoutError::Timeout) => panic!("nothing came"),
            }
        }
    }

    fn opened(&self, thread: usize, feed: Feed) -> Came {
        let segment = match feed {
            Feed::Fate(fate) => return Came::Fate(fate),
            Feed::Segment(segment) => segment,
            Feed::Dry(..) => return Came::Messages(Vec::new()),
        };
        let message = |at| {
            segment.verify(at).unwrap();
            let record = segment.record(at);
            Message {
                row: record.head.row.0,
                attempt: record.head.attempt,
                spooled: record.head.spooled,
                first_attempt: record.head.first_attempt,
                site: record.head.site,
                source: record.head.source,
                octets: String::from_utf8(record.message.to_vec()).unwrap(),
            }
        };
        let messages: Vec<Message> = (0..segment.len()).map(message).collect();
        assert!(!messages.is_empty(), "a segment without messages was handed over");
        for message in &messages {
            let group = (message.site.0 - SITE) as usize;
            assert_eq!(group % self.threads, thread, "{message:?}");
        }
        self.tell(Back::Segment(segment));
        Came::Messages(messages)
    }

    /// Messages from thread 0 until there are so many; no fate may come between.
    fn messages(&self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            match self.next(0) {
                Came::Messages(more) => messages.extend(more),
                Came::Fate(fate) => panic!("{fate:?}"),
                Came::End => panic!("the feed ended"),
            }
        }
        assert_eq!(messages.len(), count);
        messages
    }

    fn fate(&self) -> Fate {
        match self.next(0) {
            Came::Fate(fate) => fate,
            _ => panic!("no fate came"),
        }
    }

    /// Gives up all that is left and settles it; what came until the stage had ended.
    fn finish(&self) -> (Vec<Message>, Vec<Fate>) {
        self.tell(Back::GiveUp(None, Kind::Cancelled, "enough".into()));
        let (mut messages, mut fates) = (Vec::new(), Vec::new());
        let mut feeds: Vec<usize> = (0..self.threads).collect();
        while !feeds.is_empty() {
            let mut select = Select::new();
            for thread in &feeds {
                select.recv(&self.feeds[*thread]);
            }
            let ready = select.select_timeout(PATIENCE).expect("something comes");
            let at = ready.index();
            let thread = feeds[at];
            let settled =
                match ready.recv(&self.feeds[thread]).map(|feed| self.opened(thread, feed)) {
                    Ok(Came::Messages(more)) => {
                        let count = more.len();
                        messages.extend(more);
                        count
                    }
                    Ok(Came::Fate(fate)) => {
                        fates.push(fate);
                        1
                    }
                    Ok(Came::End) | Err(_) => {
                        feeds.remove(at);
                        continue;
                    }
                };
            self.tell(Back::Settled(settled as u32));
        }
        (messages, fates)
    }
}

fn again(message: &Message, due: Utc, attempts: u16) -> Again {
    Again {
        due,
        row: Row(message.row),
        attempt: message.attempt + attempts,
        first_attempt: message.first_attempt.or((attempts > 0).then_some(message.spooled)),
        site: message.site,
        group: GroupNo(message.site.0 - SITE),
        source: if attempts > 0 { Some(SourceNo(3)) } else { message.source },
    }
}

fn rows(messages: &[Message]) -> Vec<u32> {
    messages.iter().map(|message| message.row).collect()
}

#[test]
fn no_more_is_made_than_was_wanted_and_no_less() {
    let house = House::new(1500, 7);
    let wanted = [40_u32, 0, 1, 1000, 33, 0, 64];
    for threads in [1, 3] {
        let ((made, fates), stage) = house.run(house.queue(), (threads, 4), |far| {
            for (group, more) in (0..).zip(wanted) {
                // In pieces, and not in the order of the groups.
                far.want(6 - group, wanted[6 - group as usize] / 2);
                far.want(group, more - more / 2);
            }
            let mut made: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
            let mut fates = 0;
            let enough = |made: &BTreeMap<u32, Vec<u32>>, group: u32| {
                let rows = house.good_rows(group).len();
                let made = made.get(&group).map_or(0, Vec::len);
                assert!(made <= rows.min(wanted[group as usize] as usize), "group {group}");
                made == rows.min(wanted[group as usize] as usize)
            };
            for thread in 0..threads {
                let mine: Vec<u32> =
                    (0..7).filter(|group| *group as usize % threads == thread).collect();
                while !mine.iter().all(|group| enough(&made, *group)) {
                    match far.next(thread) {
                        Came::Messages(messages) => {
                            far.tell(Back::Settled(messages.len() as u32));
                            for Message { row, .. } in messages {
                                made.entry(house.group_of(row)).or_default().push(row);
                            }
                        }
                        Came::Fate(fate) => {
                            assert_eq!((fate.kind, fate.row.0 % 100), (Kind::Failed, 0));
                            far.tell(Back::Settled(1));
                            fates += 1;
                        }
                        Came::End => panic!("rows are left"),
                    }
                }
            }
            let (after, rest) = far.finish();
            assert!(after.is_empty(), "nobody wanted these");
            (made, fates + rest.len())
        });
        for group in 0..7 {
            let mut expected = house.good_rows(group);
            expected.truncate(wanted[group as usize] as usize);
            let made = made.get(&group).cloned().unwrap_or_default();
            assert_eq!(made, expected, "group {group}, {threads} threads");
        }
        let messages: usize = made.values().map(Vec::len).sum();
        assert_eq!((stage.messages, stage.fates), (messages as u64, fates as u64));
        assert_eq!(messages + fates, 1500, "each row is a message or a fate");
    }
}

#[test]
fn groups_that_want_much_take_turns() {
    let house = House::new(3000, 3);
    house.run(house.queue(), (1, 1), |far| {
        for group in 0..3 {
            far.want(group, 1000);
        }
        let mut made = [0_usize; 3];
        while made.iter().sum::<usize>() < 1800 {
            if let Came::Messages(messages) = far.next(0) {
                for message in messages {
                    made[(message.site.0 - SITE) as usize] += 1;
                }
                let (least, most) = (made.iter().min().unwrap(), made.iter().max().unwrap());
                assert!(most - least <= 64, "{made:?}");
            }
        }
    });
}

#[test]
fn what_comes_back_unattempted_is_the_next_of_its_group() {
    let house = House::new(20, 2);
    house.run(house.queue(), (1, 4), |far| {
        far.want(1, 3);
        let first = far.messages(3);
        assert_eq!(rows(&first), [2, 4, 6]);
        far.tell(Back::Returned(again(&first[2], Utc(0), 0)));
        far.tell(Back::Returned(again(&first[0], Utc(0), 0)));
        far.tell(Back::Settled(2));
        far.want(0, 1);
        far.want(1, 3);
        let mut second = rows(&far.messages(4));
        second.retain(|row| row % 2 == 0);
        assert_eq!(second, [6, 2, 8]);
    });
}

#[test]
fn a_retry_comes_when_it_is_due_and_nothing_is_polled() {
    let house = House::new(2, 1);
    let (_, made) = house.run(house.queue(), (1, 4), |far| {
        far.want(0, 7);
        let first = far.messages(2);
        assert_eq!((first[0].attempt, first[0].first_attempt), (1, None));
        let due = far.clock.utc().after(Duration::from_millis(700));
        let sooner = far.clock.utc().after(Duration::from_millis(350));
        far.tell(Back::Again(again(&first[0], due, 1)));
        far.tell(Back::Again(again(&first[1], sooner, 1)));
        far.tell(Back::Settled(2));
        for (row, due) in [(2, sooner), (1, due)] {
            let second = far.messages(1).remove(0);
            assert_eq!((second.row, second.attempt), (row, 2));
            assert_eq!(second.first_attempt, Some(first[row as usize - 1].spooled));
            assert_eq!(second.source, Some(SourceNo(3)));
            assert!(second.spooled >= due, "{} before {due}", second.spooled);
            far.tell(Back::Settled(1));
        }
        assert!(matches!(far.next(0), Came::End), "all is settled");
    });
    // One for each thing that came back, two for the retries, and one for each longest sleep, of
    // which some 700 ms have four; a slow machine may add some.
    assert!(made.rounds < 40, "{made:?}");
}

#[test]
fn what_expired_is_a_fate_and_no_message() {
    let house = House::new(6, 1);
    let mut book = Book::new(house.rows);
    let first = Utc(1_000_000);
    for row in 1..=4 {
        let times = (first, first);
        let end = (Kind::Deferred, Class::RenderError);
        let outcome = Outcome::unconnected((Row(row), 2), end, times, "");
        let outcome = Outcome { next_attempt: Some(Utc(9_000_000)), ..outcome };
        book.apply(At::default(), &Record::Outcome(outcome)).unwrap();
    }
    let queue = Queue::new(house.index(), book, &|domain| Some(place(domain)), &|_| None).unwrap();
    house.run(queue, (1, 8), |far| {
        far.want(0, 1);
        for row in 1..=4 {
            let fate = far.fate();
            assert_eq!((fate.row.0, fate.attempt, fate.kind), (row, 3, Kind::Expired));
            assert_eq!(fate.first_attempt, first);
        }
        assert_eq!(rows(&far.messages(1)), [5]);
        far.tell(Back::Settled(5));
    });
}

#[test]
fn a_group_that_is_given_up_ends_in_fates_while_others_go_on() {
    let house = House::new(4000, 2);
    house.run(house.queue(), (2, 1), |far| {
        far.want(1, 2);
        let Came::Messages(before) = far.next(1) else { panic!("no messages") };
        far.tell(Back::GiveUp(Some(GroupNo(1)), Kind::Cancelled, "halted".into()));
        far.want(1, 50);
        // Thread 1 takes nothing now: its channel is full of fates, and thread 0 is not held up.
        far.want(0, 300);
        let mut made = Vec::new();
        while made.len() < 300 {
            match far.next(0) {
                Came::Messages(more) => made.extend(rows(&more)),
                Came::Fate(fate) => assert_eq!(fate.kind, Kind::Failed),
                Came::End => panic!("rows are left"),
            }
        }
        let mut given = Vec::new();
        while given.len() < 2000 - before.len() {
            let Came::Fate(fate) = far.next(1) else { panic!("nobody wants messages") };
            assert_eq!((fate.kind, fate.reason.as_str()), (Kind::Cancelled, "halted"));
            given.push(fate.row.0);
        }
        assert!(given.iter().all(|row| house.group_of(*row) == 1));
        // What is deferred or comes back afterwards follows.
        far.tell(Back::Again(again(&before[0], Utc(i64::MAX), 1)));
        far.tell(Back::Returned(again(&before[1], Utc(0), 0)));
        let late = [far.next(1), far.next(1)].map(|came| match came {
            Came::Fate(fate) => (fate.row.0, fate.attempt, fate.kind),
            _ => panic!("no fate came"),
        });
        assert!(late.iter().all(|(.., kind)| *kind == Kind::Cancelled));
        assert_eq!(late.iter().map(|(_, attempt, _)| attempt).sum::<u16>(), 2 + 1);
        given.extend(late.map(|(row, ..)| row));
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 2000, "each row once");
    });
}

#[test]
fn rows_of_a_domain_nobody_knew_come_when_it_is_routed() {
    let house = House::new(30, 3);
    let known = |domain: DomainNo| (domain.0 == 0).then(|| place(domain));
    let queue = Queue::new(house.index(), Book::new(30), &known, &|_| None).unwrap();
    house.run(queue, (1, 8), |far| {
        let of = |message: &Message| (message.row, message.site.0);
        far.want(0, 100);
        far.want(8, 4);
        assert_eq!(far.messages(10).iter().map(of).collect::<Vec<_>>()[..2], [(1, 100), (4, 100)]);
        far.tell(Back::Routed(DomainNo(2), SiteNo(108), GroupNo(8), retry()));
        let rows: Vec<_> = far.messages(4).iter().map(of).collect();
        assert_eq!(rows, [(3, 108), (6, 108), (9, 108), (12, 108)]);
        // To a group that exists already, whose wants are open.
        far.tell(Back::Routed(DomainNo(1), SiteNo(107), GroupNo(0), retry()));
        let rows: Vec<_> = far.messages(10).iter().map(of).collect();
        assert_eq!((rows[0], rows[9]), ((2, 107), (29, 107)));
        far.tell(Back::Settled(24));
        let (messages, fates) = far.finish();
        assert_eq!((messages.len(), fates.len()), (0, 6));
    });
}

#[test]
fn segments_that_are_not_full_are_few() {
    let house = House::new(90, 1);
    house.run(house.queue(), (1, 64), |far| {
        let begun = far.clock.tick();
        for _ in 0..60 {
            far.want(0, 1);
            std::thread::sleep(Duration::from_millis(1));
        }
        let (mut messages, mut segments) = (0, 0);
        while messages < 60 {
            if let Came::Messages(more) = far.next(0) {
                messages += more.len();
                segments += 1;
            }
        }
        let took = far.clock.tick().since(begun);
        let most = 2 + took.as_millis() / 20;
        assert!(segments <= most, "{segments} segments in {took:?}");
    });
}

#[test]
fn the_stage_ends_with_its_last_settled_row_or_with_delivery() {
    let house = House::new(5, 1);
    let (_, made) = house.run(house.queue(), (1, 8), |far| {
        far.want(0, 9);
        far.messages(5);
        far.tell(Back::Settled(5));
        assert!(matches!(far.next(0), Came::End));
    });
    assert_eq!((made.messages, made.segments, made.fates), (5, 1, 0));
    // Here delivery goes although rows are left.
    let (_, made) = house.run(house.queue(), (1, 8), |far| {
        far.want(0, 2);
        far.messages(2);
    });
    assert_eq!(made.messages, 2);
}

#[test]
fn messages_and_their_order_depend_on_no_number_of_threads() {
    let made = |cores: usize, threads: usize| {
        let house = House { cores, ..House::new(1000, 5) };
        let ((mut made, mut fates), _) = house.run(house.queue(), (threads, 2000), |far| {
            for group in 0..5 {
                far.want(group, 150);
            }
            // All that is wanted was made before anything is given up.
            let mut first: BTreeMap<u32, Vec<Message>> = BTreeMap::new();
            let mut failed = Vec::new();
            for thread in 0..threads {
                let mine = (0..5).filter(|group| group % threads == thread).count();
                let mut count = 0;
                while count < 150 * mine {
                    match far.next(thread) {
                        Came::Messages(more) => {
                            count += more.len();
                            for message in more {
                                let group = message.site.0 - SITE;
                                first.entry(group).or_default().push(message);
                            }
                        }
                        Came::Fate(fate) => failed.push(fate.row.0),
                        Came::End => panic!("rows are left"),
                    }
                }
                far.tell(Back::Settled(count as u32));
            }
            far.tell(Back::Settled(failed.len() as u32));
            let (none, rest) = far.finish();
            assert!(none.is_empty());
            failed.extend(rest.iter().map(|fate| fate.row.0));
            (first, failed)
        });
        fates.sort_unstable();
        for message in made.values_mut().flatten() {
            message.spooled = Utc(0);
            let dated = message.octets.lines().filter(|line| line.starts_with("Date: "));
            assert_eq!(dated.count(), 1);
            let lines = message.octets.lines().filter(|line| !line.starts_with("Date: "));
            message.octets = lines.collect::<Vec<_>>().join("\n");
        }
        (made, fates)
    };
    let alone = made(1, 1);
    assert_eq!(alone.0.values().map(Vec::len).sum::<usize>(), 750);
    assert!(alone.0[&1][0].octets.contains("Dear r2@d1.example, 7"));
    for (cores, threads) in [(4, 1), (1, 2), (3, 5)] {
        assert!(made(cores, threads) == alone, "{cores} cores, {threads} delivery threads");
    }
}
