//! The bytes between kube-scheduler and an extender.
//!
//! Go marshals without tags: field names are capitalised, and both `Nodes` and `NodeNames` are
//! always there, one of them null. Its decoder ignores case, so lower-case names are read too, as
//! the KEP writes them. The pod inside is ordinary Kubernetes JSON. Names are borrowed from the
//! body, and the body of an unmanaged pod's answer is its request's own text.
//!
//! Source: kubernetes/kube-scheduler `extender/v1/types.go`, kubernetes
//! `pkg/scheduler/extender.go`.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::CallError;

/// A filter or prioritize call, its parts not yet read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// The pod.
    pub(super) pod: &'a RawValue,
    /// The nodes to judge.
    pub(super) candidates: Candidates<'a>,
}

/// The nodes of a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Candidates<'a> {
    /// A list of names, as text.
    Names(&'a RawValue),
    /// Whole nodes, or nothing.
    Other,
}

impl<'a> Call<'a> {
    /// Reads the outermost object.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, CallError> {
        let envelope: Envelope<'a> =
            serde_json::from_slice(body).map_err(|error| CallError::Body(error.to_string()))?;
        let given = |part: Option<&'a RawValue>| part.filter(|part| part.get() != "null");
        Ok(Self {
            pod: given(envelope.pod).ok_or(CallError::NoPod)?,
            candidates: given(envelope.names).map_or(Candidates::Other, Candidates::Names),
        })
    }

    /// The names.
    pub(super) fn names(&self) -> Result<Vec<Cow<'a, str>>, CallError> {
        let Names(names) = self.read_names()?;
        Ok(names)
    }

    /// Whether the names are texts, without keeping them.
    pub(super) fn check_names(&self) -> Result<(), CallError> {
        let AllTexts = self.read_names()?;
        Ok(())
    }

    fn read_names<T: Deserialize<'a>>(&self) -> Result<T, CallError> {
        let Candidates::Names(raw) = self.candidates else {
            return Err(CallError::NoNames);
        };
        serde_json::from_str(raw.get())
            .map_err(|error| CallError::Body(format!("NodeNames: {error}")))
    }
}

/// The outermost object; the last of equal names counts, as in Go.
#[derive(Default)]
struct Envelope<'a> {
    pod: Option<&'a RawValue>,
    names: Option<&'a RawValue>,
}

enum Field {
    Pod,
    NodeNames,
    Other,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;
        impl Visitor<'_> for FieldVisitor {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Field, E> {
                Ok(match name {
                    _ if name.eq_ignore_ascii_case("Pod") => Field::Pod,
                    _ if name.eq_ignore_ascii_case("NodeNames") => Field::NodeNames,
                    _ => Field::Other,
                })
            }
        }
        deserializer.deserialize_identifier(FieldVisitor)
    }
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;
        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with Pod, Nodes and NodeNames")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope::default();
                while let Some(field) = map.next_key()? {
                    match field {
                        Field::Pod => envelope.pod = Some(map.next_value()?),
                        Field::NodeNames => envelope.names = Some(map.next_value()?),
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

/// A text, borrowed unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a node name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A list of names.
struct Names<'a>(Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Names<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut names = Vec::new();
        deserializer.deserialize_seq(EachName(|name| names.push(name)))?;
        Ok(Self(names))
    }
}

/// A list of names that is only checked.
struct AllTexts;

impl<'de> Deserialize<'de> for AllTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EachName(|_| {}))?;
        Ok(Self)
    }
}

struct EachName<F>(F);

impl<'de, F: FnMut(Cow<'de, str>)> Visitor<'de> for EachName<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of node names")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut names: A) -> Result<(), A::Error> {
        while let Some(Text(name)) = names.next_element()? {
            self.0(name);
        }
        Ok(())
    }
}

/// The answer to a filter call, written in the order of its fields.
pub(super) struct Answer(Vec<u8>);

impl Answer {
    /// An answer of about `capacity` bytes.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity + 128))
    }

    /// The nodes that fit.
    pub(super) fn names<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.0.extend_from_slice(br#"{"Nodes":null,"NodeNames":["#);
        for (index, name) in names.enumerate() {
            separate(&mut self.0, index);
            write_text(&mut self.0, name);
        }
        self.0.push(b']');
    }

    /// The nodes that do not fit, though preemption might change that, with reasons.
    pub(super) fn failed<'a>(&mut self, nodes: impl Iterator<Item = (&'a str, &'a str)>) {
        self.reasons(br#","FailedNodes":{"#, nodes);
    }

    /// The nodes that do not fit whatever is preempted, with reasons.
    pub(super) fn failed_and_unresolvable<'a>(
        &mut self,
        nodes: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        self.reasons(br#","FailedAndUnresolvableNodes":{"#, nodes);
    }

    /// The bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(br#","Error":""}"#);
        self.0
    }

    fn reasons<'a>(&mut self, field: &[u8], nodes: impl Iterator<Item = (&'a str, &'a str)>) {
        self.0.extend_from_slice(field);
        for (index, (name, reason)) in nodes.enumerate() {
            separate(&mut self.0, index);
            write_text(&mut self.0, name);
            self.0.push(b':');
            write_text(&mut self.0, reason);
        }
        self.0.push(b'}');
    }
}

/// The filter answer in which all of `names`, a JSON list, fit.
pub(super) fn passed(names: &str) -> Vec<u8> {
    let parts = [
        r#"{"Nodes":null,"NodeNames":"#,
        names,
        r#","FailedNodes":{},"FailedAndUnresolvableNodes":{},"Error":""}"#,
    ];
    parts.concat().into_bytes()
}

/// The filter answer that fails the attempt with `message`.
pub(super) fn error(message: &str) -> Vec<u8> {
    let mut out =
        br#"{"Nodes":null,"NodeNames":null,"FailedNodes":{},"FailedAndUnresolvableNodes":{},"Error":"#
            .to_vec();
    write_text(&mut out, message);
    out.push(b'}');
    out
}

/// The answer to a prioritize call. The scheduler takes a host that is not named for zero, and
/// decodes each name that is, so those with zero are left out.
pub(super) fn priorities(hosts: &[Cow<'_, str>], scores: &[i16]) -> Vec<u8> {
    let named = || hosts.iter().zip(scores).filter(|(_, score)| **score != 0);
    let size = named().map(|(host, _)| host.len() + r#"{"Host":"","Score":-10},"#.len());
    let mut out = Vec::with_capacity(size.sum::<usize>() + 2);
    out.push(b'[');
    for (index, (host, score)) in named().enumerate() {
        separate(&mut out, index);
        out.extend_from_slice(br#"{"Host":"#);
        write_text(&mut out, host);
        out.extend_from_slice(br#","Score":"#);
        out.extend_from_slice(score.to_string().as_bytes());
        out.push(b'}');
    }
    out.push(b']');
    out
}

fn separate(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // A text always has a JSON form, and a vector takes all bytes.
        let _ = serde_json::to_writer(out, text);
    }
}
