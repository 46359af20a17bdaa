//! Whose a port is that is taken. systemd holds sockets for services that it
//! starts: such a port is taken for the gateway, not from it.

use std::fs;
use std::path::Path;

/// As `/proc/net/tcp` writes a socket that listens.
const LISTENS: &str = "0A";
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
/// systemd, where it is the system's first process; only root may look.
const SYSTEMD: &str = "/proc/1";

/// Whether systemd holds a socket that listens on this port.
pub(super) fn is_held_by_systemd(port: u16) -> bool {
    let is_systemd = fs::read_to_string(Path::new(SYSTEMD).join("comm"));
    if is_systemd.is_ok_and(|name| name.trim() != "systemd") {
        return false;
    }
    let tables = TABLES.iter().filter_map(|table| fs::read_to_string(table).ok());
    let links: Vec<_> = tables
        .flat_map(|table| sockets_on(port, &table))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let Ok(open) = fs::read_dir(Path::new(SYSTEMD).join("fd")) else { return false };
    let mut leads_to = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    leads_to.any(|to| links.iter().any(|link| to == Path::new(link)))
}

/// The inodes of what listens on a port: address and port in hexadecimal are
/// the second column, the state the fourth, the inode the tenth.
fn sockets_on(port: u16, table: &str) -> Vec<String> {
    let port = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening =
        rows.filter(|row| row.len() > 9 && row[1].ends_with(&port) && row[3] == LISTENS);
    listening.map(|row| row[9].to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_table_tells_which_socket_listens() {
        use std::os::fd::AsRawFd as _;
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let link = format!("/proc/self/fd/{}", listener.as_raw_fd());
            let inode = fs::read_link(link).unwrap().to_str().unwrap().to_owned();
            let port = listener.local_addr().unwrap().port();
            let tables = TABLES.iter().filter_map(|table| fs::read_to_string(table).ok());
            let found: Vec<_> = tables.flat_map(|table| sockets_on(port, &table)).collect();
            assert_eq!(
                found.iter().map(|one| format!("socket:[{one}]")).collect::<Vec<_>>(),
                [inode]
            );
        }
    }
}
