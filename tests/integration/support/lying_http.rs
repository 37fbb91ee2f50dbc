//! An HTTP connection whose requests get lost, refused or left undone, and whose answers are late, cut off or
//! wrong, between `object_store`'s client and a real server. The client's own retries happen above it, so it
//! produces the false conflicts that those retries produce.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::StreamBody;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lie {
    /// Nothing: the truth.
    Truth,
    /// Done, and the connection breaks in a way that the client takes for "not sent".
    DoneAndBroken,
    /// Done, and the connection breaks before an answer.
    DoneAndSilent,
    /// Done, and answered with this status.
    DoneAnd(u16),
    /// Not done, and answered with this status.
    NotDoneBut(u16),
    /// Not done: there was no connection.
    NotDone,
    /// Not done, as far as is known: there was no answer in time.
    TimedOut,
    /// Done, after a while.
    Late,
    /// The connection breaks in the middle of the answer.
    CutOff,
    /// The answer ends in the middle, as if it were complete.
    TooShort,
    /// One bit of the answer is another.
    Garbled,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    ConditionalWrite,
    Write,
    Read,
    /// A read of an object that is protected by a checksum.
    CheckedRead,
    List,
    Delete,
}

impl Kind {
    fn of(request: &HttpRequest) -> Self {
        let (method, headers) = (request.method().as_str(), request.headers());
        let query = request.uri().query().unwrap_or_default();
        let conditions = ["if-match", "if-none-match", "x-goog-if-generation-match"];
        match method {
            "PUT" if conditions.iter().any(|name| headers.contains_key(*name)) => {
                Self::ConditionalWrite
            }
            "DELETE" => Self::Delete,
            // In bulk, on S3 and Azure.
            "POST" if query.contains("delete") || query.contains("comp=batch") => Self::Delete,
            "GET" if query.contains("list-type=2") || query.contains("comp=list") => Self::List,
            "GET" if !is_superfile(request.uri().path()) => Self::CheckedRead,
            "GET" | "HEAD" => Self::Read,
            _ => Self::Write,
        }
    }

    /// The lies that can be told about such a request.
    fn lies(self) -> &'static [Lie] {
        use Lie::{
            CutOff, DoneAnd, DoneAndBroken, DoneAndSilent, Garbled, Late, NotDone, NotDoneBut,
            TooShort,
        };
        match self {
            Self::ConditionalWrite => &[
                DoneAndBroken,
                DoneAndSilent,
                DoneAnd(409),
                DoneAnd(412),
                DoneAnd(500),
                DoneAnd(503),
                NotDone,
                NotDoneBut(409),
                NotDoneBut(412),
                NotDoneBut(429),
                NotDoneBut(503),
                Late,
            ],
            Self::Write => &[
                DoneAndBroken,
                DoneAndSilent,
                DoneAnd(500),
                NotDone,
                NotDoneBut(429),
                NotDoneBut(503),
                Late,
            ],
            Self::Delete => &[
                DoneAndSilent,
                DoneAnd(503),
                NotDone,
                NotDoneBut(429),
                NotDoneBut(500),
            ],
            Self::Read => &[
                NotDone,
                NotDoneBut(429),
                NotDoneBut(500),
                NotDoneBut(503),
                Late,
                CutOff,
                TooShort,
            ],
            Self::CheckedRead => &[
                NotDone,
                NotDoneBut(429),
                NotDoneBut(503),
                Late,
                CutOff,
                TooShort,
                Garbled,
            ],
            Self::List => &[NotDone, NotDoneBut(503), Late, CutOff, TooShort],
        }
    }
}

/// No hash of a superfile is kept.
fn is_superfile(path: &str) -> bool {
    path.ends_with(".parquet") || path.ends_with("%2Eparquet")
}

/// Who decides what happens.
#[derive(Debug)]
enum Liar {
    /// These, to the conditional writes, one after the other, over and over.
    InTurn(Box<[Lie]>, usize),
    /// One in so many requests of every kind, at random, meets one of the lies that can be told about it.
    AtRandom(Box<StdRng>, u32),
    /// The same to every request.
    Always(Lie),
}

/// Makes connections that lie.
#[derive(Clone, Debug)]
pub(crate) struct LyingConnector {
    honest: Arc<dyn HttpConnector>,
    liar: Arc<Mutex<Liar>>,
    told: Arc<Mutex<BTreeMap<(Kind, Lie), usize>>>,
}

impl LyingConnector {
    fn new(liar: Liar) -> Self {
        Self {
            honest: Arc::new(ReqwestConnector::default()),
            liar: Arc::new(Mutex::new(liar)),
            told: Arc::default(),
        }
    }

