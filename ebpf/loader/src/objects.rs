//! The compiled programs: loading them with the pinned maps, and attaching them or replacing what is
//! attached.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use aya::programs::{Program, ProgramError, ProgramFd};
use aya::{Ebpf, EbpfLoader};

use crate::error::{Doing, Error};
use crate::pins::Pins;
use crate::sys::{self, attach_type};

static NODE: &[u8] = aya::include_bytes_aligned!("../../objects/node.bpf.o");
static POD: &[u8] = aya::include_bytes_aligned!("../../objects/pod.bpf.o");

/// The node's programs, by name. Those that only tell applications what they asked for come first, so that
/// nothing is steered before it can be explained.
const PROGRAMS: [(&str, u32); 10] = [
    ("getpeername4", attach_type::GETPEERNAME4),
    ("getpeername6", attach_type::GETPEERNAME6),
    ("recvmsg4", attach_type::RECVMSG4),
    ("recvmsg6", attach_type::RECVMSG6),
    ("tcp_events", attach_type::SOCK_OPS),
    ("sock_create", attach_type::SOCK_CREATE),
    ("sendmsg4", attach_type::SENDMSG4),
    ("sendmsg6", attach_type::SENDMSG6),
    ("connect4", attach_type::CONNECT4),
    ("connect6", attach_type::CONNECT6),
];
const NODE_MAPS: [&str; 6] = [
    "NETNS",
    "DESTINATIONS",
    "FLOWS",
    "PROBES",
    "KUBELETS",
    "SETTINGS",
];
const POD_MAPS: [&str; 3] = ["NETNS", "PROBES", "LISTENERS"];
const POD_PROGRAM: &str = "inbound";

/// Fingerprints of the compiled programs, to tell whether those that are attached are the same.
pub(crate) fn fingerprints() -> (u64, u64) {
    (fingerprint(NODE), fingerprint(POD))
}

/// FNV-1a: stable across compilers, and nobody gains by a collision.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Whether every program of the node is attached.
pub(crate) fn node_is_attached(pins: &Pins) -> bool {
    PROGRAMS
        .iter()
        .all(|(name, _)| open_attached(&pins.link(name)).is_ok_and(|link| link.is_some()))
}

/// Loads the node's programs and attaches each, or replaces the one that is attached. Maps that are not
/// pinned yet are made.
pub(crate) fn attach_node(pins: &Pins, cgroup: &Path) -> Result<(), Error> {
    let cgroup = File::open(cgroup).doing(|| format!("open {}", cgroup.display()))?;
    let mut object = load(NODE, &NODE_MAPS, pins, None)?;
    for (name, attach_type) in PROGRAMS {
        let program = load_program(&mut object, name)?;
        let pin = pins.link(name);
        if !replace(&pin, program.as_fd())? {
            attach(&pin, program.as_fd(), cgroup.as_fd(), attach_type)?;
        }
    }
    Ok(())
}

/// Loads an instance of the lookup program for one pod and attaches it, or replaces the one that is
/// attached. Without `netns` it only replaces.
pub(crate) fn attach_pod(
    pins: &Pins,
    cookie: u64,
    netns: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let mut object = load(POD, &POD_MAPS, pins, Some(cookie))?;
    let program = load_program(&mut object, POD_PROGRAM)?;
    let pin = pins.pod(cookie);
    if replace(&pin, program.as_fd())? {
        return Ok(());
    }
    netns.map_or(Ok(()), |netns| {
        attach(&pin, program.as_fd(), netns, attach_type::SK_LOOKUP)
    })
}

/// The link pinned at `path`, if it is still attached to something; otherwise the pin is removed.
pub(crate) fn open_attached(path: &Path) -> Result<Option<(OwnedFd, sys::LinkInfo)>, Error> {
    let opened = sys::open_pin(path).doing(|| format!("open {}", path.display()))?;
    let Some(link) = opened else { return Ok(None) };
    let info = sys::link_info(link.as_fd()).doing(|| format!("inspect {}", path.display()))?;
    if info.is_attached() {
        return Ok(Some((link, info)));
    }
    std::fs::remove_file(path).doing(|| format!("remove {}", path.display()))?;
    Ok(None)
}

/// Replaces the program of the link pinned at `path`; false when there is none.
fn replace(path: &Path, program: BorrowedFd<'_>) -> Result<bool, Error> {
    let Some((link, _)) = open_attached(path)? else {
        return Ok(false);
    };
    sys::replace_program(link.as_fd(), program)
        .doing(|| format!("replace the program of {}", path.display()))?;
    Ok(true)
}

fn load(
    object: &'static [u8],
    maps: &[&'static str],
    pins: &Pins,
    cookie: Option<u64>,
) -> Result<Ebpf, Error> {
    let mut loader = EbpfLoader::new();
    for name in maps {
        loader.map_pin_path(name, pins.map(name));
    }
    if let Some(cookie) = &cookie {
        loader.override_global("COOKIE", cookie, true);
    }
    loader
        .load(object)
        .map_err(|error| Error::Object(Box::new(error)))
}

fn load_program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a ProgramFd, Error> {
    let refused = |source| Error::Program {
        program: name.to_owned(),
        source: Box::new(source),
    };
    let program = object
        .program_mut(name)
        .ok_or_else(|| refused(ProgramError::NotLoaded))?;
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SkLookup(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
    .map_err(refused)?;
    program.fd().map_err(refused)
}

fn attach(
    pin: &Path,
    program: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    attach_type: u32,
) -> Result<(), Error> {
    let link = sys::create_link(program, target, attach_type)
        .doing(|| format!("attach the program of {}", pin.display()))?;
    sys::pin(link.as_fd(), pin).doing(|| format!("pin {}", pin.display()))
}
