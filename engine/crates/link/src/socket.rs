//! Set-up of the link's TCP sockets.

use crate::limits::UNSENT_LIMIT;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Sends small frames at once and lets the kernel give up on data that the peer does not
/// acknowledge. Buffer sizes are left to the kernel's autotuning.
pub fn set_up(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNSENT_LIMIT))
}
