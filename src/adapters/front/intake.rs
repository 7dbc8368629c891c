//! Bodies: read within a time, a length and the budget, and handed on whole.
//!
//! What comes in small pieces is copied together, so that a piece of a byte does not keep the buffer it was read into.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use super::budget::{Arriving, Budget, Held, SHORT_BYTES, Share};
use super::serve::RequestConduct;
use crate::adapters::places::LongArriving;

/// What part of the room for long messages one connection may have in those that are coming in.
const CONNECTION_SHARE: usize = 4;

/// How much is copied into one piece.
const SEGMENT_BYTES: usize = 64 * 1024;

/// How the length of a message is told before it comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// Not in the body.
    None,
    /// By gRPC's five bytes before it.
    Grpc,
}

/// gRPC's prefix: whether it is compressed, and the length.
pub(super) const GRPC_PREFIX_BYTES: usize = 5;

/// The bounds of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyBounds {
    /// How long it may be, gRPC's prefix not counted.
    pub bytes_max: usize,
    /// How long it may take.
    pub timeout: Duration,
    /// Where its length is told.
    pub framing: Framing,
    /// What it is paid for from.
    pub share: Share,
}

/// Why a body was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unread {
    /// It is longer than it may be.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// It did not come in time.
    #[error("it did not arrive in time")]
    Late,
    /// The process has no room for it.
    #[error("there is no room for it")]
    NoRoom,
    /// The connection or the stream broke.
    #[error("it could not be read")]
    Broken,
}

/// The longest message of a probe, which names a service.
pub const PROBE_BYTES_MAX: usize = 1024;

/// Reads a request's body. What it is handed on with pays for it.
///
/// # Errors
/// [`Unread`]; nothing of it is kept then.
pub async fn whole<B>(
    request: Request<B>,
    bounds: BodyBounds,
    budget: &Budget,
) -> Result<(Request<Segments>, Held), Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (parts, body) = request.into_parts();
    let conduct = parts.extensions.get::<RequestConduct>().cloned();
    let (body, held) = collect(body, bounds, budget, conduct.as_ref()).await?;
    Ok((Request::from_parts(parts, body), held))
}

/// Reads a body. It is paid for by what is returned beside it.
///
/// # Errors
/// [`Unread`]; nothing of it is kept then.
pub async fn collect<B>(
    mut body: B,
    bounds: BodyBounds,
    budget: &Budget,
    conduct: Option<&RequestConduct>,
) -> Result<(Segments, Held), Unread>
where
    B: Body<Data = Bytes> + Unpin,
{
    let prefix = match bounds.framing {
        Framing::None => 0,
        Framing::Grpc => GRPC_PREFIX_BYTES,
    };
    let arriving = budget.arriving(bounds.share).map_err(|_| Unread::NoRoom)?;
    let told = body.size_hint().exact().map(|told| told as usize);
    let mut expected = Expected::new(&arriving, budget, conduct);
    let read = async {
        let mut segments = Segments::default();
        told.map_or(Ok(()), |told| {
            expected.bytes(told, bounds.bytes_max + prefix)
        })?;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else {
                continue; // trailers
            };
            if segments.bytes + data.len() > bounds.bytes_max.saturating_add(prefix) {
                return Err(Unread::TooLong(bounds.bytes_max));
            }
            arriving.grow(data.len()).map_err(|_| Unread::NoRoom)?;
            segments.push(&data);
            if bounds.framing == Framing::Grpc
                && let Some(told) = segments.told()
            {
                expected.bytes(told, bounds.bytes_max)?;
            }
        }
        Ok(segments)
    };
    let segments = tokio::select! {
        biased;
        read = tokio::time::timeout(bounds.timeout, read) => read.map_err(|_| Unread::Late)??,
        () = arriving.evicted() => return Err(Unread::NoRoom),
    };
    let held = arriving.whole().map_err(|_| Unread::NoRoom)?;
    if let Some(conduct) = conduct {
        conduct.is_whole();
    }
    Ok((segments, held))
}

/// How long a message says it is.
struct Expected<'a> {
    arriving: &'a Arriving,
    of_connection_max: usize,
    conduct: Option<&'a RequestConduct>,
    /// What the connection has with it in messages that are coming in.
    counted: Option<LongArriving>,
    is_told: bool,
}

impl<'a> Expected<'a> {
    fn new(arriving: &'a Arriving, budget: &Budget, conduct: Option<&'a RequestConduct>) -> Self {
        Self {
            arriving,
            of_connection_max: budget.long_max() / CONNECTION_SHARE,
            conduct,
            counted: None,
            is_told: false,
        }
    }

    /// It has said so, once or more often. A connection has only a part of what there is for long ones, but one of
    /// them.
    fn bytes(&mut self, told: usize, bytes_max: usize) -> Result<(), Unread> {
        if told > bytes_max {
            return Err(Unread::TooLong(bytes_max));
        }
        if std::mem::replace(&mut self.is_told, true) || told <= SHORT_BYTES {
            return Ok(());
        }
        if let Some(conduct) = self.conduct {
            let counted = conduct.long_arrives(told, self.of_connection_max);
            self.counted = Some(counted.ok_or(Unread::NoRoom)?);
        }
        self.arriving.expect(told).map_err(|_| Unread::NoRoom)
    }
}

/// What was read, in pieces of one length: a message that grows is not moved about, and holds little more than it has.
#[derive(Debug, Default)]
pub struct Segments {
    full: VecDeque<Bytes>,
    last: BytesMut,
    bytes: usize,
}

