//! From the data of a `ConfigMap` to one role's part of a performance profile.
//!
//! The keys that are looked at when none is named: `prefill.csv` or `decode.csv` by role, else
//! `profile.yaml`, else the only key there is. What a text is follows from its columns, not from
//! the key: a table, a sweep of Dynamo's profiler, or coefficients as YAML. Two more keys belong
//! to tables: `kv.csv` for what the KV cache holds, and `tp` for the tensor parallelism of a
//! replica, without which it is the number of GPUs of one. Pure; every error names `ConfigMap`,
//! key and remedy.

use std::collections::BTreeMap;

use pd_core::{
    Role,
    capacity::{DecodeModel, PrefillModel, Profile, profile::ProfileError as NumberError},
};

use crate::import::{ImportError, dynamo, inline, table};

/// Key of a profile as YAML, for both roles.
const YAML: &str = "profile.yaml";

/// Key of the table of KV capacities.
const KV: &str = "kv.csv";

/// Key of the tensor parallelism of one replica.
const PARALLELISM: &str = "tp";

/// Most tensor parallelism of a replica.
const PARALLELISM_MAX: u32 = 1_024;

/// Keys that a message names at most.
const KEYS_NAMED_MAX: usize = 5;

/// Why a role has no profile, although one is named.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// There is no such `ConfigMap`.
    #[error(
        "ConfigMap `{name}` does not exist in namespace `{namespace}`: create it, or remove profileRef"
    )]
    NotFound {
        /// Its name.
        name: String,
        /// The namespace.
        namespace: String,
    },
    /// The API server did not give it.
    #[error("ConfigMap `{name}` cannot be read: {cause}")]
    Unreadable {
        /// Its name.
        name: String,
        /// The cause.
        cause: String,
    },
    /// The key that is named is not there.
    #[error("ConfigMap `{name}` has no key `{key}`: it has {found}")]
    KeyMissing {
        /// Name of the `ConfigMap`.
        name: String,
        /// The key.
        key: String,
        /// The keys that are there.
        found: String,
    },
    /// No key is named, and which one is meant is not clear.
    #[error(
        "ConfigMap `{name}` has {found}: name one in profileRef.key, or call it `{role}.csv` or `{YAML}`"
    )]
    KeyUnclear {
        /// Name of the `ConfigMap`.
        name: String,
        /// The role.
        role: Role,
        /// The keys that are there.
        found: String,
    },
    /// The parallelism is no number.
    #[error(
        "key `{PARALLELISM}` of ConfigMap `{name}` is `{value}`: give the tensor parallelism of one \
         replica, 1 to {PARALLELISM_MAX}"
    )]
    Parallelism {
        /// Name of the `ConfigMap`.
        name: String,
        /// The value.
        value: String,
    },
    /// The text says nothing about the role.
    #[error("key `{key}` of ConfigMap `{name}` has no {role} times: {remedy}")]
    OtherForm {
        /// Name of the `ConfigMap`.
        name: String,
        /// The key.
        key: String,
        /// The role.
        role: Role,
        /// The remedy.
        remedy: &'static str,
    },
    /// The text is wrong somewhere.
    #[error("key `{key}` of ConfigMap `{name}`: {source}{remedy}")]
    Text {
        /// Name of the `ConfigMap`.
        name: String,
        /// The key.
        key: String,
        /// Where and why.
        source: Box<ImportError>,
        /// A further remedy; empty when the source says it all.
        remedy: &'static str,
    },
    /// The numbers cannot be.
    #[error(transparent)]
    Numbers(#[from] NumberError),
}

/// The forms of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Table(Role),
    Sweep(Role),
    OperatingPoints,
    OtherCsv,
    Yaml,
}

/// Columns that show a form; each has all of its own.
const COLUMNS: [(&str, Form); 5] = [
    ("prefill_ms", Form::Table(Role::Prefill)),
    ("itl_ms", Form::Table(Role::Decode)),
    ("prefill_ttft", Form::Sweep(Role::Prefill)),
    ("z_itl", Form::Sweep(Role::Decode)),
    ("(p)workers", Form::OperatingPoints),
];

impl Form {
    fn of(key: &str, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let header = text.lines().find(|line| !line.trim().is_empty());
        let columns: Vec<&str> = header
            .unwrap_or_default()
            .split(',')
            .map(|column| column.trim().trim_matches('"'))
            .collect();
        let known = COLUMNS
            .into_iter()
            .find(|(column, _)| columns.contains(column));
        let is_csv = std::path::Path::new(key)
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        match known {
            Some((_, form)) => form,
            None if is_csv => Self::OtherCsv,
            None => Self::Yaml,
        }
    }
}

/// The data of a `ConfigMap`, and whose part is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The role.
    pub role: Role,
    /// Name of the `ConfigMap`.
    pub name: &'a str,
    /// Its texts by key.
    pub data: &'a BTreeMap<String, String>,
    /// The key, if one is named.
    pub key: Option<&'a str>,
    /// GPUs of one replica: the tensor parallelism where the `ConfigMap` names none.
    pub gpus_per_replica: u32,
}

