//! Entering a network namespace, always on a thread of its own so that no caller's thread is left inside.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::{CloneFlags, setns};

use crate::mounts;

/// `SO_NETNS_COOKIE`, Linux 5.14.
const SO_NETNS_COOKIE: libc::c_int = 71;

/// Runs `work` inside `netns` on a new thread and waits for it.
pub(crate) fn run<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                setns(netns, CloneFlags::CLONE_NEWNET)?;
                work()
            })?
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
    })
}

/// Cookie of `netns`.
pub(crate) fn cookie(netns: BorrowedFd<'_>) -> io::Result<u64> {
    run(netns, || socket_netns_cookie(datagram_socket()?.as_fd()))
}

/// Cookie of the namespace that a socket lives in.
pub(crate) fn socket_netns_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which lives on this stack frame.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn datagram_socket() -> io::Result<OwnedFd> {
    // SAFETY: plain system call; a non-negative result is a new descriptor that nobody else owns.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

/// Cookie of this thread's network namespace.
pub(crate) fn own_cookie() -> io::Result<u64> {
    socket_netns_cookie(datagram_socket()?.as_fd())
}

/// Finds a network namespace that somebody still uses: this process by a descriptor, another process by
/// living in it, or a mount. Returns `None` when nobody does, and then there is nothing left to restore.
pub(crate) fn find(inode: u64) -> Option<OwnedFd> {
    let name = format!("net:[{inode}]");
    let is_it =
        |link: &Path| std::fs::read_link(link).is_ok_and(|target| target == Path::new(&name));
    let entries = |directory: &str| std::fs::read_dir(directory).into_iter().flatten().flatten();
    let own = entries("/proc/self/fd").map(|entry| entry.path());
    let processes = entries("/proc").map(|entry| entry.path().join("ns/net"));
    let mounted = mounts::all().unwrap_or_default().into_iter();
    let mounted = mounted
        .filter(|m| m.kind == "nsfs" && m.root == name)
        .map(|m| m.point);
    own.chain(processes)
        .filter(|link| is_it(link))
        .chain(mounted)
        .find_map(|path| std::fs::File::open(path).ok())
        .map(OwnedFd::from)
}

/// Inode number of a network namespace.
pub(crate) fn inode(netns: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(nix::sys::stat::fstat(netns)?.st_ino)
}

/// Whether this is the network namespace of the machine's first process, or this process's own.
pub(crate) fn is_hosts(netns: BorrowedFd<'_>) -> bool {
    let Ok(inode) = inode(netns) else {
        return false;
    };
    let same = |path| std::fs::metadata(path).is_ok_and(|file| file.ino() == inode);
    same("/proc/1/ns/net") || same("/proc/self/ns/net")
}
