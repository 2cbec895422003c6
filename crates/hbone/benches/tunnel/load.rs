//! The loads, and the server behind the tunnel. Blocking threads: they are not what is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::agents::Agents;

const REQUEST: usize = 100;
const RESPONSE: usize = 1024;
const RUN: Duration = Duration::from_millis(1500);
const PIECE: usize = 256 * 1024;

#[derive(Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) rate: f64,
    pub(crate) cpu: f64,
}

#[derive(Clone, Copy)]
pub(crate) enum Load {
    Bulk(usize),
    Requests(usize),
    Connections(usize),
}

pub(crate) const LOADS: [Load; 5] = [
    Load::Bulk(1),
    Load::Bulk(4),
    Load::Requests(1),
    Load::Requests(64),
    Load::Connections(16),
];

/// What the first byte of a connection asks of the server.
const SINK: u8 = b's';
const ANSWER: u8 = b'a';

/// Starts the server: swallows bulk and acknowledges its end, or answers requests.
pub(crate) fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let tcp = tcp.unwrap();
            std::thread::Builder::new()
                .stack_size(512 * 1024)
                .spawn(move || {
                    let _end = answer(tcp);
                })
                .unwrap();
        }
    });
    address
}

fn answer(mut tcp: TcpStream) -> std::io::Result<()> {
    tcp.set_nodelay(true)?;
    let mut mode = [0];
    tcp.read_exact(&mut mode)?;
    if mode[0] == SINK {
        let mut buffer = vec![0; PIECE];
        while tcp.read(&mut buffer)? > 0 {}
        return tcp.write_all(&[1]);
    }
    let mut request = [0; REQUEST];
    loop {
        tcp.read_exact(&mut request)?;
        tcp.write_all(&[2; RESPONSE])?;
    }
}

fn dial(to: SocketAddr, mode: u8) -> TcpStream {
    let mut tcp = TcpStream::connect(to).unwrap();
    tcp.set_nodelay(true).unwrap();
    tcp.write_all(&[mode]).unwrap();
    tcp
}

fn request(tcp: &mut TcpStream) {
    tcp.write_all(&[3; REQUEST]).unwrap();
    tcp.read_exact(&mut [0; RESPONSE]).unwrap();
}

/// One worker until `end`; what it has done.
fn work(load: Load, to: SocketAddr, end: Instant) -> u64 {
    let mut done = 0;
    match load {
        Load::Bulk(_) => {
            let mut tcp = dial(to, SINK);
            let piece = vec![5; PIECE];
            while Instant::now() < end {
                tcp.write_all(&piece).unwrap();
                done += PIECE as u64;
            }
            tcp.shutdown(std::net::Shutdown::Write).unwrap();
            tcp.read_exact(&mut [0]).unwrap();
        }
        Load::Requests(_) => {
            let mut tcp = dial(to, ANSWER);
            while Instant::now() < end {
                request(&mut tcp);
                done += 1;
            }
        }
        Load::Connections(_) => {
            while Instant::now() < end {
                request(&mut dial(to, ANSWER));
                done += 1;
            }
        }
    }
    done
}

impl Load {
    pub(crate) fn run(self, agents: &Agents) -> Measure {
        let (Self::Bulk(workers) | Self::Requests(workers) | Self::Connections(workers)) = self;
        request(&mut dial(agents.address, ANSWER));
        let (start, cpu) = (Instant::now(), agents.cpu());
        let to = agents.address;
        let threads: Vec<_> = (0..workers)
            .map(|_| std::thread::spawn(move || work(self, to, start + RUN)))
            .collect();
        let done: u64 = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum();
        let rate = done as f64 / start.elapsed().as_secs_f64();
        Measure {
            rate,
            cpu: (agents.cpu() - cpu) / done as f64,
        }
    }

    pub(crate) fn describe(self, Measure { rate, cpu }: Measure) -> String {
        match self {
            Self::Bulk(streams) => format!(
                "bulk {streams:2}       {:8.2} Gb/s     {:6.3} s/GB",
                rate * 8.0 / 1e9,
                cpu * 1e9
            ),
            Self::Requests(connections) => {
                format!(
                    "requests {connections:2}   {rate:8.0} /s       {:6.2} s/1M",
                    cpu * 1e6
                )
            }
            Self::Connections(clients) => {
                format!(
                    "connections {clients:2}{rate:8.0} /s       {:6.1} µs each",
                    cpu * 1e6
                )
            }
        }
    }
}
