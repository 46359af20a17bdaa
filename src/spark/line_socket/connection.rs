//! A TCP connection that knows how many bytes it has given to its kernel, and
//! that ends with a reset unless it ends in order: a reader that was sent half
//! a line must not take it for a whole one.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A silent client is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_mins(1);

/// Counts what is written; with TLS that is more than the lines.
pub(super) struct Counted {
    stream: TcpStream,
    written: Arc<AtomicU64>,
}

/// What is known of a connection, whatever lies over it.
pub(super) struct Wire {
    /// The same socket.
    socket: OwnedFd,
    inode: u64,
    written: Arc<AtomicU64>,
}

impl Wire {
    /// Prepares an accepted connection; one that takes nothing for `patience`
    /// breaks, even where its cable was cut.
    pub(super) fn of(stream: TcpStream, patience: Duration) -> io::Result<(Counted, Arc<Self>)> {
        stream.set_nodelay(true)?;
        // The kernel takes no more than the 24 days that an int has.
        let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        sockopt::set_tcp_user_timeout(&stream, patience.unsigned_abs())?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEP_ALIVE)?;
        sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        let inode = rustix::fs::fstat(&stream)?.st_ino;
        let socket = stream.as_fd().try_clone_to_owned()?;
        let written = Arc::new(AtomicU64::new(0));
        let wire = Self { socket, inode, written: Arc::clone(&written) };
        Ok((Counted { stream, written }, Arc::new(wire)))
    }

    /// Bytes that the kernel was given.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(super) fn inode(&self) -> u64 {
        self.inode
    }

    /// Whole lines were sent: closing lets the kernel deliver them.
    pub(super) fn end_in_order(&self) {
        // Where it fails, the connection is gone already.
        let _ = sockopt::set_socket_linger(&self.socket, None);
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.written.fetch_add(written as u64, Ordering::AcqRel);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
