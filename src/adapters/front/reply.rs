//! The body of a reply: it leaves in pieces, so that no more of it waits in the connection than its client has asked
//! for; it is paid for until it has left; and while it has not, the connection says so.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::budget::{Budget, Held, Share};
use crate::adapters::places::Asked;

/// The longest piece.
const PIECE_BYTES: usize = 16 * 1024;

/// A reply's body; one of bytes where the front had to answer itself.
pub struct Reply<B> {
    inner: Option<B>,
    unsent: Bytes,
    paid: Option<Held>,
    budget: Budget,
    _asked: Arc<Asked>,
}

impl<B> Reply<B> {
    pub(super) fn new(inner: B, budget: Budget, asked: Arc<Asked>) -> Self {
        Self {
            inner: Some(inner),
            unsent: Bytes::new(),
            paid: None,
            budget,
            _asked: asked,
        }
    }

    pub(super) fn of_bytes(bytes: Bytes, budget: Budget, asked: Arc<Asked>) -> Self {
        Self {
            inner: None,
            unsent: bytes,
            paid: None,
            budget,
            _asked: asked,
        }
    }

    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.unsent.split_to(self.unsent.len().min(PIECE_BYTES));
        if self.unsent.is_empty() {
            self.paid = None;
        }
        Frame::data(piece)
    }
}

impl<B> Body for Reply<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if !this.unsent.is_empty() {
            return Poll::Ready(Some(Ok(this.piece())));
        }
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        match std::task::ready!(Pin::new(inner).poll_frame(context)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) if data.len() > PIECE_BYTES => {
                    this.paid = Some(this.budget.take_anyway(Share::Out, data.len()));
                    this.unsent = data;
                    this.piece()
                }
                Ok(data) => Frame::data(data),
                Err(frame) => frame,
            }))),
            other => Poll::Ready(other),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.unsent.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref().map(Body::size_hint).unwrap_or_default();
        let unsent = self.unsent.len() as u64;
        if self.inner.is_none() {
            return SizeHint::with_exact(unsent);
        }
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + unsent);
        }
        hint.set_lower(inner.lower() + unsent);
        hint
    }
}
