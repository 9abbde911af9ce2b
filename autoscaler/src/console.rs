//! The web console: the controller's own page, which only reads.
//!
//! [`source`] watches the objects and keeps their last hour in [`history`]; the other files make
//! pages and JSON of both, and [`web`] serves them. Nothing is shown that status does not hold,
//! except the replicas that the objective needs. It is off unless an address is given, for whoever
//! reaches it sees the objects of every tenant. A page is whole as the server sends it: it needs no
//! script, and nothing from elsewhere.

mod chart;
mod detail;
mod frame;
pub mod history;
mod html;
mod json;
mod list;
mod query;
pub mod source;
mod view;
pub mod web;

use std::{net::SocketAddr, sync::Arc};

use kube::{Api, runtime::reflector};
use pd_runtime::{
    server::{self, Endpoint, ServerError},
    shutdown::Shutdown,
};

use self::source::{About, Source};
use crate::{Guarded, args::ConsoleArgs, context::Context};

/// Serves the console until `shutdown` has drained, where `args` gives it an address. `identity` is
/// this process's name in leader election.
pub async fn start(
    args: &ConsoleArgs,
    identity: Option<String>,
    context: &Arc<Context>,
    shutdown: &Shutdown,
) -> Result<Option<SocketAddr>, ServerError> {
    let Some(address) = args.console_address else {
        return Ok(None);
    };
    let namespace = context.decision_args.watch_namespace.clone();
    let client = context.client.clone();
    let api: Api<Guarded> = match &namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let about = About {
        identity,
        namespace,
        selection: context.selection.clone(),
    };
    let (objects, writer) = reflector::store();
    let leadership = context.leadership.clone();
    let source = Arc::new(Source::new(about, objects, leadership, context.clock));
    let endpoint = Endpoint {
        name: "console",
        address,
        flag: "--console-address",
    };
    let router = web::router(Arc::clone(&source), &args.console_hosts);
    let address = server::serve(&endpoint, router, None, shutdown).await?;
    let (context, stopping) = (Arc::clone(context), shutdown.stopping());
    shutdown.spawn("console", async move {
        let need = |key: &_| context.read(key, |state| state.need);
        let follow = source.follow(api, writer, need);
        stopping.run_until_cancelled(follow).await;
    });
    Ok(Some(address))
}
