//! Activity of one connection: whether it is idle, and since when.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;
use crate::time::Moment;

/// Activity of one connection, shared by its clones.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    /// A request is being answered; there is one at a time.
    answering: AtomicBool,
    /// The connection is meant to last, and so is not cut off.
    lasting: AtomicBool,
    /// When the connection was opened, the last response was ready, or a part of it was written,
    /// in milliseconds of the clock. Received bytes do not count.
    last: AtomicU64,
}

impl Activity {
    /// Of a connection that begins now.
    pub(super) fn new() -> Self {
        let last = AtomicU64::new(clock::now().as_millis());
        let (answering, lasting) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Facts { answering, lasting, last }))
    }

    /// A request has come; its answer is ready when what is returned is dropped.
    pub(super) fn answering(&self) -> Answering {
        self.0.answering.store(true, Ordering::Relaxed);
        Answering(self.clone())
    }

    /// The answer goes on for as long as somebody listens.
    pub(super) fn lasts(&self) {
        self.0.lasting.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lasting(&self) -> bool {
        self.0.lasting.load(Ordering::Relaxed)
    }

    /// When the last thing has happened.
    pub(super) fn last(&self) -> Moment {
        Moment::from_millis(self.0.last.load(Ordering::Relaxed))
    }

    /// Since when it has nothing to say; `None` while it is being answered.
    pub(super) fn idle_since(&self) -> Option<Moment> {
        let is_answered = self.is_lasting() || self.0.answering.load(Ordering::Relaxed);
        (!is_answered).then(|| self.last())
    }

    fn note(&self) {
        self.0.last.store(clock::now().as_millis(), Ordering::Relaxed);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(super) struct Answering(Activity);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.0.answering.store(false, Ordering::Relaxed);
        self.0.note();
    }
}

/// A connection that notes when something of an answer was taken.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S> Watched<S> {
    pub(super) const fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity }
    }

    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.note();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
