//! The parts of the filter's state.

/// The prefix of the operator's own annotations.
pub(crate) const OWN: &[u8] = b"\"oauth.evolutionx.io/";

/// The member of an object that names the part that was left out. The API server prunes unknown members, so clients
/// cannot set it.
pub const LEFT_OUT: &str = "leftOut";

/// The response is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server's response is not JSON")]
pub struct NotJson;

/// The framing of documents in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One document: an object, or a list of objects.
    One,
    /// One document per line, each containing an object (`{"type": …, "object": …}`).
    Events,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lexing {
    Value,
    Key,
    Colon,
    AfterValue,
    InString { key: bool, escaped: bool },
    InLiteral,
    Skipping { depth: usize, inside: Inside },
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
    Structure,
    String { escaped: bool },
    Literal,
}

/// The location of a container in a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Event,
    Object,
    Items,
    Metadata,
    Labels,
    Annotations,
    Managers,
    ManagerEntry,
    Data,
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) location: Location,
    pub(crate) is_array: bool,
    /// Whether none of its values has been read yet.
    pub(crate) fresh: bool,
    /// Whether none of its values has been passed on yet.
    pub(crate) empty: bool,
    pub(crate) start: Mark,
}

/// A value that is either passed on completely or left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    pub(crate) start: Mark,
    /// The number of enclosing containers.
    pub(crate) depth: usize,
    /// Whether it is the first value of its container.
    pub(crate) parent_empty: bool,
    pub(crate) max_cost: usize,
    /// Whether the object is invalid without it.
    pub(crate) needed: bool,
}

/// Why a value was left out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Why {
    TooLarge,
    TooDeep,
    Unreadable,
}

/// The size of the output at some point.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    pub(crate) bytes: usize,
    pub(crate) nodes: usize,
}

/// Whether a value is kept.
pub(crate) enum Decision {
    Drop,
    /// Left out, and recorded.
    LeaveOut,
    Keep(Location, Option<(usize, bool)>),
}
