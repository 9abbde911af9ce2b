//! Operators of other projects beside a control plane: the real ones, built from their Go modules.
//!
//! Their CRDs, rights and webhooks come from the same modules, read where Go keeps them when a test
//! runs. So nothing of theirs is in this repository, and a test is about what they do and not about
//! what we read of them. Only what a cluster without kubelets cannot have is changed, and stated
//! where it is.

pub mod kueue;

use std::path::PathBuf;

use anyhow::anyhow;
use serde_json::Value;

use crate::tools;

/// The program of an operator, built at its first use, and the source of its module.
async fn program_and_source(
    program: &'static str,
    module: (&'static str, &'static str),
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let found = tokio::task::spawn_blocking(move || {
        let built = tools::operator(program)?;
        Ok::<_, tools::ToolsError>((built, tools::source(module.0, module.1)?))
    });
    Ok(found.await??)
}

/// The YAML documents of a text.
fn documents(text: &str) -> anyhow::Result<Vec<Value>> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow!("{error}"))?;
    let is_there = |document: &Value| !document.is_null();
    Ok(documents.into_iter().filter(is_there).collect())
}

/// Many documents as one text for kubectl.
fn text(documents: &[Value]) -> String {
    let documents: Vec<String> = documents.iter().map(ToString::to_string).collect();
    documents.join("\n---\n")
}
