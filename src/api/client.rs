//! The requests to kube-apiserver.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Method;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use super::answer::Answer;
use super::node::NodeStatus;
use super::transport::{Https, Request, Transport};
use crate::balancer::READY;
use crate::error::{Error, Kind, Result, ResultExt};
use crate::{fault, interrupt};

/// The time limit of one apply: the first one of a kind makes kube-apiserver build its schema.
const APPLY_LIMIT: Duration = Duration::from_secs(30);

/// The number of times that a request without an answer is sent.
const TRIES: u32 = 4;

/// The pause between two of them.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// The API of one cluster.
pub struct ApiClient {
    transport: Box<dyn Transport>,
}

impl ApiClient {
    /// Makes a client for the API on 127.0.0.1 at `port`, with PEM texts of the CA to trust and of the
    /// operator's certificate and key.
    ///
    /// # Errors
    /// [`Kind::State`] when a PEM text is damaged.
    pub fn new(port: u16, ca: &str, certificate: &str, key: &str) -> Result<Self> {
        let damaged = |what: &'static str| {
            move || format!("the cluster's {what} is damaged; `kubby start` renews what it can")
        };
        let ca =
            Certificate::from_pem(ca.as_bytes()).context(Kind::State, damaged("CA certificate"))?;
        let certificate = Certificate::from_pem(certificate.as_bytes())
            .context(Kind::State, damaged("admin certificate"))?;
        let key =
            PrivateKey::from_pem(key.as_bytes()).context(Kind::State, damaged("admin key"))?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&[ca]))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            // The address is this host's loopback: a proxy could only get in the way.
            .proxy(None)
            .build()
            .new_agent();
        Ok(ApiClient::over(Https {
            agent,
            base: format!("https://127.0.0.1:{port}"),
        }))
    }

    /// Makes a client that sends its requests in another way.
    pub(crate) fn over(transport: impl Transport + 'static) -> Self {
        ApiClient {
            transport: Box::new(transport),
        }
    }

    /// Sends `GET path`.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.transport.send(&Request {
            path,
            ..Request::default()
        })
    }

    /// Sends `GET path` of a list, for the table that kubectl shows of it.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn get_table(&self, path: &str) -> Result<Answer> {
        self.get_as(path, "application/json;as=Table;v=v1;g=meta.k8s.io")
    }

    /// Sends `GET path` for an answer in another form, which the media type `accept` names.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn get_as(&self, path: &str, accept: &str) -> Result<Answer> {
        self.transport.send(&Request {
            path,
            accept: Some(accept),
            ..Request::default()
        })
    }

    /// Sends `PATCH path` with a JSON merge patch.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn merge_patch(&self, path: &str, patch: &Value) -> Result<Answer> {
        fault::step("change an object", || {
            self.transport.send(&Request {
                method: Method::PATCH,
                path,
                body: Some(("application/merge-patch+json", patch.to_string())),
                ..Request::default()
            })
        })
    }

    /// Applies one object on the server, so that kubby owns its fields. Where others own one with
    /// another value the answer has status 409, unless `force` is set.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn apply(&self, path: &str, object: &Value, force: bool) -> Result<Answer> {
        fault::step("apply an object", || {
            self.transport.send(&Request {
                method: Method::PATCH,
                path: &format!("{path}?fieldManager=kubby&force={force}"),
                // JSON is YAML.
                body: Some(("application/apply-patch+yaml", object.to_string())),
                limit: APPLY_LIMIT,
                ..Request::default()
            })
        })
    }

    /// Sends `DELETE path`; the objects that it owns are deleted before it.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        self.delete_with(path, "propagationPolicy=Foreground")
    }

    /// Removes a pod without waiting for the kubelet, whose node is gone.
    ///
    /// # Errors
    /// As [`ApiClient::delete`].
    pub(crate) fn forget_pod(&self, path: &str) -> Result<Answer> {
        self.delete_with(path, "gracePeriodSeconds=0")
    }

    fn delete_with(&self, path: &str, options: &str) -> Result<Answer> {
        fault::step("delete an object", || {
            self.transport.send(&Request {
                method: Method::DELETE,
                path: &format!("{path}?{options}"),
                ..Request::default()
            })
        })
    }

    /// Sends `GET path` for an answer that has to be an object. Sends it again when there is no
    /// answer: on a busy machine a single request may take too long.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time, or not with an object.
    pub fn get_json(&self, path: &str) -> Result<Value> {
        let answer = patiently(|| self.get(path))?;
        answer.require_json(&format!("asking for {path}"))
    }

    /// Sends a [`ApiClient::merge_patch`] that has to succeed, again and again as
    /// [`ApiClient::get_json`].
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time, or with an error.
    pub fn require_patch(&self, path: &str, patch: &Value) -> Result<()> {
        let answer = patiently(|| self.merge_patch(path, patch))?;
        answer.require(&format!("changing {path}")).map(drop)
    }

    /// Checks that kube-apiserver reports that it is ready, see [`READY`].
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] with the reason when it is not.
    pub fn ready(&self) -> Result<()> {
        let answer = self.get(&format!("{READY}&verbose=true"))?;
        if answer.is_ok() {
            return Ok(());
        }
        let lines = answer.body.lines();
        let failing: Vec<&str> = lines.filter(|line| line.starts_with("[-]")).collect();
        let message = format!("kube-apiserver is not ready (HTTP {})", answer.status);
        Err(Error::unhealthy(message).with_detail("failing checks", failing.join("\n")))
    }

    /// Checks that kube-apiserver accepts the administrator's objects: it is ready, and the system's namespace
    /// exists.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] with the reason when it does not.
    pub fn takes_objects(&self) -> Result<()> {
        self.ready()?;
        let answer = self.get("/api/v1/namespaces/kube-system")?;
        let what = "asking for the namespace kube-system";
        answer.require(what).map(drop)
    }

    /// Returns whether kube-apiserver is nearly ready: of the roles and bindings that it makes for the
    /// system's users one by one, it has made the roles.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn nearly_ready(&self) -> Result<bool> {
        // The first that it makes; add-ons have others.
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin";
        Ok(self.get(path)?.is_ok())
    }

    /// Returns the status of a node; `None` where it is not registered yet.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when the API does not answer as it should.
    pub fn node(&self, name: &str) -> Result<Option<NodeStatus>> {
        let answer = self.get(&format!("/api/v1/nodes/{name}"))?;
        if answer.status == 404 {
            return Ok(None);
        }
        let node = answer.require_json("asking for the node")?;
        Ok(Some(NodeStatus::of(&node)))
    }

    /// Returns whether the controllers have made the account that pods of the namespace `default`
    /// run as: without it no pod is admitted there.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when kube-apiserver does not answer.
    pub fn takes_pods(&self) -> Result<bool> {
        let path = "/api/v1/namespaces/default/serviceaccounts/default";
        Ok(self.get(path)?.is_ok())
    }

    /// Returns whether the kubelet of a node reports that it is healthy, through kube-apiserver.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when kube-apiserver does not answer.
    pub fn kubelet_healthy(&self, node: &str) -> Result<bool> {
        let answer = self.get(&format!("/api/v1/nodes/{node}/proxy/healthz"))?;
        Ok(answer.is_ok() && answer.body.trim() == "ok")
    }
}

/// Repeats a request that gets no answer, unless the user presses Ctrl-C. The request has to do no
/// harm when it is done twice.
fn patiently<T>(request: impl Fn() -> Result<T>) -> Result<T> {
    let mut last = request();
    for _ in 1..TRIES {
        if last.is_ok() {
            break;
        }
        interrupt::sleep(BETWEEN_TRIES)?;
        last = request();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_an_answer_is_repeated_a_few_times() {
        let count = std::cell::Cell::new(0);
        let ask = |good_from: u32| {
            count.set(0);
            patiently(|| {
                count.set(count.get() + 1);
                if count.get() >= good_from {
                    Ok(())
                } else {
                    Err(Error::unhealthy("no answer"))
                }
            })
        };
        ask(1).unwrap();
        assert_eq!(count.get(), 1);
        ask(2).unwrap();
        assert_eq!(count.get(), 2);
        ask(99).unwrap_err();
        assert_eq!(count.get(), TRIES);
    }

    #[test]
    fn damaged_keys_are_refused() {
        assert_eq!(
            ApiClient::new(1, "x", "y", "z").err().unwrap().kind(),
            Kind::State
        );
    }
}
