//! Limits how many bytes are read from a connection, below TLS and HTTP.
//!
//! The HTTP library reads and parses without yielding for as long as bytes are available: an endless series of
//! interim responses (RFC 9110, section 15.2) would block the thread for all other tasks, and no timeout would fire.
//! Bytes are therefore returned in small parts with pauses between them, and their number is bounded.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The maximum number of bytes that TLS, headers and framing add to a body. Certificate chains have several KiB.
const OVERHEAD: usize = 256 << 10;
/// The maximum number of bytes that one read returns.
const MAX_READ: usize = 16 << 10;
/// After this number of bytes, the task yields to others and to timers.
const YIELD_AFTER: usize = 64 << 10;

/// A stream from which a bounded number of bytes is read.
#[derive(Debug)]
pub(crate) struct BoundedStream<S> {
    stream: S,
    bound: usize,
    remaining: usize,
    read_since_yield: usize,
}

/// The server sent more than the limit.
#[derive(Debug, thiserror::Error)]
#[error("the server sent more than {0} bytes, the limit for one request")]
pub(crate) struct TooMuch(usize);

impl<S> BoundedStream<S> {
    /// A stream for a response with a body of up to `max_body` bytes.
    pub(crate) const fn new(stream: S, max_body: usize) -> Self {
        let bound = max_body.saturating_add(OVERHEAD);
        Self { stream, bound, remaining: bound, read_since_yield: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = MAX_READ.min(self.remaining).min(buf.remaining());
        if self.remaining == 0 {
            return Poll::Ready(Err(io::Error::other(TooMuch(self.bound))));
        }
        if self.read_since_yield >= YIELD_AFTER {
            self.read_since_yield = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.remaining -= read;
        self.read_since_yield += read;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, repeat};

    use super::*;

    #[tokio::test]
    async fn a_stream_is_read_only_up_to_its_bound() {
        let mut stream = BoundedStream::new(repeat(b'x'), 100);
        let mut read = Vec::new();
        let error = stream.read_to_end(&mut read).await.expect_err("an endless stream");
        assert_eq!(read.len(), OVERHEAD + 100);
        assert!(error.to_string().contains("more than 262244 bytes"), "{error}");
    }

    #[test]
    fn a_stream_that_always_has_bytes_pauses() {
        let mut stream = BoundedStream::new(repeat(b'x'), 0);
        let mut cx = Context::from_waker(Waker::noop());
        let mut space = vec![0; 1 << 20];
        let mut polls = 0;
        loop {
            let mut buf = ReadBuf::new(&mut space);
            if Pin::new(&mut stream).poll_read(&mut cx, &mut buf).is_pending() {
                break;
            }
            assert!(buf.filled().len() <= MAX_READ);
            polls += 1;
        }
        assert_eq!(polls, YIELD_AFTER / MAX_READ);
    }
}
