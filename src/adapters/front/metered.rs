//! The body of a gRPC stream that may stay open: it pays for the message that is coming in, which has its time.
//!
//! What it is not: it bounds no message's length (the decoder does) and keeps none of it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

use super::budget::{Arriving, Budget, NoRoom, Share};
use super::intake::{GRPC_PREFIX_BYTES, Unread};

/// A body with its messages paid for as they come.
pub struct Metered<B> {
    inner: B,
    arriving: std::sync::Arc<Arriving>,
    evicted: BoxFuture<'static, ()>,
    timeout: Duration,
    late: Option<Pin<Box<Sleep>>>,
    message: Message,
}

/// Where in a message the stream is.
#[derive(Default)]
struct Message {
    prefix: [u8; GRPC_PREFIX_BYTES],
    prefix_bytes: usize,
    /// Of its content, still to come.
    rest: usize,
}

impl Message {
    /// Goes on by what came; true when it ends between two messages.
    fn advance(&mut self, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            if self.prefix_bytes < GRPC_PREFIX_BYTES {
                let wanted = (GRPC_PREFIX_BYTES - self.prefix_bytes).min(data.len());
                self.prefix[self.prefix_bytes..][..wanted].copy_from_slice(&data[..wanted]);
                self.prefix_bytes += wanted;
                data = &data[wanted..];
                let [_, length @ ..] = self.prefix;
                self.rest = u32::from_be_bytes(length) as usize;
            } else {
                let part = self.rest.min(data.len());
                self.rest -= part;
                data = &data[part..];
            }
            if self.prefix_bytes == GRPC_PREFIX_BYTES && self.rest == 0 {
                self.prefix_bytes = 0;
            }
        }
        self.prefix_bytes == 0
    }
}

impl<B> Metered<B> {
    /// Pays for it from `budget`; each message may take `timeout`.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn new(inner: B, budget: &Budget, share: Share, timeout: Duration) -> Result<Self, NoRoom> {
        let arriving = std::sync::Arc::new(budget.arriving(share)?);
        let watched = std::sync::Arc::clone(&arriving);
        Ok(Self {
            inner,
            arriving,
            evicted: Box::pin(async move { watched.evicted().await }),
            timeout,
            late: None,
            message: Message::default(),
        })
    }
}

impl<B> Body for Metered<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = Unread;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unread>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(context);
        let Poll::Ready(frame) = polled else {
            if this.evicted.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(Unread::NoRoom)));
            }
            let late = this.late.as_mut();
            if late.is_some_and(|late| late.as_mut().poll(context).is_ready()) {
                return Poll::Ready(Some(Err(Unread::Late)));
            }
            return Poll::Pending;
        };
        let Some(frame) = frame else {
            return Poll::Ready(None);
        };
        let Ok(frame) = frame else {
            return Poll::Ready(Some(Err(Unread::Broken)));
        };
        if let Some(data) = frame.data_ref() {
            if this.arriving.grow(data.len()).is_err() {
                return Poll::Ready(Some(Err(Unread::NoRoom)));
            }
            if this.message.advance(data) {
                this.arriving.emptied();
                this.late = None;
            } else if this.late.is_none() {
                this.late = Some(Box::pin(sleep(this.timeout)));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn stream(pieces: Vec<Vec<u8>>) -> impl Body<Data = Bytes> + Unpin {
        let pieces = pieces.into_iter();
        let pieces = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        StreamBody::new(stream::iter(pieces).chain(stream::pending()))
    }

    #[test]
    fn it_knows_where_messages_end() {
        let message = [0, 0, 0, 0, 2, 7, 7];
        let two = [message, message].concat();
        for cut in 1..two.len() {
            let mut place = Message::default();
            assert_eq!(
                place.advance(&two[..cut]),
                cut % message.len() == 0,
                "{cut}"
            );
            assert!(place.advance(&two[cut..]), "{cut}");
        }
        let mut empty = Message::default();
        assert!(empty.advance(&[0; 10]));
    }

    #[tokio::test(start_paused = true)]
    async fn it_pays_for_what_is_not_whole_and_that_has_its_time() {
        let budget = Budget::new(1_000_000);
        let timeout = Duration::from_secs(10);
        let half = vec![0, 0, 0, 0x40, 0, 1, 2, 3];
        let whole = vec![0, 0, 0, 0, 1, 9];
        let body = stream(vec![whole.clone(), whole, half]);
        let mut body = Metered::new(body, &budget, Share::Inner, timeout).unwrap();
        let empty = budget.used().0;
        for used in [0, 0, 8] {
            body.frame().await.unwrap().unwrap();
            assert_eq!(budget.used().0 - empty, used);
        }
        let began = tokio::time::Instant::now();
        assert_eq!(body.frame().await.unwrap().err(), Some(Unread::Late));
        assert_eq!(began.elapsed(), timeout);
        drop(body);
        assert_eq!(budget.used().0, 0);
    }

    #[tokio::test]
    async fn it_ends_when_it_has_to_give_way() {
        let budget = Budget::new(100_000);
        let half = vec![0, 0, 0, 0x40, 0, 1, 2, 3];
        let timeout = Duration::from_secs(10);
        let mut body = Metered::new(stream(vec![half]), &budget, Share::Inner, timeout).unwrap();
        body.frame().await.unwrap().unwrap();
        let other = budget.arriving(Share::Inner).unwrap();
        other.grow(97_000).unwrap();
        assert_eq!(body.frame().await.unwrap().err(), Some(Unread::NoRoom));
    }
}
