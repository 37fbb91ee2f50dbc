//! Every row of the WAL store's contract, on memory and on local disk.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::path::Path;
use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::format::{ContentHash, OpKind, Sidecar, SidecarId, StateDoc, WalId, WalState, paths};
use crate::storage::{RetryPolicy, Storage};
use crate::wal::{Env, Etag, ManualClock, WalError, WalStore};

struct Bench {
    storage: Storage,
    wal: WalStore,
    env: Env,
}

impl Bench {
    fn new(storage: Storage) -> Self {
        let env = Env::seeded(3, ManualClock::at_ms(1_700_000_000_000));
        Self {
            wal: WalStore::new(storage.clone(), Arc::clone(&env.ids)),
            storage,
            env,
        }
    }

    fn doc(&self) -> StateDoc {
        let id = self.env.ids.wal_id();
        StateDoc::intent(id, OpKind::Delete, self.env.now(), 1, Uuid::nil())
    }

    async fn put(&self, path: &str, body: &str) {
        let path = Path::from(path);
        self.storage
            .put_immutable(&path, Bytes::from(body.to_owned()))
            .await
            .unwrap();
    }
}

async fn on_each_backend<F, Fut>(check: F)
where
    F: Fn(Arc<Bench>) -> Fut,
    Fut: Future<Output = ()>,
{
    let memory = Storage::new(
        Arc::new(InMemory::new()),
        &Path::from("some/prefix"),
        RetryPolicy::default(),
    );
    check(Arc::new(Bench::new(memory))).await;
    let dir = tempfile::tempdir().unwrap();
    let local = Storage::local(dir.path().join("table"), RetryPolicy::default()).unwrap();
    check(Arc::new(Bench::new(local))).await;
}

#[tokio::test]
async fn create_is_create_only() {
    on_each_backend(|t| async move {
        let doc = t.doc();
        let etag = t.wal.create(&doc).await.unwrap();
        assert!(!etag.is_none());
        assert!(matches!(
            t.wal.create(&doc).await,
            Err(WalError::AlreadyExists { path }) if path == paths::wal_doc(&doc.wal_id)
        ));
    })
    .await;
}

#[tokio::test]
async fn read_returns_the_document_and_the_etag_that_updates_it() {
    on_each_backend(|t| async move {
        let doc = t.doc();
        let created = t.wal.create(&doc).await.unwrap();
        let (read, etag) = t.wal.read(&doc.wal_id).await.unwrap();
        assert_eq!(etag, created);
        assert_eq!(
            StateDoc {
                nonce: doc.nonce,
                ..read
            },
            doc
        );
    })
    .await;
}

#[tokio::test]
async fn a_missing_document_is_not_found() {
    on_each_backend(|t| async move {
        let id = t.env.ids.wal_id();
        assert!(matches!(
            t.wal.read(&id).await,
            Err(WalError::NotFound { path }) if path == paths::wal_doc(&id)
        ));
    })
    .await;
}

#[tokio::test]
async fn bad_json_is_a_serde_error_that_names_the_path() {
    on_each_backend(|t| async move {
        let id = t.env.ids.wal_id();
        let path = paths::wal_doc(&id);
        t.put(path.as_ref(), "{\"wal_id\":").await;
        assert!(matches!(t.wal.read(&id).await, Err(WalError::Serde { path: p, .. }) if p == path));
    })
    .await;
}

#[tokio::test]
async fn a_document_under_another_id_is_refused() {
    on_each_backend(|t| async move {
        let (doc, other) = (t.doc(), t.env.ids.wal_id());
        let body = String::from_utf8(doc.encode().unwrap().to_vec()).unwrap();
        t.put(paths::wal_doc(&other).as_ref(), &body).await;
        assert!(matches!(
            t.wal.read(&other).await,
            Err(WalError::WrongId { found, .. }) if found == doc.wal_id
        ));
        assert!(matches!(
            t.wal.update_with_etag(&other, &Etag::NONE, &doc).await,
            Err(WalError::WrongId { .. })
        ));
    })
    .await;
}

#[tokio::test]
async fn update_changes_the_etag_even_if_the_document_stays_the_same() {
    on_each_backend(|t| async move {
        let doc = t.doc();
        let first = t.wal.create(&doc).await.unwrap();
        let second = t
            .wal
            .update_with_etag(&doc.wal_id, &first, &doc)
            .await
            .unwrap();
        let third = t
            .wal
            .update_with_etag(&doc.wal_id, &second, &doc)
            .await
            .unwrap();
        assert!(first != second && second != third && first != third);
    })
    .await;
}

