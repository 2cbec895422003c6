//! Looks at the packets on a node's link, to prove what is and what is not readable there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use super::Host;

/// `ETH_P_ALL` in network order.
const ALL_PACKETS: i32 = (libc_eth_p_all()).to_be() as i32;

const fn libc_eth_p_all() -> u16 {
    0x0003
}

/// A running capture of everything a namespace sends and receives.
#[derive(Debug)]
pub struct PacketCapture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<u8>>>,
}

impl PacketCapture {
    /// Starts on every device of the host. Holds at most `limit` bytes.
    ///
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn start(host: &Host, limit: usize) -> Result<Self> {
        let socket =
            host.run(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PACKETS))))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        socket.set_recv_buffer_size(16 << 20)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || read(&socket, &stopped, limit));
        Ok(Self { stop, thread })
    }

    /// Ends it and gives the captured packets, one after the other.
    ///
    /// # Errors
    /// When reading failed.
    pub fn finish(self) -> Result<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        let bytes = self
            .thread
            .join()
            .map_err(|_| io::Error::other("the capture panicked"))??;
        Ok(bytes)
    }
}

fn read(socket: &Socket, stop: &AtomicBool, limit: usize) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut seen = Vec::new();
    let mut packet = vec![0; 1 << 16];
    let mut reader: &Socket = socket;
    // After the stop, what is queued is still read.
    loop {
        match reader.read(&mut packet) {
            Ok(length) if seen.len() + length <= limit => seen.extend_from_slice(&packet[..length]),
            Ok(_) => {}
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                if stop.load(Ordering::Relaxed) {
                    return Ok(seen);
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Whether `needle` is in `bytes`.
#[must_use]
pub(crate) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

impl PacketCapture {
    /// Whether a text is readable in captured bytes.
    #[must_use]
    pub fn shows(bytes: &[u8], text: &str) -> bool {
        contains(bytes, text.as_bytes())
    }
}