impl Wanted<'_> {
    /// The role's part; the other role is left out.
    pub fn part(&self) -> Result<Profile, ProfileError> {
        let key = self.key()?;
        let text = self.data.get(key).map_or("", String::as_str);
        let part = match (Form::of(key, text), self.role) {
            (Form::Table(Role::Prefill), Role::Prefill) => {
                let table = table::prefill_table(text, self.parallelism()?);
                prefill(PrefillModel::Table(self.placed(key, table)?))
            }
            (Form::Sweep(Role::Prefill), Role::Prefill) => {
                let table = dynamo::prefill_table(text, self.parallelism()?);
                prefill(PrefillModel::Table(self.placed(key, table)?))
            }
            (Form::Table(Role::Decode), Role::Decode) => {
                let table = table::decode_table(text, self.parallelism()?);
                let model = DecodeModel::Table(self.placed(key, table)?);
                decode(model, self.kv_capacity_tokens()?)
            }
            (Form::Sweep(Role::Decode), Role::Decode) => {
                let swept = dynamo::decode_table(text, self.parallelism()?);
                let (table, kv_capacity_tokens) = self.placed(key, swept)?;
                decode(DecodeModel::Table(table), Some(kv_capacity_tokens))
            }
            (Form::Yaml, _) => self.of(self.placed(key, inline::profile(text))?, key)?,
            (Form::OperatingPoints, _) => {
                return Err(self.other_form(
                    key,
                    "it has configurations of AIConfigurator, which belong into \
                     spec.ratio.operatingPoints",
                ));
            }
            _ => return Err(self.other_form(key, self.forms())),
        };
        Ok(part.validated()?)
    }

    fn key(&self) -> Result<&str, ProfileError> {
        let name = || self.name.to_owned();
        if let Some(key) = self.key {
            return match self.data.get_key_value(key) {
                Some((key, _)) => Ok(key),
                None => Err(ProfileError::KeyMissing {
                    name: name(),
                    key: key.to_owned(),
                    found: self.keys(),
                }),
            };
        }
        let usual = [format!("{}.csv", self.role), YAML.to_owned()];
        let found = |key: &String| self.data.get_key_value(key.as_str());
        if let Some((key, _)) = usual.iter().find_map(found) {
            return Ok(key);
        }
        let beside = |key: &&String| ![KV, PARALLELISM].contains(&key.as_str());
        // Two keys could both be meant; guessing would size a service by the wrong table.
        let mut keys = self.data.keys().filter(beside);
        match (keys.next(), keys.next()) {
            (Some(only), None) => Ok(only),
            _ => Err(ProfileError::KeyUnclear {
                name: name(),
                role: self.role,
                found: self.keys(),
            }),
        }
    }

    /// The keys that are there, as a message names them.
    fn keys(&self) -> String {
        let named: Vec<String> = self
            .data
            .keys()
            .take(KEYS_NAMED_MAX)
            .map(|key| format!("`{key}`"))
            .collect();
        match self.data.len().saturating_sub(KEYS_NAMED_MAX) {
            _ if named.is_empty() => "no keys".to_owned(),
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }

    fn parallelism(&self) -> Result<u32, ProfileError> {
        let Some(text) = self.data.get(PARALLELISM) else {
            return Ok(self.gpus_per_replica.max(1));
        };
        match text.trim().parse() {
            Ok(stated) if (1..=PARALLELISM_MAX).contains(&stated) => Ok(stated),
            _ => Err(ProfileError::Parallelism {
                name: self.name.to_owned(),
                value: text.trim().chars().take(32).collect(),
            }),
        }
    }

    fn kv_capacity_tokens(&self) -> Result<Option<f64>, ProfileError> {
        let Some(text) = self.data.get(KV) else {
            return Ok(None);
        };
        let tokens = table::kv_capacity_tokens(text, self.parallelism()?);
        self.placed(KV, tokens).map(Some)
    }

    fn placed<T>(&self, key: &str, result: Result<T, ImportError>) -> Result<T, ProfileError> {
        result.map_err(|source| ProfileError::Text {
            name: self.name.to_owned(),
            key: key.to_owned(),
            remedy: if matches!(source, ImportError::Parallelism { .. }) {
                "; state that of one replica in key `tp`"
            } else {
                ""
            },
            source: Box::new(source),
        })
    }

    /// The role's part of a profile for both.
    fn of(&self, both: Profile, key: &str) -> Result<Profile, ProfileError> {
        let part = match self.role {
            Role::Prefill => both.prefill.map(prefill),
            Role::Decode => both.decode.map(|model| Profile {
                batch_max: both.batch_max,
                ..decode(model, both.kv_capacity_tokens)
            }),
        };
        part.ok_or_else(|| self.other_form(key, self.forms()))
    }

    fn other_form(&self, key: &str, remedy: &'static str) -> ProfileError {
        ProfileError::OtherForm {
            name: self.name.to_owned(),
            key: key.to_owned(),
            role: self.role,
            remedy,
        }
    }

    const fn forms(&self) -> &'static str {
        match self.role {
            Role::Prefill => {
                "give a table with column `prefill_ms`, a sweep with column `prefill_ttft`, or YAML \
                 with `prefill`"
            }
            Role::Decode => {
                "give a table with column `itl_ms`, a sweep with column `z_itl`, or YAML with `decode`"
            }
        }
    }
}

fn prefill(model: PrefillModel) -> Profile {
    Profile {
        prefill: Some(model),
        ..Profile::default()
    }
}

fn decode(model: DecodeModel, kv_capacity_tokens: Option<f64>) -> Profile {
    Profile {
        decode: Some(model),
        kv_capacity_tokens,
        ..Profile::default()
    }
}

#[cfg(test)]
mod tests;
