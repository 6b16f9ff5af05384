//! A small client of kube-apiserver for kubby's own questions: is it ready, what of the node.
//! Everything that a user asks goes through kubectl.

use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};

use crate::error::{Error, Kind, Result, ResultExt};
use crate::{fault, interrupt};

/// How long one request may take. A node under emulation answers in well under this even while
/// it starts; a longer silence means that it is not there yet, and the caller asks again.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// How long one apply may take: the first one of a kind makes kube-apiserver build its schema.
const APPLY_LIMIT: Duration = Duration::from_secs(30);

/// How often a request is sent that nobody answers.
const TRIES: u32 = 4;

/// The pause between two of them.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// The API of one cluster, reached on the host's loopback with a client certificate.
pub struct ApiClient {
    agent: ureq::Agent,
    base: String,
}

/// What the API answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// Whether the status is 200 to 299.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The API's own words for what it refused, else the body.
    pub fn message(&self) -> String {
        let status: Value = serde_json::from_str(&self.body).unwrap_or_default();
        match status["message"].as_str() {
            Some(message) => message.to_owned(),
            None => self.body.chars().take(1000).collect(),
        }
    }

    /// The body of a good answer; `what` names the request in the error.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] with the API's words for any other answer.
    pub fn require(self, what: &str) -> Result<String> {
        if self.is_ok() {
            return Ok(self.body);
        }
        Err(
            Error::new(Kind::Unhealthy, format!("{what} gave HTTP {}", self.status))
                .with_detail("kube-apiserver says", self.message()),
        )
    }
}

impl ApiClient {
    /// A client for the API on 127.0.0.1 at `port`, with PEM texts of the CA to trust and of the
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
            .timeout_global(Some(REQUEST_LIMIT))
            .http_status_as_error(false)
            // The address is this host's loopback: a proxy could only get in the way.
            .proxy(None)
            .build()
            .new_agent();
        Ok(ApiClient {
            agent,
            base: format!("https://127.0.0.1:{port}"),
        })
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let response = self.agent.get(format!("{}{path}", self.base)).call();
        Self::answer(response, path)
    }

    /// `GET path` of a list, as the table that kubectl shows of it.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn get_table(&self, path: &str) -> Result<Answer> {
        self.get_as(path, "application/json;as=Table;v=v1;g=meta.k8s.io")
    }

    /// `GET path` in another form, as the media type `accept` tells.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn get_as(&self, path: &str, accept: &str) -> Result<Answer> {
        let request = self.agent.get(format!("{}{path}", self.base));
        Self::answer(request.header("Accept", accept).call(), path)
    }

    /// `PATCH path` with a JSON merge patch.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn merge_patch(&self, path: &str, patch: &Value) -> Result<Answer> {
        fault::step("change an object", || {
            let response = self
                .agent
                .patch(format!("{}{path}", self.base))
                .content_type("application/merge-patch+json")
                .send(patch.to_string());
            Self::answer(response, path)
        })
    }

    /// Server-side apply of one object: what it says becomes so, and kubby owns those fields.
    /// Where others own one with another value the answer has status 409, unless `force` is set.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn apply(&self, path: &str, object: &Value, force: bool) -> Result<Answer> {
        fault::step("apply an object", || {
            let response = self
                .agent
                .patch(format!(
                    "{}{path}?fieldManager=kubby&force={force}",
                    self.base
                ))
                .config()
                .timeout_global(Some(APPLY_LIMIT))
                .build()
                .content_type("application/apply-patch+yaml")
                // JSON is YAML.
                .send(object.to_string());
            Self::answer(response, path)
        })
    }

    /// `DELETE path`; what the object owns goes before it does.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn delete(&self, path: &str) -> Result<Answer> {
        fault::step("delete an object", || {
            let response = self
                .agent
                .delete(format!("{}{path}?propagationPolicy=Foreground", self.base))
                .call();
            Self::answer(response, path)
        })
    }

    /// `GET path`, whose answer has to be an object. Asked again when there is no answer: on a
    /// busy machine a single request may well take too long.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time, or not with an object.
    pub fn get_json(&self, path: &str) -> Result<Value> {
        let answer = patiently(|| self.get(path))?;
        let body = answer.require(&format!("asking for {path}"))?;
        serde_json::from_str(&body).context(Kind::Unhealthy, || {
            format!("kube-apiserver's answer to {path} does not parse")
        })
    }

    /// [`ApiClient::merge_patch`] that has to be taken, tried again as [`ApiClient::get_json`].
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time, or with an error.
    pub fn require_patch(&self, path: &str, patch: &Value) -> Result<()> {
        let answer = patiently(|| self.merge_patch(path, patch))?;
        if answer.is_ok() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Unhealthy,
            format!(
                "kube-apiserver refused a change of {path} (HTTP {})",
                answer.status
            ),
        )
        .with_detail("the answer", answer.body))
    }

    fn answer(
        response: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        path: &str,
    ) -> Result<Answer> {
        let fail = || format!("kube-apiserver did not answer {path}");
        let mut response = response.context(Kind::Unhealthy, fail)?;
        let status = response.status().as_u16();
        let body = response
            .body_mut()
            .read_to_string()
            .context(Kind::Unhealthy, fail)?;
        Ok(Answer { status, body })
    }

    /// Whether kube-apiserver says that it is ready.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] with the reason when it is not.
    pub fn ready(&self) -> Result<()> {
        self.is_ready("/readyz?verbose=true")
    }

    /// Whether kube-apiserver takes the operator's objects: it is ready but for the roles of the
    /// system's other users, which a new cluster's makes one by one, and the system's namespace is
    /// there.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] with the reason when it does not.
    pub fn takes_objects(&self) -> Result<()> {
        self.is_ready("/readyz?verbose=true&exclude=poststarthook/rbac/bootstrap-roles")?;
        let answer = self.get("/api/v1/namespaces/kube-system")?;
        answer
            .require("asking for the namespace kube-system")
            .map(drop)
    }

    /// Whether kube-apiserver is nearly ready: of the roles and bindings that it makes for the
    /// system's users one by one, it has made the roles.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when nothing answers in time.
    pub fn nearly_ready(&self) -> Result<bool> {
        // The first that it makes; add-ons bring others.
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/cluster-admin";
        Ok(self.get(path)?.is_ok())
    }

    fn is_ready(&self, path: &str) -> Result<()> {
        let answer = self.get(path)?;
        if answer.is_ok() {
            return Ok(());
        }
        let failing: Vec<&str> = answer
            .body
            .lines()
            .filter(|line| line.starts_with("[-]"))
            .collect();
        Err(Error::new(
            Kind::Unhealthy,
            format!("kube-apiserver is not ready (HTTP {})", answer.status),
        )
        .with_detail("failing checks", failing.join("\n")))
    }

    /// The Node object; `None` where it is not registered yet.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when the API does not answer as it should.
    pub fn node(&self, name: &str) -> Result<Option<Node>> {
        let answer = self.get(&format!("/api/v1/nodes/{name}"))?;
        match answer.status {
            404 => Ok(None),
            200 => Node::parse(&answer.body).map(Some),
            status => Err(Error::new(
                Kind::Unhealthy,
                format!("asking for the node gave HTTP {status}"),
            )
            .with_detail("the answer", answer.body)),
        }
    }

    /// Whether the controllers have made the account that pods of the namespace `default` run
    /// as: without it no pod is admitted there.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when kube-apiserver does not answer.
    pub fn takes_pods(&self) -> Result<bool> {
        self.get("/api/v1/namespaces/default/serviceaccounts/default")
            .map(|a| a.is_ok())
    }

    /// Whether the kubelet of a node says that it is well, asked through kube-apiserver.
    ///
    /// # Errors
    /// [`Kind::Unhealthy`] when kube-apiserver does not answer.
    pub fn kubelet_healthy(&self, node: &str) -> Result<bool> {
        let answer = self.get(&format!("/api/v1/nodes/{node}/proxy/healthz"))?;
        Ok(answer.is_ok() && answer.body.trim() == "ok")
    }
}