    /// Tells these lies about the conditional writes, one after the other, over and over.
    pub(crate) fn in_turn(lies: &[Lie]) -> Self {
        Self::new(Liar::InTurn(lies.into(), 0))
    }

    /// Lies about one in `every` requests, of all kinds, as `seed` has it.
    pub(crate) fn at_random(seed: u64, every: u32) -> Self {
        let rng = Box::new(StdRng::seed_from_u64(seed));
        Self::new(Liar::AtRandom(rng, every))
    }

    /// Tells this lie about every request.
    pub(crate) fn always(lie: Lie) -> Self {
        Self::new(Liar::Always(lie))
    }

    /// Lies about connections that `honest` makes.
    pub(crate) fn over(mut self, honest: impl HttpConnector) -> Self {
        self.honest = Arc::new(honest);
        self
    }

    /// How many requests of this kind came by.
    pub(crate) fn requests(&self, kind: Kind) -> usize {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter(|((of, _), _)| *of == kind)
            .map(|(_, times)| times)
            .sum()
    }

    /// How many requests of any kind came by.
    pub(crate) fn all_requests(&self) -> usize {
        self.told.lock().unwrap().values().sum()
    }

    /// How many requests of which kind met which lie.
    pub(crate) fn told(&self) -> BTreeMap<(Kind, Lie), usize> {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter(|((_, lie), _)| *lie != Lie::Truth)
            .map(|(what, times)| (*what, *times))
            .collect()
    }

    fn next(&self, kind: Kind) -> Lie {
        let lie = match &mut *self.liar.lock().unwrap() {
            Liar::InTurn(lies, told) if kind == Kind::ConditionalWrite => {
                *told += 1;
                lies[(*told - 1) % lies.len()]
            }
            Liar::InTurn(..) => Lie::Truth,
            Liar::AtRandom(rng, every) => match rng.random_ratio(1, *every) {
                true => *kind.lies().choose(rng).unwrap(),
                false => Lie::Truth,
            },
            Liar::Always(lie) => *lie,
        };
        *self.told.lock().unwrap().entry((kind, lie)).or_default() += 1;
        lie
    }
}

impl HttpConnector for LyingConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(LyingService {
            honest: self.honest.connect(options)?,
            connector: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct LyingService {
    honest: HttpClient,
    connector: LyingConnector,
}

fn broken(kind: HttpErrorKind) -> HttpError {
    HttpError::new(kind, io::Error::from(io::ErrorKind::ConnectionReset))
}

/// An answer that no server gave.
pub(crate) fn answer(status: u16) -> HttpResponse {
    let mut answer = HttpResponse::new(Bytes::new().into());
    *answer.status_mut() = status.try_into().unwrap();
    answer
}

/// The first half of a body, and then, perhaps, an error.
fn half(body: &Bytes, and_then: Option<HttpError>) -> HttpResponseBody {
    let first = Frame::data(body.slice(..body.len() / 2));
    let frames = [Ok(first)].into_iter().chain(and_then.map(Err));
    HttpResponseBody::new(StreamBody::new(futures::stream::iter(
        frames.collect::<Vec<_>>(),
    )))
}

#[async_trait]
impl HttpService for LyingService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let lie = self.connector.next(Kind::of(&request));
        match lie {
            Lie::Truth => self.honest.execute(request).await,
            Lie::DoneAndBroken => {
                self.honest.execute(request).await?;
                Err(broken(HttpErrorKind::Request))
            }
            Lie::DoneAndSilent => {
                self.honest.execute(request).await?;
                Err(broken(HttpErrorKind::Interrupted))
            }
            Lie::DoneAnd(status) => {
                self.honest.execute(request).await?;
                Ok(answer(status))
            }
            Lie::NotDoneBut(status) => Ok(answer(status)),
            Lie::NotDone => Err(broken(HttpErrorKind::Connect)),
            Lie::TimedOut => Err(HttpError::new(
                HttpErrorKind::Timeout,
                io::Error::from(io::ErrorKind::TimedOut),
            )),
            Lie::Late => {
                tokio::time::sleep(Duration::from_millis(30)).await;
                self.honest.execute(request).await
            }
            Lie::CutOff | Lie::TooShort | Lie::Garbled => {
                let (parts, body) = self.honest.execute(request).await?.into_parts();
                let body = body.bytes().await?;
                let body = match lie {
                    _ if body.is_empty() => body.into(),
                    Lie::CutOff => half(&body, Some(broken(HttpErrorKind::Interrupted))),
                    Lie::TooShort => half(&body, None),
                    _ => {
                        let mut bytes = body.to_vec();
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 1 << (middle % 8);
                        bytes.into()
                    }
                };
                Ok(HttpResponse::from_parts(parts, body))
            }
        }
    }
}
