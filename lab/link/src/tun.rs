//! TUN devices in network namespaces.
//!
//! The only module with `unsafe`: `setns` and the ioctls that make and configure a network device
//! have no safe form. Each is one call with arguments that live through it, checked at once.
#![allow(unsafe_code)]

use std::ffi::{CString, c_ulong, c_void};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;

/// `linux/if_tun.h`
const TUN_F_CSUM: c_ulong = 1;
const TUN_F_TSO4: c_ulong = 2;
const TUN_F_TSO6: c_ulong = 4;
const TUN_F_TSO_ECN: c_ulong = 8;
const TUNSETIFF: c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: c_ulong = 0x4004_54d0;
/// Packets that the kernel keeps for us while we are busy.
const KERNEL_QUEUE: i32 = 2000;

/// An IPv4 address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: Ipv4Addr,
    bits: u8,
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Prefix, String> {
        let parse = || {
            let (address, bits) = text.split_once('/')?;
            let bits = bits.parse().ok().filter(|bits| (1..=32).contains(bits))?;
            Some(Prefix {
                address: address.parse().ok()?,
                bits,
            })
        };
        parse().ok_or_else(|| format!("{text:?} is no IPv4 address with a prefix, as 10.77.0.1/30"))
    }
}

/// Where a device shall be, and how.
pub struct Place {
    /// Path of the network namespace.
    pub namespace: PathBuf,
    /// Name of the device.
    pub name: String,
    /// Its address.
    pub address: Prefix,
    /// Largest packet in bytes.
    pub mtu: u16,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.name, self.namespace.display())
    }
}

/// A TUN device, which vanishes with this value. Packets carry offload notes.
pub struct Device {
    file: File,
}

impl Device {
    /// Makes the device, gives it its address and puts it up.
    pub fn create(place: Place) -> Result<Device, String> {
        // `setns` moves a thread for good, so a thread of its own goes there.
        let thread = thread::spawn(move || {
            create_here(&place).map_err(|(doing, error)| format!("{doing} {place}: {error}"))
        });
        thread
            .join()
            .unwrap_or_else(|_| Err("the thread that makes the device panicked".into()))
    }

    /// The next packet, or none for now.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands a packet to the kernel.
    pub fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.file).write(packet).map(drop)
    }

    /// Whether the kernel may hand over TCP packets of many segments, checksums unfinished.
    pub fn set_offload(&self, on: bool) -> io::Result<()> {
        let features = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
        let features = if on { features } else { 0 };
        // SAFETY: the argument of this ioctl is a number.
        check(unsafe { libc::ioctl(self.file.as_raw_fd(), TUNSETOFFLOAD as _, features) })
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// An error with what was being done.
type Doing = (&'static str, io::Error);

fn create_here(place: &Place) -> Result<Device, Doing> {
    let during = |doing| move |error| (doing, error);
    enter(place).map_err(during("entering the network namespace of"))?;
    let file = open(place).map_err(during("making the TUN device"))?;
    configure(place).map_err(during("configuring the TUN device"))?;
    let device = Device { file };
    device
        .set_offload(true)
        .map_err(during("switching on the offload of"))?;
    Ok(device)
}

fn enter(place: &Place) -> io::Result<()> {
    let namespace = File::open(&place.namespace)?;
    // SAFETY: the descriptor is open until after the call.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) })
}

fn open(place: &Place) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
    let file = options.open("/dev/net/tun")?;
    let mut request = request(place)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as _;
    control(file.as_fd(), TUNSETIFF, &mut request)?;
    Ok(file)
}

fn configure(place: &Place) -> io::Result<()> {
    // SAFETY: a plain system call; what it returns is checked before it becomes an owned descriptor.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(socket)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let Prefix { address, bits } = place.address;
    let mask = Ipv4Addr::from(u32::MAX << (32 - u32::from(bits)));
    let set = |which: c_ulong, fill: &dyn Fn(&mut libc::ifreq)| {
        let mut request = request(place)?;
        fill(&mut request);
        control(socket.as_fd(), which, &mut request)
    };
    set(libc::SIOCSIFADDR as _, &|r| {
        r.ifr_ifru.ifru_addr = socket_address(address)
    })?;
    set(libc::SIOCSIFNETMASK as _, &|r| {
        r.ifr_ifru.ifru_netmask = socket_address(mask)
    })?;
    set(libc::SIOCSIFMTU as _, &|r| {
        r.ifr_ifru.ifru_mtu = place.mtu.into()
    })?;
    set(libc::SIOCSIFTXQLEN as _, &|r| {
        r.ifr_ifru.ifru_metric = KERNEL_QUEUE
    })?;
    set(libc::SIOCSIFFLAGS as _, &|r| {
        r.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _
    })
}

/// An interface request that names the device.
fn request(place: &Place) -> io::Result<libc::ifreq> {
    let name = CString::new(place.name.as_str())?;
    let name = name.as_bytes_with_nul();
    // SAFETY: `ifreq` is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() < 2 || name.len() > request.ifr_name.len() {
        return Err(io::Error::other("the name of a device has 1 to 15 bytes"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as _;
    }
    Ok(request)
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut bytes = [0; 14];
    // After the port come the four bytes of the address, in network order.
    for (to, from) in bytes[2..6].iter_mut().zip(address.octets()) {
        *to = from as _;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as _,
        sa_data: bytes,
    }
}

fn control(file: BorrowedFd<'_>, which: c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let request: *mut c_void = (&raw mut *request).cast();
    // SAFETY: all ioctls used here take a pointer to an `ifreq`, which outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), which as _, request) })
}

fn check(result: i32) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
