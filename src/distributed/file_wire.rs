//! One superfile of a scan, as it travels.
//!
//! Owns the encoding of what a file of a scan carries for its reader. Does not own the scan around it (`scan_wire`).

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::DateTime;
use datafusion::common::{Result, ScalarValue, Statistics};
use datafusion::datasource::listing::PartitionedFile;
use datafusion_proto::protobuf;
use datafusion_proto_common::protobuf_common;
use object_store::ObjectMeta;
use object_store::path::Path;
use prost::Message;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::envelope::damaged;
use crate::error::{Error, ErrorKind};
use crate::format::manifest::TombstoneRef;
use crate::format::{
    ColumnSource, ContentHash, ExternalColumns, FooterChecksum, SidecarId, SuperfileId,
};
use crate::scan::tombstones::mark::{Deleted, Tombstoned};

/// A superfile, or a piece of one.
#[derive(Clone, PartialEq, Message)]
pub(super) struct FileWire {
    #[prost(string, tag = "1")]
    path: String,
    #[prost(uint64, tag = "2")]
    size: u64,
    #[prost(int64, tag = "3")]
    modified_ms: i64,
    #[prost(message, optional, tag = "4")]
    range: Option<RangeWire>,
    /// The ordinal of the superfile and its first row id, as far as the scan yields them.
    #[prost(message, repeated, tag = "5")]
    constants: Vec<protobuf::ScalarValue>,
    #[prost(message, optional, tag = "6")]
    statistics: Option<protobuf_common::Statistics>,
    /// Of the table's own superfiles.
    #[prost(bytes = "vec", optional, tag = "7")]
    superfile: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "8")]
    seal: Option<Vec<u8>>,
    #[prost(message, optional, tag = "9")]
    external: Option<ExternalWire>,
    #[prost(message, optional, tag = "10")]
    mark: Option<MarkWire>,
    /// The state in which a file of others is read.
    #[prost(string, optional, tag = "11")]
    in_place: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct RangeWire {
    #[prost(int64, tag = "1")]
    start: i64,
    #[prost(int64, tag = "2")]
    end: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExternalWire {
    #[prost(message, repeated, tag = "1")]
    columns: Vec<ColumnWire>,
}

#[derive(Clone, PartialEq, Message)]
struct ColumnWire {
    #[prost(int32, tag = "1")]
    field: i32,
    /// Where the file has it; a constant otherwise.
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    /// NULL if there is none.
    #[prost(string, optional, tag = "3")]
    constant: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct MarkWire {
    #[prost(uint64, tag = "1")]
    rows: u64,
    #[prost(message, optional, tag = "2")]
    sidecar: Option<SidecarWire>,
    /// The portable form of a bitmap of the positions that are wanted.
    #[prost(bytes = "vec", optional, tag = "3")]
    all_but: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct SidecarWire {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    hash: Vec<u8>,
    #[prost(uint64, tag = "3")]
    cardinality: u64,
    #[prost(uint64, tag = "4")]
    size: u64,
}

impl FileWire {
    /// `file`, which is read in the state `in_place` if it is not the table's own.
    ///
    /// # Errors
    /// `Unsupported` names what of the file cannot travel.
    pub(super) fn of(file: &PartitionedFile, in_place: Option<&String>) -> Result<Self> {
        let meta = &file.object_meta;
        let refused = meta.e_tag.is_some()
            || meta.version.is_some()
            || file.ordering.is_some()
            || file.arrow_schema.is_some()
            || file.metadata_size_hint.is_some();
        if refused {
            return Err(Error::new(
                ErrorKind::Unsupported,
                meta.location.as_ref(),
                "what the scan knows of this superfile cannot be sent to a worker",
            )
            .into());
        }
        let mark = file.extension::<Arc<Tombstoned>>();
        Ok(Self {
            path: meta.location.as_ref().to_owned(),
            size: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
            range: file.range.as_ref().map(|range| RangeWire {
                start: range.start,
                end: range.end,
            }),
            constants: file
                .partition_values
                .iter()
                .map(protobuf::ScalarValue::try_from)
                .collect::<Result<Vec<_>, _>>()?,
            statistics: file.statistics.as_ref().map(|known| known.as_ref().into()),
            superfile: file
                .extension::<SuperfileId>()
                .map(|id| id.as_uuid().as_bytes().to_vec()),
            seal: file
                .extension::<FooterChecksum>()
                .map(|checksum| checksum.to_bytes().to_vec()),
            external: file
                .extension::<Arc<ExternalColumns>>()
                .map(|columns| ExternalWire::of(columns)),
            mark: mark.map(|mark| MarkWire::of(mark)).transpose()?,
            in_place: in_place.cloned(),
        })
    }

    /// The state in which the file is read, and its path.
    pub(super) fn state(&self) -> Result<Option<(Path, String)>> {
        match &self.in_place {
            Some(tag) => Ok(Some((parsed(&self.path)?, tag.clone()))),
            None => Ok(None),
        }
    }

    /// The bytes of tombstones or wanted rows that all pieces of the file share.
    fn mark(&self, marks: &mut Marks) -> Result<Option<Arc<Tombstoned>>> {
        let Some(wire) = &self.mark else {
            return Ok(None);
        };
        if let Some(known) = marks.get(&self.path) {
            return Ok(Some(Arc::clone(known)));
        }
        let mark = Arc::new(wire.mark()?);
        marks.insert(self.path.clone(), Arc::clone(&mark));
        Ok(Some(mark))
    }

    /// The file of a scan; its pieces share their mark by `marks`.
    ///
    /// # Errors
    /// `Corrupt` if it holds what no file has.
    pub(super) fn file(&self, marks: &mut Marks) -> Result<PartitionedFile> {
        let modified = DateTime::from_timestamp_millis(self.modified_ms);
        let mut file = PartitionedFile::new_from_meta(ObjectMeta {
            location: parsed(&self.path)?,
            last_modified: modified.ok_or_else(|| damaged("a time is none"))?,
            size: self.size,
            e_tag: None,
            version: None,
        });
        if let Some(range) = &self.range {
            file = file.with_range(range.start, range.end);
        }
        file.partition_values = self
            .constants
            .iter()
            .map(ScalarValue::try_from)
            .collect::<Result<Vec<_>, _>>()?;
        file.statistics = match &self.statistics {
            Some(known) => Some(Arc::new(Statistics::try_from(known)?)),
            None => None,
        };
        if let Some(id) = &self.superfile {
            file = file.with_extension(SuperfileId::from_uuid(uuid(id)?));
        }
        if let Some(seal) = &self.seal {
            let checksum = FooterChecksum::from_bytes(seal);
            file = file.with_extension(checksum.ok_or_else(|| damaged("a seal is none"))?);
        }
        if let Some(external) = &self.external {
            file = file.with_extension(Arc::new(external.columns()));
        }
        if let Some(mark) = self.mark(marks)? {
            file = file.with_extension(mark);
        }
        Ok(file)
    }
}

/// Which rows of a file are wanted, by its path.
pub(super) type Marks = BTreeMap<String, Arc<Tombstoned>>;

impl ExternalWire {
    fn of(columns: &ExternalColumns) -> Self {
        let wire = |(field, source): (&i32, &ColumnSource)| match source {
            ColumnSource::Name(name) => ColumnWire {
                field: *field,
                name: Some(name.clone()),
                constant: None,
            },
            ColumnSource::Constant(constant) => ColumnWire {
                field: *field,
                name: None,
                constant: constant.clone(),
            },
        };
        Self {
            columns: columns.iter().map(wire).collect(),
        }
    }

    fn columns(&self) -> ExternalColumns {
        let source = |column: &ColumnWire| match &column.name {
            Some(name) => ColumnSource::Name(name.clone()),
            None => ColumnSource::Constant(column.constant.clone()),
        };
        let columns = self.columns.iter();
        columns
            .map(|column| (column.field, source(column)))
            .collect()
    }
}

impl MarkWire {
    fn of(mark: &Tombstoned) -> Result<Self> {
        let mut wire = Self {
            rows: mark.rows(),
            sidecar: None,
            all_but: None,
        };
        match mark.deleted() {
            Deleted::Sidecar(reference) => {
                wire.sidecar = Some(SidecarWire {
                    id: reference.sidecar.as_uuid().as_bytes().to_vec(),
                    hash: reference.hash.as_bytes().to_vec(),
                    cardinality: reference.cardinality,
                    size: reference.size,
                });
            }
            Deleted::AllBut(positions) => {
                let mut bytes = Vec::with_capacity(positions.serialized_size());
                positions.serialize_into(&mut bytes)?;
                wire.all_but = Some(bytes);
            }
        }
        Ok(wire)
    }

    fn mark(&self) -> Result<Tombstoned> {
        match (&self.sidecar, &self.all_but) {
            (Some(sidecar), None) => {
                let hash = <[u8; 32]>::try_from(sidecar.hash.as_slice());
                let reference = TombstoneRef {
                    sidecar: SidecarId::from_uuid(uuid(&sidecar.id)?),
                    hash: ContentHash::from_bytes(hash.map_err(|_| damaged("a hash is none"))?),
                    cardinality: sidecar.cardinality,
                    size: sidecar.size,
                };
                Ok(Tombstoned::new(reference, self.rows))
            }
            (None, Some(bytes)) => {
                let positions = RoaringBitmap::deserialize_from(bytes.as_slice())
                    .map_err(|e| damaged("positions are none").with_source(e))?;
                Ok(Tombstoned::all_but(Arc::new(positions), self.rows))
            }
            _ => Err(damaged("a file's rows are not said").into()),
        }
    }
}

fn uuid(bytes: &[u8]) -> Result<Uuid> {
    Ok(Uuid::from_slice(bytes).map_err(|_| damaged("an id is none"))?)
}

fn parsed(path: &str) -> Result<Path> {
    Ok(Path::parse(path).map_err(|e| damaged("a path is none").with_source(e))?)
}
