//! The storage layer across processes, on the local disk. `servers` has the same on real servers.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use datafusion_supertable::unstable::storage::CasOutcome;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::child::{Args, Child, report};
use crate::support::location;

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

pub(crate) fn counter() -> Path {
    Path::from("_supertable/current")
}

pub(crate) fn count_body(count: usize) -> Bytes {
    Bytes::from(format!("{count} {}", Uuid::new_v4()))
}

fn count_of(body: &Bytes) -> usize {
    let text = std::str::from_utf8(body).unwrap();
    text.split_once(' ').unwrap().0.parse().unwrap()
}

/// Role: adds one to the counter at location 0, as often as argument 1 says.
pub(crate) fn add_to_a_counter(arguments: &Args) {
    run(async {
        let storage = location::open(arguments.text(0));
        let mut lost = 0;
        for _ in 0..arguments.number(1) {
            loop {
                let (body, version) = storage.get(&counter()).await.unwrap().unwrap();
                let next = count_body(count_of(&body) + 1);
                match storage.replace(&counter(), &version, next).await.unwrap() {
                    CasOutcome::Committed(_) => break,
                    CasOutcome::Lost => lost += 1,
                }
            }
        }
        report(lost);
    });
}

/// Role: tries to create as many objects at location 0 as argument 1 says; reports those it created.
pub(crate) fn create_objects(arguments: &Args) {
    run(async {
        let storage = location::open(arguments.text(0));
        for object in 0..arguments.number(1) {
            let key = Path::from(format!("objects/{object}"));
            let body = Bytes::from(Uuid::new_v4().to_string());
            if let CasOutcome::Committed(_) = storage.create(&key, body.clone()).await.unwrap() {
                report(format!("{key} {}", String::from_utf8_lossy(&body)));
            }
        }
    });
}

/// Role: writes, replaces, uploads and deletes at location 0 without end; reports each body that the
/// storage acknowledged, beginning with argument 1.
pub(crate) fn write_until_killed(arguments: &Args) {
    run(async {
        let storage = location::open(arguments.text(0));
        let store = storage.object_store();
        for number in arguments.number(1).. {
            let key = Path::from(format!("new/{number}"));
            storage.put_immutable(&key, body_of(number)).await.unwrap();
            report(format!("{key} {number}"));

            let key = Path::from("replaced");
            match storage.get(&key).await.unwrap() {
                None => drop(storage.create(&key, body_of(number)).await.unwrap()),
                Some((_, version)) => {
                    let outcome = storage
                        .replace(&key, &version, body_of(number))
                        .await
                        .unwrap();
                    assert!(matches!(outcome, CasOutcome::Committed(_)));
                }
            }
            report(format!("{key} {number}"));

            let key = Path::from(format!("uploaded/{number}"));
            let mut upload = store.put_multipart(&key).await.unwrap();
            upload
                .put_part(PutPayload::from(body_of(number)))
                .await
                .unwrap();
            upload.complete().await.unwrap();
            report(format!("{key} {number}"));

            let key = Path::from(format!("deleted/{number}"));
            storage.put_immutable(&key, body_of(number)).await.unwrap();
            storage.delete(&key).await.unwrap();
            report(format!("{key} gone"));
        }
    });
}

/// A body of some size that shows a missing or foreign part.
fn body_of(number: usize) -> Bytes {
    Bytes::from(format!("{number:08}").repeat(4096))
}

pub(crate) async fn processes_count_once(location: String, processes: usize, additions: usize) {
    let storage = location::open(&location);
    drop(storage.create(&counter(), count_body(0)).await.unwrap());
    let arguments = [location, additions.to_string()];
    let children: Vec<Child> = (0..processes)
        .map(|_| Child::spawn("storage: add to a counter", &arguments))
        .collect();
    let mut lost = 0;
    for child in children {
        lost += child.finish()[0].parse::<usize>().unwrap();
    }
    let (body, _) = storage.get(&counter()).await.unwrap().unwrap();
    println!("{processes} processes lost {lost} races while adding {additions} each");
    assert_eq!(count_of(&body), processes * additions);
}

pub(crate) async fn processes_create_once(location: String, processes: usize, objects: usize) {
    let arguments = [location.clone(), objects.to_string()];
    let children: Vec<Child> = (0..processes)
        .map(|_| Child::spawn("storage: create objects", &arguments))
        .collect();
    let mut created = BTreeMap::new();
    for child in children {
        for report in child.finish() {
            let (key, body) = report.split_once(' ').unwrap();
            let before = created.insert(key.to_owned(), body.to_owned());
            assert_eq!(before, None, "{key} was created twice");
        }
    }
    assert_eq!(created.len(), objects);
    let storage = location::open(&location);
    for (key, body) in created {
        let (found, _) = storage.get(&Path::from(key)).await.unwrap().unwrap();
        assert_eq!(found, body);
    }
}

#[tokio::test]
async fn processes_that_race_on_a_directory_each_count_once() {
    let dir = TempDir::new().unwrap();
    processes_count_once(location::local(dir.path()), 6, 40).await;
}

#[tokio::test]
async fn processes_that_race_to_create_in_a_directory_have_one_winner_each() {
    let dir = TempDir::new().unwrap();
    // The directory itself is created in the race too.
    let table = dir.path().join("new/table");
    processes_create_once(location::local(&table), 6, 60).await;
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged_and_leaves_nothing_partial() {
    let dir = TempDir::new().unwrap();
    let location = location::local(dir.path());
    let mut acknowledged: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..12 {
        let arguments = [location.clone(), (round * 100_000).to_string()];
        let mut child = Child::spawn("storage: write until killed", &arguments);
        // From one report on, so that the kill falls into the work; at a different moment each time.
        let first = child.next_report().unwrap();
        std::thread::sleep(Duration::from_micros(
            7_300 * (round as u64 % 7) + 611 * round as u64,
        ));
        for report in std::iter::once(first).chain(child.kill()) {
            let (key, what) = report.split_once(' ').unwrap();
            acknowledged.insert(key.to_owned(), what.to_owned());
        }

        let storage = location::open(&location);
        let listed: Vec<_> = storage.list(None).try_collect().await.unwrap();
        for object in &listed {
            let (body, _) = storage.get(&object.location).await.unwrap().unwrap();
            let number = std::str::from_utf8(&body[..8]).unwrap().parse().unwrap();
            assert_eq!(body, body_of(number), "{} is partial", object.location);
        }
        for (key, what) in &acknowledged {
            let found = storage.get(&Path::from(key.as_str())).await.unwrap();
            match (what.as_str(), found) {
                ("gone", found) => assert_eq!(found, None, "{key} is back"),
                (number, Some((body, _))) => {
                    let number: usize = number.parse().unwrap();
                    let found: usize = std::str::from_utf8(&body[..8]).unwrap().parse().unwrap();
                    // Later replaces may have been done though not reported.
                    assert!(found == number || (key == "replaced" && found > number));
                }
                (_, None) => panic!("{key} was acknowledged and is gone"),
            }
        }
    }
    println!(
        "{} writes were acknowledged before 12 kills",
        acknowledged.len()
    );

    // The next process that writes cleans up after all of them.
    let storage = location::open(&location);
    storage
        .put_immutable(&Path::from("last"), body_of(0))
        .await
        .unwrap();
    let tmp = std::fs::read_dir(dir.path().join(".supertable-local/tmp")).unwrap();
    assert_eq!(tmp.count(), 0);
}
