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
pub(super) struct ConnectionActivity(Arc<ActivityState>);

#[derive(Debug)]
struct ActivityState {
    /// A request is in progress. HTTP/1.1 has one request at a time per connection.
    answering: AtomicBool,
    /// The connection is an event stream, which has no maximum duration.
    streaming: AtomicBool,
    /// When the connection was opened, the last response was ready, or a part of it was written,
    /// in milliseconds of the clock. Received bytes do not count.
    last: AtomicU64,
}

impl ConnectionActivity {
    /// The activity of a new connection.
    pub(super) fn new() -> Self {
        let last = AtomicU64::new(clock::now().as_millis());
        let (answering, streaming) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(ActivityState { answering, streaming, last }))
    }

    /// Marks the begin of a request. Dropping the guard marks its end.
    pub(super) fn begin_request(&self) -> RequestGuard {
        self.0.answering.store(true, Ordering::Relaxed);
        RequestGuard(self.clone())
    }

    /// Marks the connection as an event stream.
    pub(super) fn mark_streaming(&self) {
        self.0.streaming.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_streaming(&self) -> bool {
        self.0.streaming.load(Ordering::Relaxed)
    }

    /// The moment of the last activity.
    pub(super) fn last_activity(&self) -> Moment {
        Moment::from_millis(self.0.last.load(Ordering::Relaxed))
    }

    /// Since when the connection is idle; `None` while a request is in progress.
    pub(super) fn idle_since(&self) -> Option<Moment> {
        let is_busy = self.is_streaming() || self.0.answering.load(Ordering::Relaxed);
        (!is_busy).then(|| self.last_activity())
    }

    fn record(&self) {
        self.0.last.store(clock::now().as_millis(), Ordering::Relaxed);
    }
}

/// Marks a request as in progress until it is dropped.
#[derive(Debug)]
pub(super) struct RequestGuard(ConnectionActivity);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.0.answering.store(false, Ordering::Relaxed);
        self.0.record();
    }
}

/// A stream that records when bytes of a response were written.
#[derive(Debug)]
pub(super) struct TrackedStream<S> {
    stream: S,
    activity: ConnectionActivity,
}

impl<S> TrackedStream<S> {
    pub(super) const fn new(stream: S, activity: ConnectionActivity) -> Self {
        Self { stream, activity }
    }

    fn record_write(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.activity.record();
        }
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.record_write(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.record_write(written)
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
