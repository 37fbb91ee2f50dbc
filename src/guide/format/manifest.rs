//! The manifest of one version: root, groups, leaves.
//!
//! ```text
//! root    what the version says of itself, and references to groups, as many as it takes
//! group   1 to 64 references to leaves
//! leaf    1 to 64 entries of superfiles
//! ```
//!
//! Each node is one immutable object, [framed](super::encodings#the-frame), named by the blake3 of all its bytes, and shared by
//! the versions that have it in common. Entries ascend strictly by superfile id (as bytes) over the whole tree, so a
//! reader finds a superfile by binary search over `first`.
MANIFEST_REST
