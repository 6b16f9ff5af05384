//! The check of requests: only a browser with the secret may send them, and only to this address.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::answer::refusal;

/// A secret that only the user's page knows: 244 random bits of the operating system's.
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn new() -> Self {
        let half = || Uuid::new_v4().simple().to_string();
        Secret(half() + &half())
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn opens(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let token = given.and_then(|given| given.strip_prefix("Bearer "));
        token.is_some_and(|token| self.is(token))
    }

    /// Compares every byte, so that the time does not show how many are right.
    fn is(&self, other: &str) -> bool {
        let pairs = self.0.bytes().zip(other.bytes());
        let differing = pairs.fold(0, |so_far, (a, b)| so_far | (a ^ b));
        self.0.len() == other.len() && differing == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The host names of the page. Its port is another one at the far end of a tunnel.
const HOSTS: [&str; 2] = ["127.0.0.1", "localhost"];

/// Returns whether a request names this host. A page whose name was changed to lead to 127.0.0.1
/// (DNS rebinding) has that name in its requests.
fn is_asked_for(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    HOSTS.contains(&name) && port.parse::<u16>().is_ok()
}

/// Refuses requests for another host, and adds headers to each answer that keep browsers from running
/// foreign scripts, framing the page, guessing types, and caching.
pub(super) async fn check_host(request: Request, next: Next) -> Response {
    let mut response = if is_asked_for(request.headers()) {
        next.run(request).await
    } else {
        refusal(
            StatusCode::MISDIRECTED_REQUEST,
            "this server is 127.0.0.1 and no other host",
        )
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Refuses requests about the cluster without the secret.
pub(super) async fn require_secret(
    State(secret): State<Arc<Secret>>,
    request: Request,
    next: Next,
) -> Response {
    if secret.opens(request.headers()) {
        next.run(request).await
    } else {
        let words = "open the address that `kubby dashboard` printed: it has the token";
        refusal(StatusCode::UNAUTHORIZED, words).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_the_own_address_is_asked_for() {
        for (host, good) in [
            ("127.0.0.1:4321", true),
            ("localhost:4321", true),
            ("127.0.0.1", true),
            ("evil.example:4321", false),
            ("127.0.0.1:4321.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("localhost:", false),
            ("", false),
        ] {
            assert_eq!(is_asked_for(&headers(HOST, host)), good, "{host}");
        }
        assert!(!is_asked_for(&HeaderMap::new()));
    }

    #[test]
    fn only_the_whole_secret_opens() {
        let secret = Secret::new();
        let text = secret.text().to_owned();
        assert_eq!(text.len(), 64);
        assert!(!format!("{secret:?}").contains(&text));
        let knows = |value: &str| secret.opens(&headers(AUTHORIZATION, value));
        assert!(knows(&format!("Bearer {text}")));
        for wrong in [
            text.clone(),
            format!("Basic {text}"),
            format!("Bearer {}", &text[..63]),
            format!("Bearer {text}0"),
            format!("Bearer {}", Secret::new().text()),
            "Bearer ".to_owned(),
        ] {
            assert!(!knows(&wrong), "{wrong}");
        }
        assert!(!secret.opens(&HeaderMap::new()));
    }
}
