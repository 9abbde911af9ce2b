//! Values that an observation may leave out: the owner's policy where a `PDAutoscaler` gives it,
//! the defaults of that object's fields, and counts that are nought or whole unless somebody says
//! otherwise.

use pd_core::policy::Policy;
use pd_core::{PerRole, Role};
use serde_json::{Map, Value, json};

/// Everything that a `PDAutoscaler` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// The owner's policy.
    pub policy: Option<Policy>,
    /// The performance profile that the owner states.
    pub profile: Option<pd_core::capacity::Profile>,
    /// GPUs of one replica, where the owner states them.
    pub gpus_per_replica: PerRole<Option<u32>>,
}

/// The fields of the policy that every owner must say, as the API has it.
const NEEDED: [&str; 4] = [
    "/bounds/prefill/maxReplicas",
    "/bounds/decode/maxReplicas",
    "/objective/ttft/limit",
    "/objective/tpot/limit",
];

/// The least that an owner says, for the defaults of all the rest.
const LEAST: &str = "
apiVersion: pdautoscaler.io/v1alpha1
kind: PDAutoscaler
metadata: { name: defaults }
spec:
  prefill: { target: { apiVersion: apps/v1, kind: Deployment, name: prefill }, maxReplicas: 1 }
  decode: { target: { apiVersion: apps/v1, kind: Deployment, name: decode }, maxReplicas: 1 }
  objective: { ttft: { target: 1s }, tpot: { target: 1s } }
";

/// Fills what the observation in `line` leaves out, in the core's form.
pub(super) fn fill(line: &mut Value, given: &Given) -> Result<(), String> {
    let snapshot = line
        .get_mut("snapshot")
        .and_then(Value::as_object_mut)
        .ok_or("`snapshot` is missing: write an object with `roles` and `signals`")?;
    policy(snapshot, given)?;
    snapshot.entry("paused").or_insert_with(|| json!({}));
    let paused = &mut snapshot["paused"];
    merge(paused, json!({"scaleUp": false, "scaleDown": false}));
    snapshot.entry("signals").or_insert_with(|| json!({}));
    let mut ready = PerRole::default();
    for role in Role::ALL {
        let path = format!("snapshot.roles.{role}");
        let state = snapshot
            .get_mut("roles")
            .and_then(|roles| roles.get_mut(role.as_str()))
            .filter(|state| state.is_object())
            .ok_or(format!(
                "`{path}` is missing: write its `current` and `ready` replicas"
            ))?;
        let gpus = given.gpus_per_replica[role].unwrap_or(0);
        merge(
            state,
            json!({"starting": 0, "terminating": 0, "gpusPerReplica": gpus}),
        );
        ready[role] = state.get("ready").and_then(Value::as_u64).unwrap_or(0);
    }
    coverage(&mut snapshot["signals"], ready);
    Ok(())
}

/// The owner's policy over the API's defaults, or that of the object where there is one.
fn policy(snapshot: &mut Map<String, Value>, given: &Given) -> Result<(), String> {
    if let Some(policy) = &given.policy {
        let policy = serde_json::to_value(policy).map_err(|error| error.to_string())?;
        snapshot.insert("policy".to_owned(), policy);
        return Ok(());
    }
    let missing = |what: &str| {
        format!("{what} is missing: write what the owner wants, or start with --config FILE")
    };
    let written = snapshot
        .get_mut("policy")
        .ok_or(missing("`snapshot.policy`"))?;
    for path in NEEDED {
        if written.pointer(path).is_none() {
            let path = path.replace('/', ".");
            return Err(missing(&format!("`snapshot.policy{path}`")));
        }
    }
    merge(written, defaults()?);
    Ok(())
}

/// The policy of an object that says the least.
pub(super) fn defaults() -> Result<Value, String> {
    let object: pd_api::Manifest =
        serde_saphyr::from_str(LEAST).map_err(|error| error.to_string())?;
    let policy = object.spec.policy().map_err(|errors| {
        let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
        all.join("; ")
    })?;
    serde_json::to_value(policy).map_err(|error| error.to_string())
}

/// Workers that nobody says are missing were all measured, just now.
fn coverage(signals: &mut Value, ready: PerRole<u64>) {
    let Some(signals) = signals.as_object_mut() else {
        return;
    };
    let coverage = signals.entry("coverage").or_insert_with(|| json!({}));
    for role in Role::ALL {
        let whole = json!({role.as_str(): {
            "scraped": ready[role], "seen": ready[role], "oldestAge": {"secs": 0, "nanos": 0},
        }});
        merge(coverage, whole);
    }
}

/// Adds what `value` lacks of `defaults`, objects field by field.
fn merge(value: &mut Value, defaults: Value) {
    if let (Value::Object(fields), Value::Object(defaults)) = (value, defaults) {
        for (name, default) in defaults {
            match fields.get_mut(&name) {
                // A span of time is one value, and so is a list.
                Some(field) if default.get("secs").is_none() => merge(field, default),
                Some(_) => {}
                None => {
                    fields.insert(name, default);
                }
            }
        }
    }
}
