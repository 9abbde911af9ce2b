//! Loopback ports that stay ours, even while nobody listens on them.
//!
//! Looking for a free port and letting go of it is a race: between that and the server's bind, or
//! while a killed server is down, another test or an outgoing connection may take it. So the port
//! is kept bound by a socket that never listens. The socket was bound exclusively, so nobody else
//! gets the port by chance; it is then made shareable, so that a server that asks for the port by
//! number and allows sharing (as Go's and tokio's listeners do) can listen on it.

use std::{io, net::Ipv4Addr};

use tokio::net::TcpSocket;

/// A loopback port reserved for a server; free again when dropped.
#[derive(Debug)]
pub struct ReservedPort {
    number: u16,
    _socket: TcpSocket,
}

impl ReservedPort {
    /// Reserves a port that nobody uses.
    pub fn reserve() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        socket.set_reuseaddr(true)?;
        Ok(Self {
            number: socket.local_addr()?.port(),
            _socket: socket,
        })
    }

    /// The port's number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[test]
    fn a_server_can_listen_on_a_reserved_port_again_and_again() {
        let port = ReservedPort::reserve().unwrap();
        for _ in 0..3 {
            assert!(TcpStream::connect(("127.0.0.1", port.number())).is_err());
            let server = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
            TcpStream::connect(("127.0.0.1", port.number())).unwrap();
            server.accept().unwrap();
        }
    }

    #[test]
    fn no_port_is_given_out_twice() {
        let ports: Vec<_> = (0..200).map(|_| ReservedPort::reserve().unwrap()).collect();
        let numbers: HashSet<_> = ports.iter().map(ReservedPort::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }
}
