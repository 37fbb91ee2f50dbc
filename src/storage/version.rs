//! Which state of an object a conditional write or read refers to.
//!
//! Owns [`ObjectVersion`] and its text form. Does not own the comparison that a store performs.
//!
//! Invariant: `parse_token(v.token()) == Some(v)` for every version that names a state.

use object_store::{ObjectMeta, PutResult, UpdateVersion};

/// One state of one object, as its store names it: an ETag, a version (GCS generation), or both.
///
/// Opaque: two versions are compared by the store, never ordered. A version from a listing may
/// lack what replacing needs (GCS lists no generations); take it from a read or a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectVersion {
    e_tag: Option<String>,
    version: Option<String>,
}

impl ObjectVersion {
    /// The version that a write created.
    pub fn from_put(put: &PutResult) -> Self {
        Self {
            e_tag: put.e_tag.clone(),
            version: put.version.clone(),
        }
    }

    /// The version that a read or a listing returned.
    pub fn from_meta(meta: &ObjectMeta) -> Self {
        Self {
            e_tag: meta.e_tag.clone(),
            version: meta.version.clone(),
        }
    }

    /// A text form: empty for a version that names no state, else
    /// `<length of version, or '-'>:<version>` followed by `e<ETag>` if there is one.
    pub fn token(&self) -> String {
        let mut token = match (&self.version, &self.e_tag) {
            (None, None) => return String::new(),
            (Some(version), _) => format!("{}:{version}", version.len()),
            (None, _) => "-:".to_owned(),
        };
        if let Some(e_tag) = &self.e_tag {
            token.push('e');
            token.push_str(e_tag);
        }
        token
    }

    /// The version that [`token`](Self::token) wrote; `None` for an empty or malformed text.
    pub fn parse_token(token: &str) -> Option<Self> {
        let (length, rest) = token.split_once(':')?;
        let (version, rest) = match length {
            "-" => (None, rest),
            _ => {
                // One text per version: `+3` and `03` are lengths that `token` never writes.
                let parsed: usize = length.parse().ok()?;
                if parsed.to_string() != length {
                    return None;
                }
                let (version, rest) = rest.split_at_checked(parsed)?;
                (Some(version.to_owned()), rest)
            }
        };
        let e_tag = match rest {
            "" => None,
            _ => Some(rest.strip_prefix('e')?.to_owned()),
        };
        let parsed = Self { e_tag, version };
        parsed.names_a_state().then_some(parsed)
    }

    pub(super) fn names_a_state(&self) -> bool {
        self.e_tag.is_some() || self.version.is_some()
    }

    /// A version that no object has: the write was committed, and superseded before anyone could
    /// ask which version it had.
    pub(super) fn superseded() -> Self {
        Self {
            e_tag: Some("\"superseded\"".to_owned()),
            version: None,
        }
    }

    pub(super) fn e_tag(&self) -> Option<&str> {
        self.e_tag.as_deref()
    }

    /// Whether both name one state, by the strongest name that both carry.
    pub(super) fn same_state(&self, other: &Self) -> bool {
        match (&self.version, &other.version) {
            (Some(a), Some(b)) => a == b,
            _ => self.e_tag.is_some() && self.e_tag == other.e_tag,
        }
    }

    pub(super) fn to_update(&self) -> UpdateVersion {
        UpdateVersion {
            e_tag: self.e_tag.clone(),
            version: self.version.clone(),
        }
    }
}
