//! Moves a connection: socket to session, session to socket, timers. One task polls it. What
//! stream handles queue is sealed and sent when this task runs after them, in one write.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::receive::Intake;
use super::{LIFE_PING, Phase, Role, Session, Shared, blocks};
use crate::frame::{Deframer, PREFACE, Small, Violation};
use crate::tls::{TlsStream, Transport};
use crate::{Error, Settings};

/// Bytes taken from the socket before the streams get to run.
const READ_BUDGET: usize = 256 * 1024;

/// Up to this much per read is copied to where it goes, so that the block is free at once.
const COPY_MAX: usize = 8 * 1024;

/// How long the last frames of a closing connection, and the peer's own close, may take.
const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// The connection's liveness, as the timer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Waiting for the peer's first SETTINGS.
    Starting,
    /// Bytes came in the last interval, or it has just begun.
    Quiet,
    /// A PING was sent, and nothing came since.
    Asked,
    /// The last frames are on their way.
    Closing,
}

/// How far the end of our direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    Due,
    Queued,
    Sent,
}

/// Owner of a connection's socket.
pub(crate) struct Driver<IO> {
    io: IO,
    session: Shared,
    deframer: Deframer,
    /// Bytes of the client's preface still to come.
    preface_left: usize,
    /// An incomplete record.
    incoming: Vec<u8>,
    timer: Pin<Box<Sleep>>,
    /// When liveness is looked at next; the timer may be set for something earlier.
    life_at: Instant,
    life: Life,
    /// Something came since liveness was looked at.
    heard: bool,
    farewell: Farewell,
    /// The last frames took too long.
    overdue: bool,
}

impl<IO: Transport> Driver<IO> {
    pub(crate) fn new(tls: TlsStream<IO>, role: Role, settings: &Settings) -> Self {
        let session = Session::new(role, settings.clone(), tls.records);
        let life_at = Instant::now() + settings.handshake_timeout;
        let mut driver = Self {
            io: tls.io,
            session: Rc::new(session.into()),
            deframer: Deframer::new(settings.max_frame_size),
            preface_left: if role == Role::Server {
                PREFACE.len()
            } else {
                0
            },
            incoming: tls.incoming,
            timer: Box::pin(sleep_until(life_at)),
            life_at,
            life: Life::Starting,
            heard: false,
            farewell: Farewell::Due,
            overdue: false,
        };
        // What came with the handshake may be all that comes for a while.
        let incoming = std::mem::take(&mut driver.incoming);
        driver.take_plaintext(&Intake::Copy(&tls.early), 0..tls.early.len());
        if let Err(error) = driver.take_block(BytesMut::from(&*incoming)) {
            driver.session.borrow_mut().fail(error);
        }
        driver
    }

    pub(crate) fn session(&self) -> &Shared {
        &self.session
    }

