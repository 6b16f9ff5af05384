//! `kubby dashboard`: a page for the browser that shows what is in a cluster and changes some of it,
//! as `kubectl` would. kubby itself serves it on the host's loopback for as long as the command runs;
//! nothing is installed in the cluster, and the operator's key stays with kubby.
//!
//! Other users of the host reach the loopback as well, and so does any page that the browser shows.
//! So whoever asks for anything but the page's own files has to know a secret that is made for each
//! run and that the page gets in its address's fragment, which browsers send nowhere.

mod clean;
mod guard;
mod kinds;
mod object;
mod server;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::api::ApiClient;
use crate::error::{Kind, Result, ResultExt};
use crate::interrupt;

/// How often a signal is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How many requests the API is asked at a time: a browser sends them all at once, and an emulated
/// node answers none sooner for it.
const AT_A_TIME: usize = 4;

/// What the page is about.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The profile.
    pub profile: String,
    /// The version of Kubernetes, with `v`.
    pub version: String,
    /// Nothing may be changed through the page.
    pub read_only: bool,
}

/// A dashboard that has its port, and serves nothing yet.
#[derive(Debug)]
pub struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    secret: guard::Secret,
}

impl Dashboard {
    /// Takes a port of 127.0.0.1, a free one for 0.
    ///
    /// # Errors
    /// [`Kind::Preflight`] when the port cannot be had.
    pub fn bind(port: u16) -> Result<Self> {
        let taken = || format!("cannot listen on port {port} of 127.0.0.1");
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context(Kind::Preflight, taken)?;
        let address = listener.local_addr().context(Kind::Preflight, taken)?;
        Ok(Dashboard {
            listener,
            address,
            secret: guard::Secret::new(),
        })
    }

    /// What to open in the browser. It holds the secret: whoever knows it may do what the page can.
    pub fn url(&self) -> String {
        format!("http://{}/#token={}", self.address, self.secret.text())
    }

    /// Serves until a signal comes, which is how it is meant to end.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the operating system refuses a socket or a thread.
    pub fn serve(self, api: ApiClient, subject: Subject) -> Result<()> {
        let failed = || "cannot serve the dashboard".to_owned();
        let router = server::router(server::Surroundings {
            api: Arc::new(api),
            subject,
            secret: self.secret,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(AT_A_TIME)
            .build()
            .context(Kind::Internal, failed)?;
        let served = runtime.block_on(async {
            self.listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(self.listener)?;
            tokio::select! {
                ended = async { axum::serve(listener, router).await } => ended,
                () = until_interrupted() => Ok(()),
            }
        });
        // A request that the API does not answer must not hold the end up.
        runtime.shutdown_background();
        served.context(Kind::Internal, failed)
    }
}

/// What is in a list of the API's; nothing where there is none.
fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

async fn until_interrupted() {
    while interrupt::check().is_ok() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
