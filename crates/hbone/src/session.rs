//! One HTTP/2 connection that carries CONNECT streams: its state, shared by the driver that owns
//! the socket and by the handles of its streams. All on one thread; every method borrows the state
//! for its own length and never across an await.
//!
//! ```text
//!  stream handles ──poll_room, write, finish──▶ Session ──outbox──▶ Driver ──▶ socket
//!        ▲                                        │  ▲                 │
//!        └───────────── wakers ───────────────────┘  └──── frames ◀────┘
//! ```

mod blocks;
mod driver;
mod fields;
mod headers;
mod outbox;
mod receive;
mod send;
mod streams;

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use tokio::time::Instant;

pub(crate) use driver::Driver;
pub(crate) use fields::{
    RequestFields, ResponseFields, encode_request, encode_response, list_size,
};
use headers::Block;
use outbox::Outbox;
use streams::{StreamState, Streams};

use crate::frame::{
    DEFAULT_WINDOW, MAX_WINDOW, PeerSettings, Small, Violation, code, write_settings,
};
use crate::hpack::Decoder;
use crate::limits::{FLOOD_INTERVAL, MAX_IDLE_FRAMES, MAX_RECENT_RESETS};
use crate::tls::records::Records;
use crate::{Error, Settings};

/// A session as its driver and its streams hold it.
pub(crate) type Shared = Rc<RefCell<Session>>;

/// Hold on a stream. The stream is forgotten when it is dropped.
pub(crate) struct Handle {
    pub(crate) session: Shared,
    pub(crate) id: u32,
}

impl Handle {
    pub(crate) fn new(session: &Shared, id: u32) -> Self {
        Self {
            session: Rc::clone(session),
            id,
        }
    }

    /// The state, for the length of one call.
    pub(crate) fn session(&self) -> RefMut<'_, Session> {
        self.session.borrow_mut()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.session.borrow_mut().forget(self.id);
    }
}

/// Which side of the connection this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// A stream that a client has opened and that was not handed out yet.
pub(crate) struct NewStream {
    pub(crate) id: u32,
    pub(crate) fields: RequestFields,
}

/// How far the connection is from its end.
#[derive(Debug, Clone, PartialEq)]
enum Phase {
    Open,
    /// We have announced GOAWAY, or the peer has: no new streams.
    Draining,
    /// What is queued is still sent, then the connection is closed with this outcome.
    Closing(Result<(), Error>),
    /// Over; streams that are still held report this.
    Closed(Error),
}

/// State of one connection.
pub(crate) struct Session {
    role: Role,
    settings: Settings,
    records: Records,
    outbox: Outbox,
    phase: Phase,
    streams: Streams,
    /// What the peer allows; `None` before its first SETTINGS.
    peer: PeerSettings,
    peer_ready: bool,
    hpack: Decoder,
    block: Option<Block>,
    /// Server: streams not handed out yet.
    requests: VecDeque<NewStream>,
    /// Client: the next stream to open. Server: the highest stream the client has opened.
    last_id: u32,
    /// Server: the highest stream that a final GOAWAY still allows.
    goaway_limit: u32,
    send_window: i64,
    receive_window: i64,
    /// Bytes consumed and not granted again yet.
    unreleased: u32,
    /// Streams that wait for room on the connection, in order.
    blocked: VecDeque<u32>,
    /// Payload each of them may put in its turn.
    share: usize,
    /// Streams whose turn has come and that have not used it; others have to wait for them.
    reserved: usize,
    driver: Option<Waker>,
    /// Frames that moved nothing, since `flood_since`.
    idle_frames: u32,
    flood_since: Instant,
    recent_resets: VecDeque<u32>,
    /// Counts reads from the socket.
    batch: u32,
    /// When the last stream ended; `None` while there are streams.
    idle_since: Option<Instant>,
}

