//! The way of requests to kube-apiserver.

use std::time::Duration;

use ureq::http::Method;

use super::answer::Answer;
use crate::error::{Kind, Result, ResultExt};

/// The time limit of one request. A node under emulation answers in well under this even while
/// it starts; a longer silence means that it is not there yet, and the caller asks again.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// A request to kube-apiserver, by default `GET` without a body.
pub(crate) struct Request<'a> {
    /// `GET`, `PATCH` or `DELETE`.
    pub(crate) method: Method,
    /// The path with its query.
    pub(crate) path: &'a str,
    /// The media type that the answer should have, unless it is the usual one.
    pub(crate) accept: Option<&'a str>,
    /// The media type of the body, and the body.
    pub(crate) body: Option<(&'static str, String)>,
    /// The time limit.
    pub(crate) limit: Duration,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Request {
            method: Method::GET,
            path: "/",
            accept: None,
            body: None,
            limit: REQUEST_LIMIT,
        }
    }
}

/// The way to kube-apiserver: over HTTPS, and in tests to one in memory.
pub(crate) trait Transport: Send + Sync {
    /// Sends a request and returns the answer, whatever its status is.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    fn send(&self, request: &Request<'_>) -> Result<Answer>;
}

/// HTTPS on the host's loopback with a client certificate.
pub(super) struct Https {
    pub(super) agent: ureq::Agent,
    pub(super) base: String,
}

impl Transport for Https {
    fn send(&self, request: &Request<'_>) -> Result<Answer> {
        let fail = || format!("kube-apiserver did not answer {}", request.path);
        let mut head = ureq::http::Request::builder()
            .method(request.method.clone())
            .uri(format!("{}{}", self.base, request.path));
        if let Some(accept) = request.accept {
            head = head.header("Accept", accept);
        }
        let response = match &request.body {
            None => {
                let sent = head.body(()).context(Kind::Internal, fail)?;
                self.run(sent, request.limit)
            }
            Some((content_type, body)) => {
                let head = head.header("Content-Type", *content_type);
                let sent = head.body(body.as_str()).context(Kind::Internal, fail)?;
                self.run(sent, request.limit)
            }
        };
        let mut response = response.context(Kind::Unhealthy, fail)?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_string();
        Ok(Answer {
            status,
            body: body.context(Kind::Unhealthy, fail)?,
        })
    }
}

impl Https {
    fn run(
        &self,
        request: ureq::http::Request<impl ureq::AsSendBody>,
        limit: Duration,
    ) -> std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let request = self.agent.configure_request(request);
        let request = request.timeout_global(Some(limit)).build();
        self.agent.run(request)
    }
}