/// Repeats a request that gets no answer, as long as nobody presses Ctrl-C. The request must do
/// no harm when it is done twice.
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

/// What kubby wants to know of a Node object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The condition `Ready` is `True`.
    pub ready: bool,
    /// The reason and message of the condition `Ready`.
    pub reason: String,
    /// The kubelet's version with `v`.
    pub kubelet_version: String,
    /// It has the role label `control-plane`.
    pub control_plane: bool,
}

/// The label by which kubectl shows the role `control-plane`.
pub const CONTROL_PLANE_LABEL: &str = "node-role.kubernetes.io/control-plane";

impl Node {
    fn parse(body: &str) -> Result<Self> {
        let node: Value = serde_json::from_str(body).context(Kind::Unhealthy, || {
            "kube-apiserver sent a Node that does not parse".into()
        })?;
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let ready = node["status"]["conditions"]
            .as_array()
            .and_then(|all| all.iter().find(|c| c["type"] == "Ready"));
        Ok(Node {
            ready: ready.is_some_and(|c| c["status"] == "True"),
            reason: ready.map_or_else(
                || "no condition reported yet".to_owned(),
                |c| format!("{}: {}", text(&c["reason"]), text(&c["message"])),
            ),
            kubelet_version: text(&node["status"]["nodeInfo"]["kubeletVersion"]),
            control_plane: node["metadata"]["labels"]
                .get(CONTROL_PLANE_LABEL)
                .is_some(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_read() {
        let body = r#"{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}},
            "status":{"conditions":[{"type":"MemoryPressure","status":"False"},
            {"type":"Ready","status":"False","reason":"KubeletNotReady","message":"cni"}],
            "nodeInfo":{"kubeletVersion":"v1.37.2"}}}"#;
        let node = Node::parse(body).unwrap();
        assert!(!node.ready);
        assert!(node.control_plane);
        assert_eq!(node.reason, "KubeletNotReady: cni");
        assert_eq!(node.kubelet_version, "v1.37.2");
    }

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
                    Err(Error::new(Kind::Unhealthy, "no answer"))
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
    fn a_fresh_node_is_not_ready() {
        let node = Node::parse("{}").unwrap();
        assert!(!node.ready && !node.control_plane);
    }

    #[test]
    fn damaged_keys_are_refused() {
        assert_eq!(
            ApiClient::new(1, "x", "y", "z").err().unwrap().kind(),
            Kind::State
        );
    }
}
