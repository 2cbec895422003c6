//! The tunnel's byte path on loopback: load → agent → tunnel → agent → server, each agent one
//! thread. Compares our framing with the h2 crate over tokio-rustls in one interleaved run, by
//! throughput and by the CPU time of the two agents' threads, which is the steadier figure.
//!
//! `cargo bench -p ambit-hbone --bench tunnel [-- ROUNDS [VARIANT]]`

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and ends when it fails"
)]

mod agents;
mod baseline;
mod load;
#[path = "../../tests/tunnel/support/pki.rs"]
mod pki;

use std::net::SocketAddr;

use agents::Agents;
use load::Measure;

/// How a variant starts its two agents: the accepting one, then the opening one towards it.
struct Variant {
    name: &'static str,
    start: fn(server: SocketAddr) -> Agents,
}

const VARIANTS: [Variant; 2] = [
    Variant {
        name: "own",
        start: agents::start,
    },
    Variant {
        name: "h2",
        start: baseline::start,
    },
];

fn main() {
    let rounds = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(3);
    let only = |variant: &Variant| std::env::args().any(|arg| arg == variant.name);
    let variants: Vec<_> = match VARIANTS.iter().find(|variant| only(variant)) {
        Some(variant) => vec![variant],
        None => VARIANTS.iter().collect(),
    };
    let server = load::serve();
    println!("variant  load          rate              agents' cpu");
    let mut all: Vec<(usize, usize, Measure)> = Vec::new();
    for _ in 0..rounds {
        for (index, variant) in variants.iter().enumerate() {
            let agents = (variant.start)(server);
            for (kind, load) in load::LOADS.iter().enumerate() {
                all.push((index, kind, load.run(&agents)));
            }
        }
    }
    for (kind, load) in load::LOADS.iter().enumerate() {
        for (index, variant) in variants.iter().enumerate() {
            let of = |(at, what, _): &&(usize, usize, Measure)| *at == index && *what == kind;
            let mut runs: Vec<_> = all
                .iter()
                .filter(of)
                .map(|(_, _, measure)| *measure)
                .collect();
            runs.sort_by(|one, other| one.rate.total_cmp(&other.rate));
            let rate = runs[runs.len() / 2].rate;
            runs.sort_by(|one, other| one.cpu.total_cmp(&other.cpu));
            let cpu = runs[runs.len() / 2].cpu;
            println!(
                "{:8} {}",
                variant.name,
                load.describe(Measure { rate, cpu })
            );
        }
    }
}