impl Segments {
    /// Adds what came.
    pub fn push(&mut self, mut data: &[u8]) {
        self.bytes += data.len();
        while !data.is_empty() {
            let room = SEGMENT_BYTES - self.last.len();
            let (now, later) = data.split_at(room.min(data.len()));
            self.make_room(now.len());
            self.last.extend_from_slice(now);
            data = later;
            if self.last.len() == SEGMENT_BYTES {
                self.full.push_back(std::mem::take(&mut self.last).freeze());
            }
        }
    }

    /// In few steps, the last of which is as long as a piece gets: doubling would leave half of it unused.
    fn make_room(&mut self, bytes: usize) {
        let wanted = self.last.len() + bytes;
        if wanted > self.last.capacity() {
            let steps = [1024, 8 * 1024, SEGMENT_BYTES];
            let capacity = steps.into_iter().find(|step| wanted <= *step);
            let mut longer = BytesMut::with_capacity(capacity.unwrap_or(SEGMENT_BYTES));
            longer.extend_from_slice(&self.last);
            self.last = longer;
        }
    }

    /// The length that gRPC's prefix tells, once it has come.
    fn told(&self) -> Option<usize> {
        let first: &[u8] = self.full.front().map_or(&self.last, |first| first);
        let length = first.get(1..GRPC_PREFIX_BYTES)?;
        Some(u32::from_be_bytes(length.try_into().ok()?) as usize)
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// All of it in one piece.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.full.is_empty() {
            return self.last.freeze();
        }
        let mut whole = BytesMut::with_capacity(self.bytes);
        while let Some(segment) = self.full.pop_front() {
            whole.extend_from_slice(&segment);
        }
        whole.extend_from_slice(&self.last);
        whole.freeze()
    }
}

impl Body for Segments {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.full.pop_front() {
            None if self.last.is_empty() => return Poll::Ready(None),
            None => std::mem::take(&mut self.last).freeze(),
            Some(segment) => segment,
        };
        self.bytes -= next.len();
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use http_body_util::StreamBody;

    use super::*;

    const BOUNDS: BodyBounds = BodyBounds {
        bytes_max: 200_000,
        timeout: Duration::from_secs(10),
        framing: Framing::None,
        share: Share::Short,
    };

    type Piece = Result<Frame<Bytes>, Infallible>;

    fn body(pieces: Vec<Bytes>) -> impl Body<Data = Bytes> + Unpin {
        let pieces = pieces
            .into_iter()
            .map(|piece| Piece::Ok(Frame::data(piece)));
        StreamBody::new(stream::iter(pieces))
    }

    fn endless(pieces: Vec<Bytes>) -> impl Body<Data = Bytes> + Unpin {
        let pieces = pieces
            .into_iter()
            .map(|piece| Piece::Ok(Frame::data(piece)));
        StreamBody::new(stream::iter(pieces).chain(stream::pending()))
    }

    fn pieces(bytes: usize, each: usize) -> Vec<Bytes> {
        let whole: Bytes = (0..bytes).map(|at| at as u8).collect();
        whole.chunks(each).map(Bytes::copy_from_slice).collect()
    }

    #[tokio::test]
    async fn a_body_is_whole_and_paid_for() {
        let budget = Budget::new(10_000_000);
        for each in [1000, 65_536, 150_000] {
            let (read, held) = collect(body(pieces(150_000, each)), BOUNDS, &budget, None)
                .await
                .unwrap();
            assert_eq!(read.len(), 150_000);
            assert!(budget.used().1 >= 150_000 && held.bytes() >= 150_000);
            assert!(
                read.into_bytes()
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| at as u8 == *byte)
            );
            drop(held);
            assert_eq!(budget.used(), (0, 0));
        }
        let (read, _held) = collect(body(pieces(150_000, 999)), BOUNDS, &budget, None)
            .await
            .unwrap();
        let read = read.collect().await.unwrap().to_bytes();
        assert!(read.iter().enumerate().all(|(at, byte)| at as u8 == *byte));
        let (none, _held) = collect(body(vec![]), BOUNDS, &budget, None).await.unwrap();
        assert!(none.is_empty() && none.into_bytes().is_empty());
    }

    #[tokio::test]
    async fn what_is_too_long_is_not_read_to_its_end() {
        let budget = Budget::new(10_000_000);
        let long = endless(pieces(200_001, 1000));
        assert_eq!(
            collect(long, BOUNDS, &budget, None).await.err(),
            Some(Unread::TooLong(200_000))
        );
        let grpc = BodyBounds {
            framing: Framing::Grpc,
            ..BOUNDS
        };
        // It says so in its first bytes, one by one.
        let told = [0, 0, 3, 13, 65].map(|byte| Bytes::copy_from_slice(&[byte]));
        assert_eq!(
            collect(endless(told.to_vec()), grpc, &budget, None)
                .await
                .err(),
            Some(Unread::TooLong(200_000))
        );
        assert_eq!(budget.used(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_is_not_waited_for() {
        let budget = Budget::new(10_000_000);
        let began = tokio::time::Instant::now();
        let stuck = endless(pieces(1000, 100));
        assert_eq!(
            collect(stuck, BOUNDS, &budget, None).await.err(),
            Some(Unread::Late)
        );
        assert_eq!((began.elapsed(), budget.used()), (BOUNDS.timeout, (0, 0)));
    }

    #[tokio::test]
    async fn whoever_is_stuck_gives_way_to_whoever_is_not() {
        let budget = Budget::new(16 * 15_000);
        let stuck = tokio::spawn({
            let budget = budget.clone();
            async move { collect(endless(pieces(20_000, 1000)), BOUNDS, &budget, None).await }
        });
        while budget.used().1 < 20_000 {
            tokio::task::yield_now().await;
        }
        let honest = collect(body(pieces(20_000, 1000)), BOUNDS, &budget, None).await;
        assert!(honest.is_ok());
        assert_eq!(stuck.await.unwrap().err(), Some(Unread::NoRoom));
    }
}
