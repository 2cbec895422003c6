//! The programs that are attached once per node, at the root of the cgroup tree. They see every socket of
//! the machine, so each begins with the cheapest test that lets foreign sockets pass.
#![no_std]
#![no_main]

mod connect;
mod context;
mod create;
mod flow;
mod maps;
mod name;

/// Some of the helpers are for programs under the GPL only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