    /// Drives the connection until its end. Not to be polled after that.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // While this runs, nobody needs to wake it: all that is queued is sent at its end.
        let waker = {
            let mut session = self.session.borrow_mut();
            session.reserved = 0;
            session.driver.take()
        };
        let outcome = self.turn(cx);
        let waker = waker.filter(|waker: &Waker| waker.will_wake(cx.waker()));
        let mut session = self.session.borrow_mut();
        session.driver = Some(waker.unwrap_or_else(|| cx.waker().clone()));
        if let Poll::Ready(outcome) = &outcome {
            session.fail(outcome.clone().err().unwrap_or(Error::PeerClosed));
        }
        outcome
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let closing = matches!(self.session.borrow().phase, Phase::Closing(_));
        let ended = match self.poll_read(cx) {
            Ok(eof) => eof,
            Err(_) if closing => true,
            Err(error) => return Poll::Ready(Err(error)),
        };
        self.poll_timer(cx)?;
        {
            let mut session = self.session.borrow_mut();
            if ended || self.overdue {
                return Poll::Ready(match &session.phase {
                    Phase::Closing(outcome) => outcome.clone(),
                    Phase::Closed(error) => Err(error.clone()),
                    _ if session.streams.open() == 0 => Ok(()),
                    _ => Err(Error::PeerClosed),
                });
            }
            if session.finished() {
                session.close(Ok(()));
            }
        }
        ready!(self.poll_flush(cx))?;
        self.poll_close(cx)
    }

    /// Reads until there is nothing left or the budget is used up; `true` at the end of input.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let mut total = 0;
        while total < READ_BUDGET {
            let mut block = blocks::take();
            block.extend_from_slice(&self.incoming);
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut block) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    total += count;
                    self.heard = true;
                    self.take_block(block)?;
                }
                outcome => {
                    blocks::give(block);
                    return match outcome {
                        Poll::Pending => Ok(self.session.borrow().records.is_closed()),
                        Poll::Ready(Ok(_)) => Ok(true),
                        Poll::Ready(Err(error)) => Err(error.into()),
                    };
                }
            }
        }
        cx.waker().wake_by_ref();
        Ok(false)
    }

    /// Decrypts what is complete in `block`, takes the frames, and keeps the rest.
    fn take_block(&mut self, mut block: BytesMut) -> Result<(), Error> {
        let mut ranges = Vec::new();
        let used = {
            let mut session = self.session.borrow_mut();
            session.batch = session.batch.wrapping_add(1);
            session.records.open(&mut block, &mut ranges)?
        };
        self.incoming = block[used..].to_vec();
        if used <= COPY_MAX {
            for range in ranges {
                self.take_plaintext(&Intake::Copy(&block), range);
            }
            blocks::give(block);
            return Ok(());
        }
        let shared = block.split_to(used).freeze();
        blocks::give(block);
        for range in ranges {
            self.take_plaintext(&Intake::Share(&shared), range);
        }
        Ok(())
    }

    fn take_plaintext(&mut self, intake: &Intake<'_>, range: std::ops::Range<usize>) {
        let mut session = self.session.borrow_mut();
        let mut input = &intake.bytes()[range];
        if self.preface_left > 0 {
            let (piece, rest) = input.split_at(self.preface_left.min(input.len()));
            if !PREFACE[PREFACE.len() - self.preface_left..].starts_with(piece) {
                return session.violate(Violation::protocol("no http/2 preface"));
            }
            self.preface_left -= piece.len();
            input = rest;
        }
        while !matches!(session.phase, Phase::Closing(_) | Phase::Closed(_)) {
            match self.deframer.next(&mut input) {
                Ok(Some(item)) => session.on_item(&item, intake),
                Ok(None) => return,
                Err(violation) => {
                    // The rest of the input makes no sense without this frame.
                    session.violate(violation);
                    return;
                }
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        loop {
            let deadline = self.deadline();
            if self.timer.deadline() != deadline {
                self.timer.as_mut().reset(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.on_timer()?;
        }
    }

    fn deadline(&mut self) -> Instant {
        let session = self.session.borrow();
        if self.life != Life::Closing && matches!(session.phase, Phase::Closing(_)) {
            self.life = Life::Closing;
            self.life_at = Instant::now() + CLOSE_TIMEOUT;
        }
        match session.idle_deadline() {
            Some(idle) if session.phase == Phase::Open => idle.min(self.life_at),
            _ => self.life_at,
        }
    }

    fn on_timer(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let mut session = self.session.borrow_mut();
        if session.idle_deadline().is_some_and(|idle| idle <= now) {
            session.drain();
        }
        if now < self.life_at {
            return Ok(());
        }
        let heard = std::mem::take(&mut self.heard);
        match self.life {
            Life::Starting if !session.is_ready() => return Err(Error::PeerHandshakeTimeout),
            Life::Closing => self.overdue = true,
            Life::Asked if !heard => return Err(Error::PeerUnresponsive),
            Life::Quiet if !heard => {
                session.control(|out| Small::Ping(LIFE_PING).write(out));
                self.life = Life::Asked;
                self.life_at = now + session.settings.ping_timeout;
            }
            _ => {
                self.life = Life::Quiet;
                self.life_at = now + session.settings.ping_interval;
            }
        }
        Ok(())
    }

    /// Sends what is queued, and lets blocked streams go on as room appears. Ready when the
    /// queue is empty.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let session = &mut *self.session.borrow_mut();
            if let Phase::Closed(error) = &session.phase {
                return Poll::Ready(Err(error.clone()));
            }
            session.unblock();
            let bytes = session.outbox.prepare(&mut session.records)?;
            if bytes.is_empty() {
                break;
            }
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(Error::PeerClosed));
            }
            session.outbox.sent(count);
        }
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        Poll::Ready(Ok(()))
    }

    /// Ends our direction once everything is sent, and then waits for the peer to end its own: a
    /// socket closed at once would reset what is still on its way to the peer.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !matches!(self.session.borrow().phase, Phase::Closing(_)) {
            return Poll::Pending;
        }
        if self.farewell == Farewell::Due {
            let session = &mut *self.session.borrow_mut();
            session.outbox.close(&mut session.records)?;
            self.farewell = Farewell::Queued;
        }
        if self.farewell == Farewell::Queued {
            ready!(self.poll_flush(cx))?;
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            self.farewell = Farewell::Sent;
        }
        Poll::Pending
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        // Handles may live on; they must not wait for a connection that nobody drives.
        self.session.borrow_mut().fail(Error::LocalClosed);
    }
}
