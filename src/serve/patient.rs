//! A stream whose other end must take what it is sent: one that takes nothing
//! for too long would hold the memory of its answer for ever. It also notes
//! that the connection broke: hyper takes a reset between two requests for an
//! orderly end, and yet the last answer may have gone with it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Whether a connection broke.
#[derive(Debug, Clone, Default)]
pub(super) struct Broken(Arc<AtomicBool>);

/// Fails a write that gets nowhere for the length of its patience.
pub(super) struct Patient<S> {
    stream: S,
    broken: Broken,
    patience: Duration,
    /// While a write waits.
    ends: Option<Pin<Box<Sleep>>>,
}

impl Broken {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn learn<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        // Many a TLS client says no goodbye: its end is an end all the same.
        if let Poll::Ready(Err(error)) = &result
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            self.0.store(true, Ordering::Release);
        }
        result
    }
}

impl<S> Patient<S> {
    /// `broken` learns that reading or writing failed.
    pub(super) fn new(stream: S, patience: Duration, broken: Broken) -> Self {
        Self { stream, broken, patience, ends: None }
    }

    fn judge<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.ends = None;
            return self.broken.learn(written);
        }
        let patience = self.patience;
        let ends = self.ends.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        match ends.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        self.broken.learn(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, from);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, from);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.judge(shut, context)
    }
}
