//! The way of one process to the store, on which everything goes wrong.
//!
//! Owns: carrying out the fate of each request, and the life of a process: it can be paused, so that it neither
//! sends nor hears anything, and it can die, which is never to send or hear anything again. A write is
//! under way in a task of its own: it lands although its process gave it up, or died.
//! Does not own the choice of a fate (`weather`), nor the effect of a request (`store`).

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::clock::SkewedClock;
use super::store::{World, meta, refused};
use super::weather::{Answer, Crash, Fate, Status, Weather};

/// One process, as the world sees it.
#[derive(Debug)]
pub(super) struct Life {
    pub process: u64,
    pub clock: SkewedClock,
    pub death: CancellationToken,
    paused_until: Mutex<Instant>,
    asked: Mutex<HashMap<(&'static str, Path), u64>>,
    spared: AtomicBool,
}

impl Life {
    pub(super) fn new(process: u64, clock: SkewedClock) -> Arc<Self> {
        Arc::new(Self {
            process,
            clock,
            death: CancellationToken::new(),
            paused_until: Mutex::new(Instant::now()),
            asked: Mutex::default(),
            spared: AtomicBool::default(),
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.death.is_cancelled()
    }

    /// It does not die.
    pub(super) fn spare(&self) {
        self.spared.store(true, Ordering::SeqCst);
    }

    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        let mut paused = self.paused_until.lock().unwrap();
        *paused = until.max(*paused);
    }

    /// Nothing gets past here while the process is paused, or when it is dead.
    async fn gate(&self) {
        loop {
            if self.is_dead() {
                std::future::pending::<()>().await;
            }
            let until = *self.paused_until.lock().unwrap();
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    async fn die(&self, world: &World) {
        if !self.is_dead() {
            world.count("crash");
            world.note(|| format!("p{} DIES", self.process));
            self.death.cancel();
        }
        std::future::pending().await
    }
}

/// The store as one process sees it.
#[derive(Clone)]
pub(super) struct Wire {
    world: Arc<World>,
    life: Arc<Life>,
    weather: Arc<Weather>,
}

/// A request under way.
struct Under(Arc<World>);

impl Under {
    fn way(world: &Arc<World>) -> Self {
        world.state().in_flight += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for Under {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
    }
}

impl Wire {
    pub(super) fn new(world: &Arc<World>, life: &Arc<Life>, weather: &Arc<Weather>) -> Self {
        Self {
            world: Arc::clone(world),
            life: Arc::clone(life),
            weather: Arc::clone(weather),
        }
    }

    /// The fate of the next request of this kind to this key, and what happens before it is sent.
    async fn begin(&self, kind: &'static str, path: &Path) -> Fate {
        let nth = {
            let mut asked = self.life.asked.lock().unwrap();
            let nth = asked.entry((kind, path.clone())).or_default();
            *nth += 1;
            *nth
        };
        let (process, key) = (self.life.process, path.as_ref());
        let mut fate = self.weather.fate(process, kind, key, nth);
        if self.life.spared.load(Ordering::SeqCst) {
            fate.crash = None;
        }
        if let Some(by) = fate.jump {
            self.world.count("clock jump");
            self.life.clock.jump(by);
        }
        if let Some(time) = fate.pause_before {
            self.world.count("pause");
            self.life.pause(time);
        }
        self.life.gate().await;
        if fate.crash == Some(Crash::Before) {
            self.life.die(&self.world).await;
        }
        fate
    }

    async fn end(&self, fate: &Fate) {
        if fate.crash == Some(Crash::After) {
            self.life.die(&self.world).await;
        }
        if let Some(time) = fate.pause_after {
            self.world.count("pause");
            self.life.pause(time);
        }
        self.life.gate().await;
    }

    /// A read: it has no effect, so nobody cares about it once its process gave it up.
    async fn read<T>(
        &self,
        kind: &'static str,
        path: &Path,
        effect: impl FnOnce(&World) -> Result<T>,
    ) -> Result<T> {
        let fate = self.begin(kind, path).await;
        sleep(fate.there).await;
        if fate.crash == Some(Crash::During) {
            self.life.die(&self.world).await;
        }
        let result = match fate.answer {
            Answer::Failed(status) | Answer::Lost(status) => {
                self.world.count("failed read");
                Err(failure(status, path, None))
            }
            _ => effect(&self.world),
        };
        sleep(fate.back).await;
        self.end(&fate).await;
        result
    }

    /// A write, which lands whatever becomes of its process.
    async fn write<T: Send + 'static>(
        &self,
        kind: &'static str,
        path: &Path,
        mode: Option<PutMode>,
        effect: impl Fn(&World) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let fate = self.begin(kind, path).await;
        let (tell, answer) = oneshot::channel();
        let (world, life, path) = (
            Arc::clone(&self.world),
            Arc::clone(&self.life),
            path.clone(),
        );
        let Fate {
            there,
            back,
            survives,
            ..
        } = fate;
        let what = fate.answer;
        let under_way = Under::way(&world);
        tokio::spawn(async move {
            let _under_way = under_way;
            sleep(there).await;
            if life.is_dead() {
                if !survives {
                    return;
                }
                world.count("landed after its process died");
            }
            let fails = |status| failure(status, &path, mode.as_ref());
            match what {
                Answer::Fine => {
                    let result = effect(&world);
                    sleep(back).await;
                    let _ = tell.send(result);
                }
                Answer::Failed(status) => {
                    world.count(match status {
                        Status::Broken => "500 without effect",
                        Status::Throttled => "429 without effect",
                        Status::Refused => "false 409/412",
                    });
                    sleep(back).await;
                    let _ = tell.send(Err(fails(status)));
                }
                Answer::Lost(status) => {
                    world.count(match status {
                        Status::Refused => "409/412 although it took effect",
                        Status::Broken | Status::Throttled => "lost answer",
                    });
                    let _ = effect(&world);
                    sleep(back).await;
                    let _ = tell.send(Err(fails(status)));
                }
                Answer::Late(delay) => {
                    world.count("late request");
                    sleep(back).await;
                    let _ = tell.send(Err(fails(Status::Broken)));
                    sleep(delay).await;
                    let _ = effect(&world);
                }
                Answer::Twice(delay) => {
                    world.count("request that lands twice");
                    let result = effect(&world);
                    sleep(back).await;
                    let _ = tell.send(result);
                    sleep(delay).await;
                    let _ = effect(&world);
                }
            }
        });
        if fate.crash == Some(Crash::During) {
            self.life.die(&self.world).await;
        }
        let Ok(result) = answer.await else {
            // It was dropped with its process.
            return std::future::pending().await;
        };
        self.end(&fate).await;
        result
    }

    fn pages(
        &self,
        prefix: Option<&Path>,
        offset: Option<Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.cloned().unwrap_or_default();
        let wire = self.clone();
        stream::try_unfold(Some(offset), move |at| {
            let (wire, prefix) = (wire.clone(), prefix.clone());
            async move {
                let Some(after) = at else {
                    return Ok(None);
                };
                let process = wire.life.process;
                let page = wire
                    .read("list", &prefix, |world| {
                        Ok(world.page(process, &prefix, after.as_ref()))
                    })
                    .await?;
                let full = page.len() == wire.world.weather.page;
                let next = full.then(|| page.last().map(|last| last.location.clone()));
                Ok::<_, Error>(Some((stream::iter(page.into_iter().map(Ok)), next)))
            }
        })
        .try_flatten()
        .boxed()
    }
}

fn failure(status: Status, path: &Path, mode: Option<&PutMode>) -> Error {
    match (status, mode) {
        (Status::Refused, Some(mode)) => refused(path, mode),
        _ => Error::Generic {
            store: "simulation",
            source: format!("{status:?}").into(),
        },
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wire({})", self.life.process)
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the wire of process {}", self.life.process)
    }
}

#[async_trait]
impl ObjectStore for Wire {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let bytes = bytes::Bytes::from(payload);
        let (process, path, mode) = (self.life.process, location.clone(), opts.mode);
        let kind = match mode {
            PutMode::Overwrite => "put",
            PutMode::Create => "create",
            PutMode::Update(_) => "replace",
        };
        let effect = {
            let mode = mode.clone();
            move |world: &World| world.put(process, &path, bytes.clone(), &mode)
        };
        let etag = self.write(kind, location, Some(mode), effect).await?;
        Ok(PutResult {
            e_tag: Some(etag),
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(unused())
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let process = self.life.process;
        let found = self
            .read("get", location, |world| Ok(world.get(process, location)))
            .await?;
        let Some(object) = found else {
            return Err(Error::NotFound {
                path: location.to_string(),
                source: "404".into(),
            });
        };
        let meta = meta(location, &object);
        options.check_preconditions(&meta)?;
        let range = 0..meta.size;
        let body = stream::once(std::future::ready(Ok(object.bytes)));
        Ok(GetResult {
            payload: GetResultPayload::Stream(body.boxed()),
            meta,
            range,
            attributes: Default::default(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let wire = self.clone();
        locations
            .map(move |location| {
                let wire = wire.clone();
                async move {
                    let location = location?;
                    let (process, path) = (wire.life.process, location.clone());
                    let effect = move |world: &World| {
                        world.delete(process, &path);
                        Ok(())
                    };
                    wire.write("delete", &location, None, effect).await?;
                    Ok(location)
                }
            })
            // As many at once as a client sends; each takes effect on its own.
            .buffered(8)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.pages(prefix, Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(unused())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(unused())
    }
}

fn unused() -> Error {
    Error::NotImplemented {
        operation: "this".to_owned(),
        implementer: "the simulation".to_owned(),
    }
}
