//! How versions come to be and go: commits, conflicts, recovery, vacuum, and tables as a whole.
//!
//! Three facts carry everything:
//!
//! - A version becomes visible in one moment: when the pointer is replaced, under the condition that it still is what it
//!   was when the new version was made.
//! - The WAL document is the fence. Before a mutation may be committed its document must be `APPENDED`; before it may
//!   be undone its document must have been taken away from it. Both are conditional replacements of one object.
//! - A manifest remembers which mutations it committed, as long as their documents may still be there.
//!
//! # States of a document
//!
//! ```text
//!            renew                 complete
//!            ┌──┐                ┌──────────▶ COMPLETE ──▶ (deleted)
//! create ──▶ INTENT ─ append ─▶ APPENDED
//!            │  ▲                  │
//!      fence │  │ fence            │ fence, after a conflict
//! abandoned  ▼  │                  ▼
//!            INTENT of another owner ────▶ (deleted, after all that it staged)
//! ```
//!
//! Each arrow but the deletions is a replacement under the condition that the document is as it was read. A process that
//! loses the race reads the document again. Nothing leads out of `COMPLETE`, and only `APPENDED` leads to it.
//!
//! # The owner of a mutation
//!
//! 1. It creates the document: `INTENT`, `base_version`, an id block, and a lease whose `owner` no other process uses.
//!    **It stages nothing before the document is durable.**
//! 2. While it works it renews the lease: it replaces the document, with new times and a new nonce, three times within
//!    the lease's length (60 seconds here). If that fails because the document changed, the mutation is lost: stop.
//! 3. It writes superfiles and sidecars under ids of its block. A sidecar holds the union of the sidecar at the base and
//!    what the statement deletes; if nothing was deleted there before, only the latter.
//! 4. It writes the change set, create-only.
//! 5. When all of these are durable it replaces the document: `APPENDED`, `new_row_content_hash`. It does so only from
//!    a state that it wrote itself. From here on it must not delete what it staged.
//! 6. It commits (below), or finds that another process did, or that the mutation conflicts.
//! 7. It ends the document: replaces it with `COMPLETE`, deletes the change set, and then the document. In this order:
//!    no process may see an `APPENDED` document without its change set.
//!
//! A statement that fails before step 5 takes itself back: it deletes what it staged, the change set, and
//! last the document. It must know that no `APPENDED` of its own can still be on the way.
//!
//! # Committing
//!
//! Anybody may commit any `APPENDED` mutation, and several at once, in one version. The order of these steps is what makes
//! a second application impossible:
//!
//! 1. **Read the pointer**, and the version that it names.
//! 2. **Then read the document.** It must be `APPENDED`. If it is gone, `COMPLETE` or fenced, the mutation has ended:
//!    the history says how.
//! 3. **Look for its WAL id** in `commits` and `pending` of that version, and in `commits` of every version since
//!    `base_version`. If it is there, it is committed: go on to end the document.
//! 4. Read the change set, check its hash, and *judge* it (below) against the version.
//! 5. Write the new version's nodes, and the sidecars that judging made (with ids of a block of the draft's own).
//! 6. **Replace the pointer**, under the condition that it is as read in step 1: `version` one more, the new root.
//!    If the race is lost, begin again at step 1.
//!
//! A writer that does not know whether its replacement took effect reads the pointer, and looks for the WAL id in the
//! history from there. It must not tell its caller that the statement failed unless it knows.
//!
//! A mutation that conflicts with a committed version ends: its document is fenced (`INTENT`, another owner), and then undone. A
//! conflict with a mutation of the same draft is judged again once that one is committed.
//!
//! ## The header of the new version
//!
//! | field | value |
//! | --- | --- |
//! | `version` | one more |
//! | `parent`, `skips` | see [`manifest`](super::manifest#earlier-versions) |
//! | `created_at_ms` | the committer's clock, but not less than the parent's |
//! | `metadata` | the change set's, if it has one; `next_field_id` never falls, and the table's id never changes |
//! | `metadata_changed_at`, `schema_changed_at` | this version, if metadata, or the schema in it, changed (or keys: a new one that no older one implies); else as before |
//! | `moved_at` | this version, if a committed change set *moves* rows, or is an `OVERWRITE` or `RESTORE`; else as before |
//! | `rows_changed_at` | this version, if a change set that is no `COMPACT` adds or removes rows; else as before |
//! | `restored_at` | this version, if it commits a `RESTORE`; else as before |
//! | `dropped`, `added_keys` | see [keys](#keys) |
//! | `commits` | a record for each mutation that this version commits, with counts that exclude rows that were gone |
//! | `pending` | the parent's `commits` and `pending`, without those whose documents are known to be gone, durably |
//!
//! A change set *moves* rows if it removes some (it tombstones or drops) and adds some. An entry's `moved_at` becomes this
//! version when a change set that moves rows tombstones the superfile; its `delete_count` grows by one with each new sidecar.
//! An entry that a change set adds, or gives anew (a `RESTORE`), gets this version as its `added_at`; that of a `COMPACT` gets
//! the greatest of those of its sources that are still there.
//! A superfile all of whose rows are deleted leaves the manifest. Every draft draws a new salt for its nodes.
//!
//! # Judging: what conflicts
//!
//! The first to commit wins, row by row. *Base* is the change set's `base_version`; *in force* is what the version has
//! that is judged against, with the change sets that the same draft took in before.
//!
//! | the change set | and since its base | result |
//! | --- | --- | --- |
//! | adds superfiles | rows came or went | added |
//! | adds superfiles | the schema changed, or a key was declared (`schema_changed_at` > base) | conflict |
//! | `DELETE`, `TRUNCATE` remove rows | the sidecar in force is the base's | the staged sidecar is used as it is |
//! | same | other rows of the superfile went | a new sidecar, the union of the one in force and `delta` |
//! | same | some of its rows are in force already, and the superfile's `moved_at` ≤ base | those drop out of the count |
//! | same | some of its rows are in force already, and `moved_at` > base | conflict |
//! | same | the superfile is gone, and the table's `moved_at` ≤ base | its rows drop out of the count |
//! | same | the superfile is gone, and the table's `moved_at` > base | conflict |
//! | `UPDATE`, `MERGE`, and whatever else moves rows | other rows of the superfile went | the union |
//! | same | any of its rows is gone, or the superfile is | conflict |
//! | `COMPACT` | rows of a source went | they are deleted where `moves` says that they are now |
//! | same | a source is gone, and the table's `moved_at` ≤ base | all its rows are deleted there |
//! | same | a source is gone, and the table's `moved_at` > base | conflict |
//! | same | a source has rows back that the compaction did not copy | conflict |
//! | same, without `moves` | a source has another sidecar | conflict |
//! | `OVERWRITE` | the table's `moved_at` > base | conflict |
//! | changes the metadata | `metadata_changed_at` > base | conflict |
//! | adds a `NOT NULL` column without a value for old rows | anything was committed, or there are rows | conflict |
//! | makes a column `NOT NULL`, or declares a key that no older one implies, and is not `serializable` | same | conflict |
//! | removes rows, or adds external files | `restored_at` > base | conflict |
//! | `RESTORE` | anything was committed | conflict |
//! | any, behind a `RESTORE` of the same draft | | judged again against the restored version |
//! | has `absent_keys` | a row with one of them may have come, other than by a `COMPACT`; see [keys](#keys) | conflict |
//! | same | `restored_at` > base | conflict |
//! | is `serializable` | `rows_changed_at` > base | conflict |
//!
//! Why `moved_at`: a change set that removes rows and adds some may have copied what it removed. Its tombstones do not
//! prove that a row is gone, only that it is no longer *there*. A `DELETE` that let such a row drop out of its count would
//! leave the row's copy alive.
//!
//! ## Keys
//!
//! A row with one of a change set's absent keys may have come since its base *b* if one of these may hold one:
//!
//! - an entry with `added_at` > *b*, of the version that is judged against or of those that the same draft added before;
//! - an element of `dropped` with `added_at` > *b*.
//!
//! They may, unless the statistics or bounds of a key column do not meet those of any range, or the column has no value but NULL,
//! or one of these holds of the entry: all key columns have one exact value, the file is not `external`, and the hash of these
//! values is not among those of the absent keys; or an element of `added_keys` names the superfile and the same `columns`, and
//! shares no hash with them.
//!
//! What may hold one must go on to do so: another process may judge a later version. Therefore a commit that drops superfiles, or
//! gives them other entries, adds an element to `dropped`, whose `added_at` is the greatest of theirs, and whose bounds hold for all
//! of them. Two elements may be joined so, and bounds shortened; none may be left out. Writers here keep 8, of 16 columns,
//! with bounds of 16 bytes. Elements of `added_keys` may be left out. Each is what a committed change set says with `hashes` and
//! without `adds_others`. Writers here keep those of at most 1,024 hashes for 32 versions, 4,096 hashes in all.
//!
//! # Recovery
//!
//! Any process, at any time, any number of them at once. For each document that a listing finds:
//!
//! | document | what is done |
//! | --- | --- |
//! | `COMPLETE` | delete its change set, then the document |
//! | `APPENDED` | commit it as its owner would; if the history has it, end it; if it conflicts, fence and undo it |
//! | `APPENDED`, no change set there | if the history has it, end it; else delete it, once it is abandoned |
//! | `INTENT`, renewed | leave it alone |
//! | `INTENT`, abandoned | **fence** it: replace it under another lease owner. Then look for it in the history; if it is not there, undo it |
//! | not readable | leave it alone, and say so |
//! | a change set without a document | delete it, once it is abandoned |
//!
//! *Abandoned* is what this observer saw unchanged (the same state of the object) for the length of a lease of its own
//! monotonic time. The times in the lease are of another clock and decide nothing.
//!
//! *To undo* is to delete all superfiles and sidecars whose ids lie in the mutation's block, then the change set, then the
//! document. Only a mutation that was fenced, and that no version since its base committed, may be undone: then no
//! version names what it staged. If the process dies in between, the document leads the next one to the rest.
//!
//! # Vacuum
//!
//! Vacuum deletes what no retained version needs. Retained are the current version; every version that was current within
//! the retention time, that is, whose successor was created after its beginning; and every version from the oldest
//! `base_version` of a live mutation on. A mutation is live while its document is there, is not `COMPLETE`, and is not
//! recorded in the current version.
//!
//! 1. **Cut.** Delete the roots of older versions that the oldest retained version names: those of its skip pointers, the
//!    farthest first, and its parent last. All later versions lead below it through these only.
//! 2. **List** nodes, superfiles and sidecars. What no known version names is a candidate.
//! 3. **Then read all documents.**
//! 4. **Then read the pointer**, and look through every version that came since.
//! 5. **If a mutation is live, replace the pointer** with the same content and a new nonce. Drafts that were made before can
//!    not be swung to any more.
//! 6. Delete the candidates that no version names, that lie in no live mutation's id block, and that are older than an hour
//!    (or than the retention time, if that is shorter).
//!
//! While a `RESTORE` is live, or a mutation of a kind that vacuum does not know, nothing is deleted. While a document cannot
//! be read, nothing is deleted that was written later than a day before it. External files, foreign names, documents
//! and change sets are never vacuum's.
//!
//! Step 5, the salts, and the order of 2 to 4 make this safe beside writers: a mutation's document is durable before
//! anything that it stages, and stays until the mutation has ended. So it protects its block at step 3, or its outcome
//! shows at step 4.
//!
//! # Tables as a whole
//!
//! **Create.** Write the nodes of version 1 (no parent, no skips, `rows_changed_at` 1, `moved_at` and `restored_at` 0), then
//! *create* the pointer, create-only. Before that, refuse a place that holds anything but manifest nodes, `INTENT` documents,
//! and superfiles of their blocks. A table that appears together with rows: the mutation stays `INTENT` (no process may commit it
//! into another table), version 1 is written as the parent of version 2, and the pointer is created naming version 2.
//!
//! **Drop.** Replace the pointer with the marker of a dropped table. The rest can then be deleted in any order, but for
//! the marker.
//!
//! **Catalogs.** A schema is a directory, a table a directory in it. Letters, digits, `_` and `-` of a name stand for
//! themselves; every other byte is `=` and two lowercase hex digits. The n-th table of a name, from the second on, takes the
//! directory `name.n`. Directory n + 1 may be used only once it is known that what stands in directory n is a dropped
//! table, one that claims another place, or a reservation that is void.
//!
//! **Rename.** (1) *Create* a reservation in the next directory of the new name: `reserved_for` the table's directory, `claim`
//! one more than the table's last number (0 if it has none). (2) Replace the pointer: the same version, `claim` with this slot
//! and number. That is the moment of the rename. (3) Replace the reservation of the old name, if there was one, with
//! the marker of a dropped table (a nil table id, version 0). A reservation is *pending* while the table's number is below
//! its own, *in force* while the table claims its place under this number, and *void* for ever otherwise.
