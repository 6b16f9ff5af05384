//! `kubby dashboard`: a page for the browser that shows the objects of a cluster and changes some of
//! them, as `kubectl` would. kubby itself serves it on the host's loopback while the command runs;
//! nothing is installed in the cluster, and the administrator's key stays with kubby.
//!
//! Other users of the host reach the loopback as well, and so does any page that the browser shows.
//! Requests for anything but the page's own files therefore need a secret that is made for each run
//! and that the page gets in its address's fragment, which browsers send nowhere.

mod answer;
mod clean;
mod guard;
mod kinds;
mod server;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use crate::api::ApiClient;
use crate::error::{Kind, Result, ResultExt};
use crate::interrupt;

pub(crate) use server::Subject;

/// The pause between two checks for a signal.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The most requests that are sent to the API at a time: a browser sends them all at once, and an emulated
/// node answers none sooner for it.
const AT_A_TIME: usize = 4;

/// A dashboard that has its port, and does not serve yet.
#[derive(Debug)]
pub(crate) struct Dashboard {
    listener: TcpListener,
    address: SocketAddr,
    secret: guard::Secret,
}

impl Dashboard {
    /// Listens on a port of 127.0.0.1, a free one for 0.
    ///
    /// # Errors
    /// [`Kind::Preflight`] when the port cannot be had.
    pub(crate) fn bind(port: u16) -> Result<Self> {
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

    /// Returns the address to open in the browser. It holds the secret, which allows all that the page
    /// can do.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/#token={}", self.address, self.secret.text())
    }

    /// Serves until a signal comes, which is its usual end.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the operating system refuses a socket or a thread.
    pub(crate) fn serve(self, api: ApiClient, subject: Subject) -> Result<()> {
        let failed = || "cannot serve the dashboard".to_owned();
        let router = server::router(api, subject, self.secret);
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
        // A request that the API does not answer cannot delay the end.
        runtime.shutdown_background();
        served.context(Kind::Internal, failed)
    }
}

async fn until_interrupted() {
    while interrupt::check().is_ok() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
