//! The pointer, `_supertable/current`.
//!
//! One line of compact JSON, without a line feed, of at most 1,536 bytes. The keys stand in this order:
//!
//! | key | value |
//! | --- | --- |
//! | `format_version` | 1 |
//! | `table_id` | the table's id. A table that is created again in a directory has another one |
//! | `version` | the current version, from 1 |
//! | `manifest` | hash of the current version's root |
//! | `nonce` | fresh in every write |
//! | `new_nodes` | hashes of up to 8 nodes below the root that this version brought; absent if there are none |
//! | `claim` | `{"slot": …, "number": …}` of a table that was renamed in its catalog; absent if there is none |
//! | `checksum` | blake3 of the line without this key (and without the comma before it) |
//!
//! `new_nodes` only tells readers who know the version before what to read beside the root. What the version consists
//! of, the root alone says.
//!
//! There is one spelling of a pointer: encoding what was decoded must give the same bytes, else the pointer is damaged.
//! So a reader must refuse unknown keys, other orders and spaces. A reader tries `format_version` first: if it is not 1,
//! the pointer is of another version, not damaged.
//!
//! A writer that replaces the pointer must keep `table_id` and `claim`, and draws a new `nonce`. If a
//! reader finds a pointer of another `table_id` than before, the table it knew is gone.
//!
//! # What else may stand there
//!
//! **A marker of a dropped table**, for ever. Keys: `format_version`, `dropped_table` (the table's id), `version` (its
//! last), `claim` (if the pointer had one), `nonce`, `checksum`.
//!
//! **A reservation**: the directory keeps a name for a table of another directory. Keys: `format_version`,
//! `reserved_for` (the name of the table's directory, which lies beside this one), `claim` (the number of the claim, a
//! number), `nonce`, `checksum`.
//!
//! Both are lines like the pointer, with the same rules. A directory without the object holds no table; it may hold
//! what is left of a creation that did not come to its end.
//!
//! `slot` and `reserved_for` are 1 to 255 bytes of printable ASCII without space, `/`, `\` and `"`, and do not begin with
//! a dot.
