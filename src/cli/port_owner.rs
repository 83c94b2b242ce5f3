//! Which process listens on a port already, as far as /proc tells: for the message about an address in use.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

/// `NAME (process ID)` of whoever listens on the TCP port; `None` when that can't be found out.
pub(super) fn port_owner(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let inode = tables
        .iter()
        .find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter(|entry| is_number(&entry.file_name()))
        .map(|entry| entry.path())
        .find(|process| holds(process, &socket))
        .and_then(|process| describe(&process))
}

/// The inode of the listening socket in a table as the kernel prints it (proc(5)).
fn listening_inode(table: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (columns.get(1)?, columns.get(3)?, columns.get(9)?);
        (local.ends_with(&wanted) && *state == LISTEN).then(|| (*inode).to_owned())
    })
}

fn is_number(name: &OsStr) -> bool {
    name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
}

fn holds(process: &Path, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    descriptors
        .flatten()
        .any(|descriptor| fs::read_link(descriptor.path()).is_ok_and(|to| to == Path::new(socket)))
}

fn describe(process: &Path) -> Option<String> {
    let id = process.file_name()?.to_str()?;
    let name = fs::read_to_string(process.join("comm")).ok()?;
    Some(format!("{} (process {id})", name.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let owner = port_owner(listener.local_addr().unwrap().port()).unwrap();
        let this = format!("(process {})", std::process::id());
        assert!(owner.ends_with(&this), "{owner}");
    }

    #[test]
    fn a_connection_from_the_port_is_not_a_listener() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 7 1\n   \
                     1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8 1\n";
        assert_eq!(listening_inode(table, 8080).as_deref(), Some("8"));
        assert_eq!(listening_inode(table, 8081), None);
    }
}
