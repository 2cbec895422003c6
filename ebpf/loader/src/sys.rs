//! The few `bpf(2)` commands that aya does not offer in the form needed here: operations on maps by shared
//! reference and from any thread, pins, and the replacement of a link's program.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Commands of `bpf(2)`.
#[derive(Clone, Copy)]
#[repr(i32)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapNextKey = 4,
    ProgramLoad = 5,
    ObjectPin = 6,
    ObjectGet = 7,
    InfoByFd = 15,
    MapLookupAndDelete = 21,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// Where programs are attached, as the kernel numbers it.
pub(crate) mod attach_type {
    pub(crate) const SOCK_CREATE: u32 = 2;
    pub(crate) const SOCK_OPS: u32 = 3;
    pub(crate) const CONNECT4: u32 = 10;
    pub(crate) const CONNECT6: u32 = 11;
    pub(crate) const SENDMSG4: u32 = 14;
    pub(crate) const SENDMSG6: u32 = 15;
    pub(crate) const RECVMSG4: u32 = 19;
    pub(crate) const RECVMSG6: u32 = 20;
    pub(crate) const GETPEERNAME4: u32 = 29;
    pub(crate) const GETPEERNAME6: u32 = 30;
    pub(crate) const SK_LOOKUP: u32 = 36;
}

/// Types of maps that are made here; the others come from the compiled objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum MapType {
    Hash = 1,
    Array = 2,
    SockHash = 18,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}

#[repr(C)]
struct MapElement {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct ObjectPath {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface_index: u32,
    expected_attach_type: u32,
}

/// What a link is attached to.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LinkInfo {
    /// The kind of link.
    pub(crate) link_type: u32,
    /// Its id.
    pub(crate) id: u32,
    /// The id of its program.
    pub(crate) program: u32,
    padding: u32,
    /// The cgroup's id, or in the lower half the inode of the network namespace; zero when the target is
    /// gone.
    target: [u32; 2],
    attach_type: u32,
    reserved: [u32; 25],
}

impl LinkInfo {
    /// Whether the link's target still exists.
    pub(crate) fn is_attached(&self) -> bool {
        self.target[0] != 0
    }
}

/// The keys and values that may cross into the kernel as bytes.
///
/// # Safety
/// The type must be `repr(C)` (or primitive), without padding, and valid for any bytes.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: primitive.
unsafe impl Plain for u32 {}
// SAFETY: primitive.
unsafe impl Plain for u64 {}

fn call<T>(command: Command, attributes: &T) -> io::Result<i32> {
    // SAFETY: every attribute structure here is laid out as the kernel documents for its command, and the
    // addresses in it point to memory that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as i32,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

fn new_fd(result: i32) -> OwnedFd {
    // SAFETY: the command returned a new descriptor that nobody else owns; the kernel sets close-on-exec.
    unsafe { OwnedFd::from_raw_fd(result) }
}

fn element(map: BorrowedFd<'_>, key: u64, value: u64) -> MapElement {
    MapElement {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key,
        value,
        flags: 0,
    }
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

/// Makes a map.
pub(crate) fn create_map(
    map_type: MapType,
    name: &str,
    (key_size, value_size): (usize, usize),
    max_entries: u32,
) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        map_type: map_type as u32,
        key_size: key_size as u32,
        value_size: value_size as u32,
        max_entries,
        ..MapCreate::default()
    };
    for (to, from) in attributes.name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    call(Command::MapCreate, &attributes).map(new_fd)
}

/// The value of `key`, if there is one.
pub(crate) fn lookup<K: Plain, V: Plain + Default>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    found(Command::MapLookup, map, key)
}

/// The value of `key`, which is deleted in the same step.
pub(crate) fn take<K: Plain, V: Plain + Default>(
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    found(Command::MapLookupAndDelete, map, key)
}

fn found<K: Plain, V: Plain + Default>(
    command: Command,
    map: BorrowedFd<'_>,
    key: &K,
) -> io::Result<Option<V>> {
    let mut value = V::default();
    let attributes = element(map, address(key), (&raw mut value) as u64);
    match call(command, &attributes) {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets the value of `key`.
pub(crate) fn update<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    call(
        Command::MapUpdate,
        &element(map, address(key), address(value)),
    )
    .map(drop)
}

/// Deletes `key`; false when it was not there.
pub(crate) fn delete<K: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    match call(Command::MapDelete, &element(map, address(key), 0)) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The key after `key`, or the first.
pub(crate) fn next_key<K: Plain + Default>(
    map: BorrowedFd<'_>,
    key: Option<&K>,
) -> io::Result<Option<K>> {
    let mut next = K::default();
    let attributes = element(map, key.map_or(0, address), (&raw mut next) as u64);
    match call(Command::MapNextKey, &attributes) {
        Ok(_) => Ok(Some(next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Pins an object.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = ObjectPath {
        path: path.as_ptr() as u64,
        fd: object.as_raw_fd() as u32,
        flags: 0,
    };
    call(Command::ObjectPin, &attributes).map(drop)
}

/// Opens a pinned object; `None` when nothing is pinned there.
pub(crate) fn open_pin(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    match call(
        Command::ObjectGet,
        &ObjectPath {
            path: path.as_ptr() as u64,
            fd: 0,
            flags: 0,
        },
    ) {
        Ok(fd) => Ok(Some(new_fd(fd))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attaches a program to a cgroup or a network namespace, beside whatever else is attached there. It stays
/// attached as long as the link is open or pinned.
pub(crate) fn create_link(
    program: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: program.as_raw_fd() as u32,
        target: target.as_raw_fd() as u32,
        attach_type,
        flags: 0,
    };
    call(Command::LinkCreate, &attributes).map(new_fd)
}

/// Replaces the program of a link in one step; connections see the old one or the new one, never none.
pub(crate) fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = LinkUpdate {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old_program: 0,
    };
    call(Command::LinkUpdate, &attributes).map(drop)
}

/// Detaches a link even when somebody else still holds it open.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    call(Command::LinkDetach, &(link.as_raw_fd() as u32)).map(drop)
}

/// What a link is attached to.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let attributes = InfoByFd {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    call(Command::InfoByFd, &attributes).map(|_| info)
}

/// Key and value size of a map.
pub(crate) fn map_sizes(map: BorrowedFd<'_>) -> io::Result<(usize, usize)> {
    let mut info = [0u32; 4];
    let attributes = InfoByFd {
        fd: map.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: (&raw mut info) as u64,
    };
    call(Command::InfoByFd, &attributes).map(|_| (info[2] as usize, info[3] as usize))
}

/// Whether the kernel accepts a program of this type; it is unloaded at once.
pub(crate) fn try_program(
    program_type: u32,
    expected_attach_type: u32,
    instructions: &[u64],
) -> io::Result<()> {
    let attributes = ProgramLoad {
        program_type,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        expected_attach_type,
        ..ProgramLoad::default()
    };
    call(Command::ProgramLoad, &attributes)
        .map(new_fd)
        .map(drop)
}