#[tokio::test]
async fn a_stale_etag_a_vanished_document_and_a_made_up_etag_fail_the_swap() {
    on_each_backend(|t| async move {
        let doc = t.doc();
        let id = doc.wal_id;
        let first = t.wal.create(&doc).await.unwrap();
        let second = t.wal.update_with_etag(&id, &first, &doc).await.unwrap();
        let failed = |result| matches!(result, Err(WalError::CasFailed { .. }));
        assert!(failed(t.wal.update_with_etag(&id, &first, &doc).await));
        assert!(failed(
            t.wal
                .update_with_etag(&id, &Etag::from("nonsense"), &doc)
                .await
        ));
        t.wal.delete_state(&id).await.unwrap();
        assert!(failed(t.wal.update_with_etag(&id, &second, &doc).await));
        assert!(matches!(
            t.wal.read(&id).await,
            Err(WalError::NotFound { .. })
        ));
    })
    .await;
}

#[tokio::test]
async fn an_empty_etag_means_create_only() {
    on_each_backend(|t| async move {
        let doc = t.doc();
        t.wal
            .update_with_etag(&doc.wal_id, &Etag::NONE, &doc)
            .await
            .unwrap();
        assert!(matches!(
            t.wal.update_with_etag(&doc.wal_id, &Etag::NONE, &doc).await,
            Err(WalError::CasFailed { .. })
        ));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_twelve_racers_one_wins_and_each_loser_sees_cas_failed() {
    on_each_backend(|t| async move {
        let doc = t.doc();
        let mut etag = t.wal.create(&doc).await.unwrap();
        for _ in 0..10 {
            let racers = (0..12).map(|_| {
                let (t, doc, etag) = (Arc::clone(&t), doc.clone(), etag.clone());
                tokio::spawn(async move { t.wal.update_with_etag(&doc.wal_id, &etag, &doc).await })
            });
            let mut won = Vec::new();
            for racer in racers.collect::<Vec<_>>() {
                match racer.await.unwrap() {
                    Ok(etag) => won.push(etag),
                    Err(error) => assert!(matches!(error, WalError::CasFailed { .. }), "{error:?}"),
                }
            }
            assert_eq!(won.len(), 1);
            etag = won.remove(0);
            assert_eq!(t.wal.read(&doc.wal_id).await.unwrap().1, etag);
        }
    })
    .await;
}

#[tokio::test]
async fn deleting_is_idempotent() {
    on_each_backend(|t| async move {
        let doc = t.doc();
        t.wal.create(&doc).await.unwrap();
        t.wal
            .put_arrow(&doc.wal_id, Bytes::from_static(b"x"))
            .await
            .unwrap();
        for _ in 0..2 {
            t.wal.delete_state(&doc.wal_id).await.unwrap();
            t.wal.delete_arrow(&doc.wal_id).await.unwrap();
        }
        assert!(t.wal.is_gone(&doc.wal_id).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn the_first_bytes_of_a_change_set_stand() {
    on_each_backend(|t| async move {
        let id = t.env.ids.wal_id();
        t.wal
            .put_arrow(&id, Bytes::from_static(b"first"))
            .await
            .unwrap();
        t.wal
            .put_arrow(&id, Bytes::from_static(b"second"))
            .await
            .unwrap();
        assert_eq!(t.wal.get_arrow(&id, None).await.unwrap().as_ref(), b"first");
    })
    .await;
}

#[tokio::test]
async fn a_change_set_is_checked_against_its_hash() {
    on_each_backend(|t| async move {
        let id = t.env.ids.wal_id();
        assert!(matches!(
            t.wal.get_arrow(&id, None).await,
            Err(WalError::NotFound { .. })
        ));
        t.wal
            .put_arrow(&id, Bytes::from_static(b"first"))
            .await
            .unwrap();
        let right = ContentHash::of(b"first").to_string();
        let wrong = ContentHash::of(b"second").to_string();
        t.wal.get_arrow(&id, Some(&right)).await.unwrap();
        assert!(matches!(
            t.wal.get_arrow(&id, Some(&wrong)).await,
            Err(WalError::SidecarContentHashMismatch { expected, got, .. })
                if expected == wrong && got == right
        ));
    })
    .await;
}

#[tokio::test]
async fn sidecars_are_absent_created_replaced_or_lost() {
    on_each_backend(|t| async move {
        let id = SidecarId::from_uuid(t.env.ids.nonce());
        assert!(t.wal.get_tombstones(&id).await.unwrap().is_none());
        let sidecar = |n: u32| Sidecar::new(RoaringBitmap::from_iter(0..n));
        let lost = |result| matches!(result, Err(WalError::CasFailed { .. }));
        let first = t.wal.put_tombstones(&id, None, &sidecar(1)).await.unwrap();
        assert!(lost(t.wal.put_tombstones(&id, None, &sidecar(2)).await));
        assert!(lost(
            t.wal
                .put_tombstones(&id, Some(&Etag::NONE), &sidecar(2))
                .await
        ));
        let second = t
            .wal
            .put_tombstones(&id, Some(&first), &sidecar(3))
            .await
            .unwrap();
        assert!(lost(
            t.wal.put_tombstones(&id, Some(&first), &sidecar(4)).await
        ));
        let (read, etag) = t.wal.get_tombstones(&id).await.unwrap().unwrap();
        assert_eq!((read, etag), (sidecar(3), second));
    })
    .await;
}

#[tokio::test]
async fn an_undecodable_sidecar_is_a_codec_error() {
    on_each_backend(|t| async move {
        let id = SidecarId::from_uuid(t.env.ids.nonce());
        t.put(paths::sidecar(&id).as_ref(), "no sidecar").await;
        assert!(matches!(
            t.wal.get_tombstones(&id).await,
            Err(WalError::SidecarCodec { path, .. }) if path == paths::sidecar(&id)
        ));
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_is_checked_against_the_hash_in_the_manifest() {
    on_each_backend(|t| async move {
        let id = SidecarId::from_uuid(t.env.ids.nonce());
        let bytes = Sidecar::new(RoaringBitmap::from_iter(0..9))
            .encode()
            .unwrap();
        t.wal.stage_sidecar(&id, bytes.clone()).await.unwrap();
        let hash = ContentHash::of(&bytes);
        assert_eq!(
            t.wal.load_sidecar(&id, &hash).await.unwrap().deleted.len(),
            9
        );
        assert!(matches!(
            t.wal.load_sidecar(&id, &ContentHash::of(b"other")).await,
            Err(WalError::SidecarContentHashMismatch { .. })
        ));
    })
    .await;
}

#[tokio::test]
async fn listing_yields_documents_oldest_first_and_skips_foreign_names() {
    on_each_backend(|t| async move {
        assert!(t.wal.list_wal_ids().await.unwrap().is_empty());
        let docs: Vec<_> = (0..5).map(|_| t.doc()).collect();
        for doc in docs.iter().rev() {
            t.wal.create(doc).await.unwrap();
        }
        let orphan = t.env.ids.wal_id();
        t.wal
            .put_arrow(&orphan, Bytes::from_static(b"x"))
            .await
            .unwrap();
        t.wal
            .put_arrow(&docs[0].wal_id, Bytes::from_static(b"x"))
            .await
            .unwrap();
        t.put("wal/mutations/readme.json", "{}").await;
        t.put("wal/mutations/0123.json", "{}").await;
        t.put("wal/other", "{}").await;
        let ids: Vec<WalId> = docs.iter().map(|doc| doc.wal_id).collect();
        assert_eq!(t.wal.list_wal_ids().await.unwrap(), ids);
        let listing = t.wal.list_wal().await.unwrap();
        assert_eq!(
            (listing.documents, listing.orphan_arrows),
            (ids, vec![orphan])
        );
    })
    .await;
}

#[tokio::test]
async fn listing_sidecars_skips_superfiles_and_foreign_names() {
    on_each_backend(|t| async move {
        assert!(t.wal.list_tombstone_ids().await.unwrap().is_empty());
        let id = SidecarId::from_uuid(t.env.ids.nonce());
        t.wal
            .put_tombstones(&id, None, &Sidecar::default())
            .await
            .unwrap();
        t.put("superfiles/readme.tombstones", "x").await;
        t.put(&format!("superfiles/{}.parquet", t.env.ids.nonce()), "x")
            .await;
        assert_eq!(t.wal.list_tombstone_ids().await.unwrap(), vec![id]);
    })
    .await;
}

#[tokio::test]
async fn only_objects_of_the_block_are_deleted_as_staged() {
    on_each_backend(|t| async move {
        let (block, other) = (t.env.ids.id_block(), t.env.ids.id_block());
        for (block, k) in [
            (block, 0),
            (block, 1),
            (block, 0xff_ffff),
            (other, 0),
            (other, 7),
        ] {
            let id = block.nth(k).unwrap();
            t.put(&format!("superfiles/{id}.parquet"), "x").await;
            t.put(&format!("superfiles/{id}.tombstones"), "x").await;
        }
        assert_eq!(t.wal.delete_staged(&block).await.unwrap(), 6);
        assert_eq!(t.wal.delete_staged(&block).await.unwrap(), 0);
        assert_eq!(t.wal.list_tombstone_ids().await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_document_survives_its_states() {
    on_each_backend(|t| async move {
        let mut doc = t.doc();
        let mut etag = t.wal.create(&doc).await.unwrap();
        for state in [WalState::Appended, WalState::Complete] {
            doc.state = state;
            etag = t
                .wal
                .update_with_etag(&doc.wal_id, &etag, &doc)
                .await
                .unwrap();
            assert_eq!(t.wal.read(&doc.wal_id).await.unwrap().0.state, state);
        }
    })
    .await;
}
