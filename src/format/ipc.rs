//! Arrow IPC streams as parts of our formats: schemas, and the rows of change sets.
//!
//! Owns the guards around Arrow's reader. Arrow trusts the lengths in a stream: it allocates
//! what they announce, and panics where they contradict each other. So [`check_stream`] walks
//! the framing first, and [`guarded`] turns what panics all the same into an error. Bytes that
//! reach this module have normally passed a blake3 check already; the guards are for bytes that
//! were *written* wrong.
//!
//! Beside [`envelope`](super::envelope), which frames what is small and ours: a schema has one encoding that others read,
//! and the rows of a change set can be millions, which are read by columns.
//!
//! Invariant: reading allocates no more than a small multiple of the input's length, and nothing
//! may follow the end-of-stream marker.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::ipc::{MessageHeader, root_as_message};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

/// How an Arrow IPC stream is malformed.
#[derive(Debug, thiserror::Error)]
pub enum IpcError {
    /// The framing is broken: a length that exceeds what is left, or no end-of-stream marker.
    #[error("broken framing at byte {offset}: {what}")]
    Framing {
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Arrow refuses the stream.
    #[error("not a readable Arrow stream")]
    Arrow(#[from] ArrowError),
    /// Arrow's reader panicked on the stream.
    #[error("the stream contradicts itself: {0}")]
    Contradiction(String),
}

/// The schema and the batches of `bytes`, a complete IPC stream.
pub(crate) fn read_stream(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), IpcError> {
    check_stream(bytes)?;
    guarded(|| {
        let reader = StreamReader::try_new(bytes, None)?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        Ok((schema, batches))
    })
}

/// A schema as an IPC stream without batches.
pub(crate) fn encode_schema(schema: &Schema) -> Result<Vec<u8>, IpcError> {
    let mut out = Vec::new();
    StreamWriter::try_new(&mut out, schema)?.finish()?;
    Ok(out)
}

/// The schema that [`encode_schema`] encoded.
pub(crate) fn decode_schema(bytes: &[u8]) -> Result<SchemaRef, IpcError> {
    let (schema, batches) = read_stream(bytes)?;
    if batches.is_empty() {
        Ok(Arc::clone(&schema))
    } else {
        Err(IpcError::Framing {
            offset: 0,
            what: "a schema with rows",
        })
    }
}

/// Runs Arrow's reader; a panic becomes an error.
fn guarded<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, IpcError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => Ok(result?),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without a message");
            Err(IpcError::Contradiction(text.to_owned()))
        }
    }
}

/// Checks that every announced length lies within `bytes`.
///
/// ```text
/// per message:  0xffffffff · i32 LE m · m bytes of flatbuffer · body of Message.bodyLength bytes
/// at the end:   0xffffffff · 0 as i32
/// ```
fn check_stream(bytes: &[u8]) -> Result<(), IpcError> {
    let mut rest = bytes;
    loop {
        let offset = bytes.len() - rest.len();
        let broken = |what| IpcError::Framing { offset, what };
        let (marker, tail) = rest
            .split_first_chunk::<4>()
            .ok_or_else(|| broken("no end-of-stream marker"))?;
        if *marker != [0xff; 4] {
            return Err(broken("no continuation marker"));
        }
        let (len, tail) = tail
            .split_first_chunk::<4>()
            .ok_or_else(|| broken("no message length"))?;
        let len = usize::try_from(i32::from_le_bytes(*len))
            .map_err(|_| broken("a negative message length"))?;
        if len == 0 {
            return if tail.is_empty() {
                Ok(())
            } else {
                Err(broken("bytes after the end of the stream"))
            };
        }
        let (meta, tail) = tail
            .split_at_checked(len)
            .ok_or_else(|| broken("a message longer than the input"))?;
        let message = root_as_message(meta).map_err(|_| broken("not a message"))?;
        let body_len =
            usize::try_from(message.bodyLength()).map_err(|_| broken("a negative body length"))?;
        let (_, tail) = tail
            .split_at_checked(body_len)
            .ok_or_else(|| broken("a body longer than the input"))?;
        let header = message.header_type();
        if header == MessageHeader::RecordBatch {
            let batch = message
                .header_as_record_batch()
                .ok_or_else(|| broken("not a record batch"))?;
            if batch.compression().is_some() {
                // The uncompressed lengths would have to be checked too; we never write it.
                return Err(broken("a compressed batch"));
            }
            let within = |buffer: &arrow::ipc::Buffer| {
                let end = buffer.offset().checked_add(buffer.length());
                buffer.offset() >= 0
                    && buffer.length() >= 0
                    && end.is_some_and(|end| usize::try_from(end).is_ok_and(|e| e <= body_len))
            };
            if !batch.buffers().is_some_and(|b| b.iter().all(within)) {
                return Err(broken("a buffer outside its body"));
            }
        } else if header != MessageHeader::Schema {
            return Err(broken("a message that is neither schema nor batch"));
        }
        rest = tail;
    }
}
