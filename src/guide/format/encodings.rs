//! Encodings that several objects share.
//!
//! # Ids
//!
//! | id | bits | text | order |
//! | --- | --- | --- | --- |
//! | WAL id, row id | 128: ms since 1970 (64), worker (40), sequence (24), from the high end | 32 lowercase hex digits of the big-endian bytes; a row id is also shown as a decimal number | unsigned |
//! | superfile id, sidecar id | uuid, version 7, out of an id block | hyphenated, lower case | as bytes |
//! | table id, nonce | uuid, version 4 | hyphenated, lower case | none |
//! | field id | signed 32 bits, from 1 | decimal | none |
//!
//! A writer mints WAL ids and row ids with its own clock and a random *worker*; it must never give out one id twice. Ids
//! grow with time, so objects sort by age; nothing depends on that but speed.
//!
//! An *id block* is 2^24 consecutive uuids, of which one mutation takes the ids of everything that it writes:
//!
//! ```text
//! bits 127..80   milliseconds since 1970      bits 63..62   10
//! bits  79..76   0111 (version 7)             bits 61..24   random
//! bits  75..64   random                       bits 23..0    k, the number of the id in its block
//! ```
//!
//! The block's name is its id with k = 0. A writer must draw a new block for each mutation, and one for each draft of a
//! version.
//!
//! # Hashes
//!
//! All hashes are BLAKE3 with 32 bytes of output; in text 64 lowercase hex digits. Where a field has 16 bytes of a
//! hash, they are the first 16.
//!
//! # The frame
//!
//! Manifest nodes, and the metadata of a table in a change set, are framed:
//!
//! ```text
//! offset   size  field
//! 0        8     magic, ASCII: "STBLROOT", "STBLGRUP", "STBLLEAF" or "STBLMETA"
//! 8        4     format version, u32 little-endian = 1
//! 12       4     n, length of the payload, u32 little-endian
//! 16       n     payload, postcard
//! 16+n     32    blake3 of the bytes 0 .. 16+n
//! end            nothing follows
//! ```
//!
//! The hash that *names* a node is that of all its bytes, the checksum at the end included. A reader checks the name
//! first, then magic, version, length and checksum. It must refuse a payload with bytes after the last field.
//!
//! # Postcard
//!
//! Payloads are encoded as [postcard](https://postcard.jamesmunns.com/wire-format) 1.0 does it:
//!
//! | type here | bytes |
//! | --- | --- |
//! | u16 … u64 | varint: 7 bits a byte, the lowest first, the high bit set on all bytes but the last |
//! | i32, i64, i128 | zigzag, `(n << 1) ^ (n >> (bits − 1))`, then varint |
//! | bool | one byte, 0 or 1 |
//! | f64 | 8 bytes, little-endian |
//! | `[u8; n]` | n bytes as they are, no length |
//! | bytes, string | length as varint, then the bytes; strings are UTF-8 |
//! | `option<T>` | byte 0, or byte 1 and the value |
//! | `seq<T>` | number of elements as varint, then the elements |
//! | `map<K, V>` | as `seq<(K, V)>`, keys in ascending order |
//! | struct, tuple | the fields one after the other |
//! | enum | number of the variant as varint, then its fields |
//!
//! Uuids and ids are `[u8; 16]` in big-endian order, hashes `[u8; 32]`. A decoder should bound what it allocates by the
//! length of the input, whatever a length in it says.
//!
//! # Arrow streams
//!
//! Schemas and change sets are Arrow IPC *streams* (not files): messages of metadata version 5 with the continuation
//! marker `ffffffff`, without compression and without dictionaries, and the end-of-stream marker `ffffffff 00000000`, after
//! which nothing follows. A schema is a stream without batches. Any Arrow library reads them.
//!
//! # JSON
//!
//! Pointer and WAL document are JSON (RFC 8259) in UTF-8. *Compact* JSON has no spaces between tokens, and escapes only
//! `"`, `\` and control characters (`\b`, `\t`, `\n`, `\f`, `\r`, others as `\u00xx`). Times are RFC 3339 in UTC with `Z`.
