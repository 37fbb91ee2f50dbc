//! Ctrl-C.
//!
//! Owns hearing it on a thread of its own: a statement that computes without a pause (a nested-loop join in DataFusion)
//! keeps the thread that runs it, and may keep every worker of the runtime, from noticing anything. The first
//! Ctrl-C cancels what runs, which takes effect where it pauses; the second ends the process with the exit status 130.
//! What a statement has left behind then is undone by the next process that opens the table.
//!
//! A script, a pipe or a command is over with the first one: if what runs does not pause soon, the process ends
//! without it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::progress;

/// The exit status of a process that Ctrl-C ended, by the shells' convention (128 + SIGINT).
pub(super) const INTERRUPTED: u8 = 130;

/// How long what is cancelled may take to pause, and its table to be tidied up.
const PATIENCE: Duration = Duration::from_secs(3);

/// What becomes of a statement that does not pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stubborn {
    /// A person at the prompt is told how to leave.
    Told,
    /// The process ends.
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing runs that could be cancelled.
    Idle,
    Runs(Stubborn),
    /// What ran is to pause. The number tells one Ctrl-C from another.
    Cancelled(u64),
}

/// See the module.
pub(super) struct Interrupts {
    state: Arc<Mutex<State>>,
    pressed: watch::Receiver<u64>,
}

impl Interrupts {
    /// Begins to listen.
    pub(super) fn begin() -> Self {
        let state = Arc::new(Mutex::new(State::Idle));
        let (sender, pressed) = watch::channel(0);
        let heard = Arc::clone(&state);
        std::thread::spawn(move || listen(&heard, &sender));
        Self { state, pressed }
    }

    /// The result of `work`; none if Ctrl-C was pressed meanwhile.
    pub(super) async fn unless_pressed<T>(
        &self,
        stubborn: Stubborn,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut pressed = self.pressed.clone();
        pressed.mark_unchanged();
        set(&self.state, State::Runs(stubborn));
        let done = tokio::select! {
            done = work => Some(done),
            // It can only fail if the thread that listens has ended.
            Ok(()) = pressed.changed() => None,
        };
        // A process that is about to end stays bound to end soon.
        if done.is_some() || stubborn == Stubborn::Told {
            set(&self.state, State::Idle);
        }
        done
    }
}

fn set(state: &Mutex<State>, to: State) {
    *state.lock().unwrap_or_else(PoisonError::into_inner) = to;
}

fn listen(state: &Arc<Mutex<State>>, sender: &watch::Sender<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        // Then Ctrl-C ends the process as it always does.
        return;
    };
    runtime.block_on(async {
        while tokio::signal::ctrl_c().await.is_ok() {
            let now = {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let before = *state;
                let presses = *sender.borrow() + 1;
                if let State::Runs(_) = before {
                    *state = State::Cancelled(presses);
                }
                before
            };
            match now {
                State::Idle => {}
                State::Cancelled(_) => leave(),
                State::Runs(stubborn) => {
                    sender.send_modify(|presses| *presses += 1);
                    let press = *sender.borrow();
                    let state = Arc::clone(state);
                    tokio::spawn(async move {
                        tokio::time::sleep(PATIENCE).await;
                        let now = *state.lock().unwrap_or_else(PoisonError::into_inner);
                        match stubborn {
                            _ if now != State::Cancelled(press) => {}
                            Stubborn::Left => leave(),
                            Stubborn::Told => eprintln!(
                                "^C: the statement ends where DataFusion pauses; Ctrl-C again leaves, and the \
                                 statement is undone by the next process that opens its table"
                            ),
                        }
                    });
                }
            }
        }
    });
}

/// Ends the process, whatever its threads do.
fn leave() {
    progress::clear();
    eprintln!("^C");
    std::process::exit(INTERRUPTED.into());
}
