//! The live page on the loopback interface: the page itself and a stream of news.
//!
//! News are Server-Sent Events, a few per second, each with what that page has not seen; the first
//! has everything so far. The stream ends with the run, and the page stays readable after it.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures_util::{Stream, stream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::hub::{Hub, Seen};
use super::page;

/// How long open pages are given to take the last news.
const FAREWELL: Duration = Duration::from_secs(2);

/// A server that runs until it is told to close.
#[derive(Debug)]
pub(super) struct Server {
    address: SocketAddr,
    close: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Serves `hub` on `port` of 127.0.0.1.
    pub(super) async fn start(port: u16, hub: Arc<Hub>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let routes = Router::new()
            .route("/", get(whole_page))
            .route("/events", get(events))
            .with_state(hub);
        let (close, closed) = oneshot::channel();
        let server = axum::serve(listener, routes).with_graceful_shutdown(async {
            // A sender that is gone closes as well.
            let _ = closed.await;
        });
        let task = tokio::spawn(async { server.await });
        Ok(Self {
            address,
            close,
            task,
        })
    }

    /// Where the page is.
    pub(super) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Lets open pages take the last news, then closes.
    pub(super) async fn close(self) {
        // Whoever does not listen any more needs no telling.
        let _ = self.close.send(());
        let abort = self.task.abort_handle();
        if tokio::time::timeout(FAREWELL, self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn whole_page(State(hub): State<Arc<Hub>>) -> Response {
    let empty = hub.record().emptied();
    match page::render(&empty, true) {
        Ok(html) => ([(header::CACHE_CONTROL, "no-store")], Html(html)).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn events(State(hub): State<Arc<Hub>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    struct Reader {
        hub: Arc<Hub>,
        version: tokio::sync::watch::Receiver<u64>,
        seen: Seen,
        ended: bool,
    }
    let mut version = hub.watch();
    version.mark_changed();
    let reader = Reader {
        hub,
        version,
        seen: Seen::default(),
        ended: false,
    };
    let news = stream::unfold(reader, |mut reader| async move {
        if reader.ended {
            return None;
        }
        reader.version.changed().await.ok()?;
        let (json, ended) = reader.hub.news(&mut reader.seen).ok()?;
        reader.ended = ended;
        Some((Ok(Event::default().data(json)), reader))
    });
    Sse::new(news).keep_alive(KeepAlive::default())
}
