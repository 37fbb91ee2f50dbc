//! The decoders and parsers that read what others wrote, each as a function of bytes.
//!
//! Owns the list of fuzz targets; not part of the public surface. They run in two ways: by `cargo fuzz`
//! (`tests/fuzz`, which needs a nightly compiler), and on stable by `integration::fuzz`, which mutates the
//! same corpus and measures what each run allocates.
//!
//! Invariant: a target returns, whatever the bytes are. It panics where a decoder contradicts itself: what it
//! accepts must come back from its own encoder.

use datafusion::sql::sqlparser::dialect::dialect_from_str;

use crate::format::checksums::BlockChecksums;
use crate::format::footer::FooterChecksum;
use crate::format::manifest::{ManifestLoader, decode_any_node};
use crate::format::{ChangeSet, ContentHash, Head, RowMoves, Sidecar, StateDoc, paths, thrift};
use crate::sql::alter::parse::parse;
use crate::sql::calls::with_calls;
use crate::sql::version_name::table_and_version;
use crate::table::read_end;

/// What takes bytes and returns.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: [(&str, Target); 12] = [
    ("pointer", pointer),
    ("manifest", manifest),
    ("manifest_payload", manifest_payload),
    ("wal_document", wal_document),
    ("change_set", change_set),
    ("row_moves", row_moves),
    ("sidecar", sidecar),
    ("footer", footer),
    ("object_name", object_name),
    ("alter", alter),
    ("statements", statements),
    ("version_name", version_name),
];

fn pointer(bytes: &[u8]) {
    let encoded = match Head::decode(bytes) {
        Ok(Head::Table(pointer)) => pointer.encode(),
        Ok(Head::Dropped(marker)) => marker.encode(),
        Ok(Head::Reserved(reservation)) => reservation.encode(),
        Err(_) => return,
    };
    assert_eq!(encoded.ok().as_deref(), Some(bytes));
}

/// A node as it is stored, under the name that its bytes give it.
fn manifest(bytes: &[u8]) {
    if let Ok(loader) = ManifestLoader::new(&ContentHash::of(bytes), bytes, None) {
        let _ = loader.wanted();
        let _ = loader.header().version;
    }
}

/// What is in a node, behind checksums that are right.
fn manifest_payload(bytes: &[u8]) {
    decode_any_node(bytes);
}

fn wal_document(bytes: &[u8]) {
    if let Ok(doc) = StateDoc::decode(bytes) {
        let encoded = doc.encode().map(|bytes| StateDoc::decode(&bytes).ok());
        assert_eq!(encoded.ok().flatten(), Some(doc));
    }
}

fn change_set(bytes: &[u8]) {
    let _ = ChangeSet::decode_unverified(bytes);
}

fn row_moves(bytes: &[u8]) {
    if let Ok(moves) = RowMoves::decode(bytes) {
        assert_eq!(RowMoves::decode(&moves.encode()).ok(), Some(moves));
    }
}

fn sidecar(bytes: &[u8]) {
    if let Ok(sidecar) = Sidecar::decode(bytes) {
        let _ = Sidecar::decode_for(bytes, 1000);
        let again = sidecar.encode().map(|bytes| Sidecar::decode(&bytes).ok());
        assert_eq!(again.ok().flatten(), Some(sidecar));
    }
}

/// The end of a Parquet file of others, and the checksum of one of ours.
fn footer(bytes: &[u8]) {
    let _ = thrift::is_plausible(bytes);
    let _ = read_end(bytes, bytes.len() as u64);
    let _ = BlockChecksums::of_footer(bytes, bytes.len() as u64);
    if let Some(checksum) = FooterChecksum::from_bytes(bytes) {
        assert_eq!(checksum.to_bytes().as_slice(), bytes);
    }
}

fn object_name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let path = object_store::path::Path::from(text.as_ref());
    if let Some(name) = paths::parse(&path) {
        assert_eq!(name.path(), path);
    }
}

fn alter(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for name in ["generic", "postgresql"] {
        if let Some(dialect) = dialect_from_str(name) {
            let _ = parse(&text, dialect.as_ref(), true);
        }
    }
}

fn statements(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(dialect) = dialect_from_str("generic") {
        let _ = with_calls(&text, dialect.as_ref());
    }
}

fn version_name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some((table, _)) = table_and_version(&text) {
        assert!(!table.is_empty() && text.starts_with(table));
    }
}