impl Session {
    /// A session that has its preface and SETTINGS queued.
    pub(crate) fn new(role: Role, settings: Settings, records: Records) -> Self {
        let max_list = match role {
            Role::Client => settings.client_max_header_list,
            Role::Server => settings.server_max_header_list,
        };
        let window = settings.connection_window.clamp(DEFAULT_WINDOW, MAX_WINDOW);
        let mut session = Self {
            role,
            records,
            outbox: Outbox::default(),
            phase: Phase::Open,
            streams: Streams::default(),
            peer: PeerSettings::default(),
            peer_ready: false,
            hpack: Decoder::new(max_list as usize),
            block: None,
            requests: VecDeque::new(),
            last_id: u32::from(role == Role::Client),
            goaway_limit: MAX_WINDOW,
            send_window: i64::from(DEFAULT_WINDOW),
            receive_window: i64::from(window),
            unreleased: 0,
            blocked: VecDeque::new(),
            share: outbox::MAX_QUEUED_DATA,
            reserved: 0,
            driver: None,
            idle_frames: 0,
            flood_since: Instant::now(),
            recent_resets: VecDeque::new(),
            batch: 0,
            idle_since: Some(Instant::now()),
            settings,
        };
        let ours = session.settings.clone();
        session.control(|out| {
            if role == Role::Client {
                out.extend_from_slice(crate::frame::PREFACE);
            }
            write_settings(out, &ours, max_list, role == Role::Server);
            if window > DEFAULT_WINDOW {
                Small::WindowUpdate(0, window - DEFAULT_WINDOW).write(out);
            }
        });
        session
    }

    /// Why streams can do nothing more, if so.
    fn closed(&self) -> Option<Error> {
        match &self.phase {
            Phase::Closed(error) | Phase::Closing(Err(error)) => Some(error.clone()),
            Phase::Closing(Ok(())) => Some(Error::LocalClosed),
            _ => None,
        }
    }

    /// Whether the peer's SETTINGS have come.
    pub(crate) fn is_ready(&self) -> bool {
        self.peer_ready
    }

    /// The largest header list that the peer wants.
    pub(crate) fn peer_max_header_list(&self) -> usize {
        self.peer.max_header_list as usize
    }

    /// Client: streams that may still be opened now.
    pub(crate) fn openable(&self) -> u32 {
        if self.phase != Phase::Open || self.last_id > MAX_WINDOW {
            return 0;
        }
        let allowed = self
            .settings
            .pool_max_streams
            .min(self.peer.max_concurrent_streams);
        allowed.saturating_sub(self.streams.open())
    }

    /// Whether no stream will be opened here any more.
    pub(crate) fn is_going(&self) -> bool {
        self.phase != Phase::Open || self.last_id > MAX_WINDOW
    }

    /// Server: the next stream to hand out.
    pub(crate) fn next_request(&mut self) -> Option<NewStream> {
        self.requests.pop_front()
    }

