//! How many bytes each connection's other end has not acknowledged.
//!
//! `SIOCOUTQ` and `TCP_INFO` tell it for one socket, but cannot be asked
//! without unsafe code; `/proc` tells it for all of them at once, in the
//! column `tx_queue`: written and not acknowledged, in the send queue or on
//! the way.

use std::collections::BTreeMap;
use std::io;

/// Unacknowledged bytes by the socket's inode.
pub(super) type Queues = BTreeMap<u64, u64>;

/// Asks the kernel. Blocks for as long as it takes to list the sockets.
///
/// # Errors
/// Where `/proc` is not mounted.
pub(super) fn queues() -> io::Result<Queues> {
    let mut queues = parse(&std::fs::read_to_string("/proc/self/net/tcp")?);
    // Not there where IPv6 is off.
    queues
        .extend(std::fs::read_to_string("/proc/self/net/tcp6").iter().flat_map(|text| parse(text)));
    Ok(queues)
}

fn parse(table: &str) -> Queues {
    let rows = table.lines().skip(1).filter_map(|row| {
        let mut columns = row.split_ascii_whitespace();
        // sl local remote st tx:rx tr:tm->when retrnsmt uid timeout inode
        let (unacknowledged, _) = columns.nth(4)?.split_once(':')?;
        let inode = columns.nth(4)?.parse().ok()?;
        Some((inode, u64::from_str_radix(unacknowledged, 16).ok()?))
    });
    // Sockets that nobody has open any more have none.
    rows.filter(|(inode, _)| *inode != 0).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_what_the_other_end_has_not_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        one.set_nonblocking(true).unwrap();
        let inode = rustix::fs::fstat(&one).unwrap().st_ino;
        let mut written = 0;
        while let Ok(more) = one.write(&[0; 8192]) {
            written += more;
        }
        let waits = queues().unwrap()[&inode];
        assert!(waits > 0 && waits <= written as u64, "{waits} of {written}");
        other.read_exact(&mut vec![0; written]).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while queues().unwrap()[&inode] > 0 {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}
