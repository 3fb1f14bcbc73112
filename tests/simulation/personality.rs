//! personality — what a simulated receiver is like: what it offers, how slow it is, what it breaks.

use std::time::Duration;

use mailshot::simulate::Chance;

/// Where in a conversation a fault happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Connect,
    Banner,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    /// The first octets of a message.
    Body,
    Dot,
    Rset,
    Quit,
    /// A command that is refused by the rules.
    Other,
}

/// What happens there.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// This reply instead of the usual one; at [`Point::Body`], in the middle of the data.
    Say(&'static str),
    /// This reply, and the connection is closed.
    SayAndClose(&'static str),
    /// The usual reply, and this one glued behind it.
    Extra(&'static str),
    /// The usual reply, late.
    Late(Duration),
    Close,
    Reset,
    /// Never another word on this connection.
    Silence,
    /// A reply without end.
    Endless,
    /// The message is kept, its reply is not sent, the connection closes. (RFC 1047.)
    StoreAndClose,
    StoreAndReset,
    StoreInSilence,
    /// From the 354 on nothing is read for so long; at [`Point::Connect`] nobody answers.
    Unread(Duration),
    /// Nobody listens.
    Refuse,
}

/// One thing that a receiver gets wrong.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) point: Point,
    pub(crate) deed: Deed,
    /// How often, of a thousand times.
    pub(crate) permille: u64,
    /// From this message of a connection on, from 0.
    pub(crate) from_message: u32,
}

impl Fault {
    pub(crate) fn always(point: Point, deed: Deed) -> Fault {
        Fault { point, deed, permille: 1_000, from_message: 0 }
    }
}

/// One receiver.
#[derive(Clone, Debug)]
pub(crate) struct Personality {
    /// It knows EHLO.
    pub(crate) ehlo: bool,
    pub(crate) pipelining: bool,
    pub(crate) size: Option<usize>,
    /// RFC 9422.
    pub(crate) mail_max: Option<u32>,
    /// It answers 354 to DATA although it refused the recipient.
    pub(crate) data_anyway: bool,
    /// One octet at a time, so far apart.
    pub(crate) drip: Option<Duration>,
    /// The way there or back takes this many microseconds.
    pub(crate) latency: (u64, u64),
    /// Microseconds to think about each reply.
    pub(crate) thinks: (u64, u64),
    /// Of a thousand parcels so many leave in two pieces, with time between them.
    pub(crate) splits: u64,
    /// Unknown recipients are asked to come back after this time.
    pub(crate) greylist: Option<Duration>,
    pub(crate) faults: Vec<Fault>,
}

impl Personality {
    pub(crate) fn normal() -> Personality {
        Personality {
            ehlo: true,
            pipelining: true,
            size: Some(100_000),
            mail_max: None,
            data_anyway: false,
            drip: None,
            latency: (1_000, 1_000),
            thinks: (0, 0),
            splits: 100,
            greylist: None,
            faults: Vec::new(),
        }
    }

    pub(crate) fn with(fault: Fault) -> Personality {
        Personality { faults: vec![fault], ..Personality::normal() }
    }

    /// Whether its replies can be told apart; those of one that says too much cannot.
    pub(crate) fn is_in_step(&self) -> bool {
        let extra = |fault: &Fault| {
            matches!(fault.deed, Deed::Extra(_)) || matches!(fault.point, Point::Body)
        };
        !self.faults.iter().any(extra)
    }

    pub(crate) fn random(chance: &mut Chance) -> Personality {
        let faults: Vec<Fault> = (0..chance.between(0, 3)).map(|_| fault(chance)).collect();
        // A reply too many that comes late can be told from nothing, and an endless one never.
        let extra = |fault: &Fault| matches!(fault.deed, Deed::Extra(_) | Deed::Endless);
        let extra = faults.iter().any(extra);
        let latency = chance.one_of(&[(10, 10), (100, 1_000), (1_000, 80_000), (0, 2_000_000)]);
        let drip = Some(Duration::from_millis(chance.between(1, 300)));
        Personality {
            ehlo: !chance.happens(100),
            pipelining: !chance.happens(300),
            size: chance.one_of(&[None, Some(0), Some(100_000), Some(1_000)]),
            mail_max: chance.happens(100).then(|| chance.between(1, 4) as u32),
            data_anyway: chance.happens(300),
            drip: drip.filter(|_| chance.happens(50) && !extra),
            latency,
            thinks: chance.one_of(&[(0, 0), (0, 0), (0, 20_000), (5_000_000, 60_000_000)]),
            splits: 100,
            greylist: chance.happens(150).then(|| Duration::from_secs(chance.between(10, 900))),
            faults,
        }
    }
}

/// Replies of those who refuse.
const NEGATIVE: &[&str] = &[
    "421 4.3.2 shutting down",
    "450 4.2.1 try again later",
    "451 4.3.0 lookup trouble",
    "452 4.5.3 too many messages on this connection",
    "521 we take no mail",
    "550 5.1.1 no such user",
    "550 5.7.1 your address is listed by our blocklist",
    "554 5.7.1 go away",
    "552 5.3.4 too large",
    "503 bad sequence",
];

/// Replies of those who do not know the protocol.
const STRANGE: &[&str] = &["", "hello", "2x0 ok", "650 what", "199 wait", "299 ok", "354 go"];

/// Where faults happen; the final dot is where most can go wrong.
const POINTS: &[Point] = &[
    Point::Connect,
    Point::Banner,
    Point::Ehlo,
    Point::Mail,
    Point::Rcpt,
    Point::Data,
    Point::Body,
    Point::Dot,
    Point::Dot,
    Point::Rset,
    Point::Quit,
    Point::Other,
];

fn fault(chance: &mut Chance) -> Fault {
    use Point::{Body, Connect, Dot};
    let point = chance.one_of(POINTS);
    let late = Deed::Late(Duration::from_secs(chance.between(1, 700)));
    let unread = Deed::Unread(Duration::from_secs(chance.one_of(&[1, 30, 179, 181, 100_000])));
    let deed = match point {
        Connect => chance.one_of(&[Deed::Refuse, Deed::Reset, unread]),
        Body => chance.one_of(&[
            Deed::Say("550 5.7.1 no"),
            Deed::Say("451 4.3.0 full"),
            Deed::SayAndClose("550 5.7.1 no"),
            Deed::SayAndClose("421 4.3.2 bye"),
            Deed::Close,
            Deed::Reset,
            Deed::Silence,
            unread,
        ]),
        Dot if chance.happens(500) => {
            chance.one_of(&[Deed::StoreAndClose, Deed::StoreAndReset, Deed::StoreInSilence])
        }
        _ => match chance.between(0, 10) {
            0..=2 => Deed::Say(chance.one_of(NEGATIVE)),
            3 => Deed::SayAndClose(chance.one_of(NEGATIVE)),
            4 => Deed::Say(strange(chance, point)),
            5 => {
                Deed::Extra(chance.one_of(&["250 ok", "550 5.1.1 who", "421 4.3.2 bye", "354 go"]))
            }
            _ => chance.one_of(&[Deed::Close, Deed::Reset, Deed::Silence, Deed::Endless, late]),
        },
    };
    let permille = chance.one_of(&[30, 200, 500, 1_000]);
    let from_message = chance.one_of(&[0, 0, 0, 1, 2, 5]);
    Fault { point, deed, permille, from_message }
}

/// A 354 in place of the reply to DATA is no fault, and 299 in place of that to the dot is a lie
/// that nobody can see through.
fn strange(chance: &mut Chance, point: Point) -> &'static str {
    match (point, chance.one_of(STRANGE)) {
        (Point::Data | Point::Dot, "354 go" | "299 ok") => "2x0 ok",
        (_, strange) => strange,
    }
}
