//! Addresses as the maps hold them: always 16 bytes, IPv4 in its IPv4-mapped form, in network byte order.

/// An IP address. IPv4 is stored as `::ffff:a.b.c.d`, so that a socket and its IPv4-mapped twin agree.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Address {
    /// The four words, each in network byte order as the kernel's contexts show them.
    pub words: [u32; 4],
}

/// The third word of an IPv4-mapped address, in network byte order.
const MAPPED: u32 = 0xffff_u32.to_be();

impl Address {
    /// From an IPv4 address as the kernel's contexts hold it (network byte order).
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(word: u32) -> Self {
        Self {
            words: [0, 0, MAPPED, word],
        }
    }

    /// Whether this is IPv4 in its mapped form.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// Whether a connection to this address stays on loopback: 127/8, `::1`, or the unspecified address,
    /// which the kernel takes to mean loopback.
    #[inline(always)]
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        let [a, b, c, d] = self.words;
        if a != 0 || b != 0 {
            return false;
        }
        if c == MAPPED {
            return d == 0 || u32::from_be(d) >> 24 == 127;
        }
        c == 0 && (d == 0 || d == 1_u32.to_be())
    }

    /// Word-wise equality; short enough to be inlined into BPF programs, where `memcmp` does not exist.
    #[inline(always)]
    #[must_use]
    pub const fn same(&self, other: &Self) -> bool {
        self.words[0] == other.words[0]
            && self.words[1] == other.words[1]
            && self.words[2] == other.words[2]
            && self.words[3] == other.words[3]
    }
}

/// An address and a port.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port in host byte order; 32 bits wide so that there is no padding.
    pub port: u32,
}

/// Key of a connection between its two ends. The network namespace is part of it, because addresses of
/// pods behind different agents may overlap on one kernel.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Flow {
    /// Cookie of the network namespace; zero for probes, which cross namespaces.
    pub netns: u64,
    /// The side that called `connect()`.
    pub source: Endpoint,
    /// The side that accepts.
    pub destination: Endpoint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_padding() {
        assert_eq!(size_of::<Address>(), 16);
        assert_eq!(size_of::<Endpoint>(), 20);
        assert_eq!(size_of::<Flow>(), 48);
    }

    #[test]
    fn loopback_is_recognised() {
        let v4 = |a: [u8; 4]| Address::from_v4(u32::from_ne_bytes(a));
        let v6 = |d: u32| Address {
            words: [0, 0, 0, d.to_be()],
        };
        for (address, expected) in [
            (v4([127, 0, 0, 1]), true),
            (v4([127, 255, 0, 9]), true),
            (v4([0, 0, 0, 0]), true),
            (v4([10, 0, 0, 127]), false),
            (v4([128, 0, 0, 1]), false),
            (v6(1), true),
            (v6(0), true),
            (v6(2), false),
            (
                Address {
                    words: [0xfd77_0000_u32.to_be(), 0, 0, 1_u32.to_be()],
                },
                false,
            ),
        ] {
            assert_eq!(address.is_loopback(), expected, "{address:?}");
        }
    }
}
