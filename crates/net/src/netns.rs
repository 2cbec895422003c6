//! Network namespaces: how one is opened, told from another, and entered for the time of a call.
//! Sockets belong to the namespace they were made in, whichever thread uses them later, so a thread
//! only enters to make one. Knows nothing of pods.

use std::cell::{Cell, OnceCell};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

/// `ioctl` that tells the kind of a namespace descriptor (`include/uapi/linux/nsfs.h`).
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;

thread_local! {
    /// Which namespace this thread is in now.
    static HERE: Cell<Option<Here>> = const { Cell::new(None) };
    /// Keeps the descriptor of the namespace the thread was found in.
    static HOME: OnceCell<OwnedFd> = const { OnceCell::new() };
}

#[derive(Clone, Copy)]
struct Here {
    fd: RawFd,
    inode: Inode,
}

/// What tells two namespaces apart: the device and inode number of their `nsfs` file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    /// Device number of `nsfs`.
    pub device: u64,
    /// Inode number, as `readlink /proc/PID/ns/net` shows it.
    pub number: u64,
}

/// A network namespace, kept alive by an open descriptor. Cheap to clone.
#[derive(Clone)]
pub struct Netns {
    inner: Arc<Inner>,
}

struct Inner {
    fd: OwnedFd,
    inode: Inode,
    cookie: u64,
}

impl Netns {
    /// Opens the namespace bound at `path`, such as `/run/netns/a` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When the path cannot be opened or is not a network namespace.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// The namespace the calling thread is in.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn current() -> io::Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Takes a descriptor of a network namespace, as received from another process.
    ///
    /// # Errors
    /// `InvalidInput` when it is of another kind.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: NS_GET_NSTYPE takes no argument and only reads from a descriptor we own; on
        // anything but a namespace file it fails with ENOTTY.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the descriptor is not a network namespace",
            ));
        }
        let fd = File::from(fd);
        let meta = fd.metadata()?;
        let inode = Inode {
            device: meta.dev(),
            number: meta.ino(),
        };
        let fd = OwnedFd::from(fd);
        let cookie = inside(fd.as_fd(), inode, read_cookie)?;
        Ok(Self {
            inner: Arc::new(Inner { fd, inode, cookie }),
        })
    }

    /// Makes a new namespace that lives as long as the value, with its loopback device up.
    /// Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create() -> io::Result<Self> {
        let made = std::thread::Builder::new()
            .name("netns-create".into())
            .spawn(|| {
                nix::sched::unshare(CloneFlags::CLONE_NEWNET)?;
                loopback_up()?;
                Self::current()
            })?;
        made.join()
            .unwrap_or_else(|_| Err(io::Error::other("the creating thread panicked")))
    }

    /// The kernel's number for this namespace, never reused while the system runs
    /// (`SO_NETNS_COOKIE`): what the capture programs know it by.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        self.inner.cookie
    }

    /// What tells this namespace from others in `/proc`.
    #[must_use]
    pub fn inode(&self) -> Inode {
        self.inner.inode
    }

    /// Runs `work` inside the namespace and comes back. May be nested.
    ///
    /// # Errors
    /// What `work` returns, or that the namespace could not be entered.
    ///
    /// # Aborts
    /// When the thread cannot come back: everything it did afterwards would happen in a pod.
    pub fn run<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        inside(self.inner.fd.as_fd(), self.inner.inode, work)
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.inner.inode == other.inner.inode
    }
}

impl Eq for Netns {}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.fd.as_fd()
    }
}

impl fmt::Debug for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Netns({})", self.inner.inode.number)
    }
}

/// Comes back to where the thread was, also when the work panics.
struct Return(Here);

impl Drop for Return {
    fn drop(&mut self) {
        // SAFETY: the descriptor is the thread's home, which stays open as long as the thread, or
        // that of an outer `run`, which is borrowed for longer than this value lives.
        let back = unsafe { BorrowedFd::borrow_raw(self.0.fd) };
        if setns(back, CloneFlags::CLONE_NEWNET).is_err() {
            // Nothing sensible can be done by a thread that is in somebody else's namespace.
            std::process::abort();
        }
        HERE.set(Some(self.0));
    }
}

fn inside<T>(
    fd: BorrowedFd<'_>,
    inode: Inode,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let here = match HERE.get() {
        Some(here) => here,
        None => find_home()?,
    };
    if here.inode == inode {
        return work();
    }
    setns(fd, CloneFlags::CLONE_NEWNET)?;
    let _return = Return(here);
    HERE.set(Some(Here {
        fd: fd.as_raw_fd(),
        inode,
    }));
    work()
}

/// Opens the thread's own namespace, once; the descriptor stays open as long as the thread.
fn find_home() -> io::Result<Here> {
    let file = File::open("/proc/thread-self/ns/net")?;
    let meta = file.metadata()?;
    let inode = Inode {
        device: meta.dev(),
        number: meta.ino(),
    };
    let fd = HOME.with(|home| home.get_or_init(|| file.into()).as_raw_fd());
    let here = Here { fd, inode };
    HERE.set(Some(here));
    Ok(here)
}

fn read_cookie() -> io::Result<u64> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which has that size.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if done == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets `lo` up in the calling thread's namespace.
fn loopback_up() -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: an all-zero ifreq is a valid value of this plain C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads the name and the flags of the structure passed, which is live.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Wraps an accepted or received raw descriptor.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass a descriptor the kernel has just handed to this process, owned by nobody.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_thread_comes_back_from_a_namespace_also_after_an_error_or_panic() {
        let home = Netns::current().unwrap();
        let other = Netns::create().unwrap();
        assert_ne!(home, other);
        assert_ne!(home.cookie(), other.cookie());
        let seen = other.run(|| Netns::current().map(|n| n.cookie())).unwrap();
        assert_eq!(seen, other.cookie());
        assert_eq!(Netns::current().unwrap(), home);
        other
            .run(|| Err::<(), _>(io::Error::other("no")))
            .unwrap_err();
        assert_eq!(Netns::current().unwrap(), home);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            other.run::<()>(|| panic!("inside"))
        }));
        assert!(panicked.is_err());
        assert_eq!(Netns::current().unwrap(), home);
    }

    #[test]
    fn nested_runs_return_to_the_outer_namespace() {
        let (a, b) = (Netns::create().unwrap(), Netns::create().unwrap());
        a.run(|| {
            b.run(|| Ok(()))?;
            assert_eq!(Netns::current()?, a);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_socket_belongs_to_the_namespace_it_was_made_in() {
        let other = Netns::create().unwrap();
        let here = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = here.local_addr().unwrap().port();
        // The same port is free in the other namespace.
        other
            .run(|| TcpListener::bind(("127.0.0.1", port)))
            .unwrap();
    }

    #[test]
    fn other_descriptors_are_refused() {
        let file = File::open("/proc/self/ns/uts").unwrap();
        assert_eq!(
            Netns::from_fd(file.into()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        let file = File::open("/dev/null").unwrap();
        assert_eq!(
            Netns::from_fd(file.into()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }
}