    /// Announces the end: open streams go on, new ones are not taken. The server first tells the
    /// peer to stop, and only the driver's next turn fixes the last stream, so that streams that
    /// were already under way are still served (RFC 9113 §6.8).
    pub(crate) fn drain(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining;
            let server = self.role == Role::Server;
            let last = if server { MAX_WINDOW } else { 0 };
            self.control(|out| Small::GoAway(last, code::NO_ERROR).write(out));
            if server {
                self.control(|out| Small::Ping(DRAIN_PING).write(out));
            }
            self.wake_driver();
        }
    }

    /// Server: the peer has seen the announcement; what it opens from now on is not served.
    fn fix_last_stream(&mut self) {
        if self.phase == Phase::Draining && self.goaway_limit == MAX_WINDOW {
            let last = self.last_id;
            self.goaway_limit = last;
            self.control(|out| Small::GoAway(last, code::NO_ERROR).write(out));
        }
    }

    /// Ends the connection because the peer broke the protocol, and tells it which rule.
    fn violate(&mut self, violation: Violation) {
        let Violation { code, what } = violation;
        let last = if self.role == Role::Server {
            self.last_id
        } else {
            0
        };
        self.control(|out| Small::GoAway(last, code).write(out));
        self.close(Err(Error::PeerProtocol { code, what }));
    }

    /// Sends what is queued and then ends the connection with `outcome`.
    fn close(&mut self, outcome: Result<(), Error>) {
        if !matches!(self.phase, Phase::Closing(_) | Phase::Closed(_)) {
            self.phase = Phase::Closing(outcome);
            self.fail_streams();
            self.wake_driver();
        }
    }

    /// The connection is over now.
    fn fail(&mut self, error: Error) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = Phase::Closed(error);
            self.fail_streams();
        }
    }

    fn fail_streams(&mut self) {
        self.requests.clear();
        if let Some(error) = self.closed() {
            self.streams.fail_all(&error);
        }
    }

    /// Queues control frames. A peer that lets them pile up loses the connection.
    fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Err(error) = self.outbox.control(write) {
            self.fail(error);
        }
        self.wake_driver();
    }

    fn wake_driver(&self) {
        if let Some(driver) = &self.driver {
            driver.wake_by_ref();
        }
    }

    /// Charges the peer for a frame that moves nothing.
    fn charge(&mut self, cost: u32) -> Result<(), Violation> {
        self.idle_frames += cost;
        if self.idle_frames <= MAX_IDLE_FRAMES {
            return Ok(());
        }
        let now = Instant::now();
        if now - self.flood_since < FLOOD_INTERVAL {
            return Err(Violation::calm("too many frames that move nothing"));
        }
        (self.idle_frames, self.flood_since) = (cost, now);
        Ok(())
    }

    /// Resets a stream on the peer, and remembers that.
    fn send_reset(&mut self, id: u32, code: u32) {
        self.control(|out| Small::Reset(id, code).write(out));
        if self.recent_resets.len() == MAX_RECENT_RESETS {
            self.recent_resets.pop_front();
        }
        self.recent_resets.push_back(id);
    }

    /// Gives bytes that have left us back to the connection's window, in large portions.
    pub(crate) fn release_connection(&mut self, count: usize) {
        self.unreleased += count as u32;
        if is_grant_due(
            self.unreleased,
            self.receive_window,
            self.settings.connection_window,
        ) {
            let grant = std::mem::take(&mut self.unreleased);
            self.receive_window += i64::from(grant);
            self.control(|out| Small::WindowUpdate(0, grant).write(out));
        }
    }

    /// When the driver has to look at the connection again because it has no streams.
    fn idle_deadline(&self) -> Option<Instant> {
        match (self.role, self.idle_since) {
            (Role::Client, Some(since)) => Some(since + self.settings.pool_idle),
            _ => None,
        }
    }

    /// The outcome of a connection that has nothing more to do, if so.
    fn finished(&self) -> bool {
        self.phase == Phase::Draining
            && self.streams.is_empty()
            && self.requests.is_empty()
            && (self.role == Role::Client || self.goaway_limit != MAX_WINDOW)
    }

    fn stream(&mut self, id: u32) -> Option<&mut StreamState> {
        self.streams.find(id)
    }
}

/// Credit kept back at most: one frame for every so many bytes costs nothing, and a peer whose
/// window is used up by bulk gets to send something else soon.
const GRANT: u32 = 1024 * 1024;

/// Whether credit is to be given back to the peer: enough of it to be worth a frame, or as much as
/// the peer has left. The second matters when most of a window is held by streams that nobody
/// reads: the rest must not wait for a part of the whole.
fn is_grant_due(unreleased: u32, left: i64, window: u32) -> bool {
    unreleased >= GRANT.min(window / 2) || i64::from(unreleased) >= left
}

/// Payload of the PING that marks the point after which a draining server takes no new streams.
const DRAIN_PING: [u8; 8] = *b"draining";
/// Payload of the PINGs that ask for a sign of life.
const LIFE_PING: [u8; 8] = *b"liveness";
