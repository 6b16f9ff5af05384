//! Kubeconfig files in many notations, the same ones in every run: for tests.

/// A small deterministic generator of numbers (xorshift64*).
pub(crate) struct Random {
    state: u64,
    suffix: String,
}

impl Random {
    /// A generator; equal seeds give equal files.
    pub(crate) fn new(seed: u64) -> Self {
        Random {
            state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            suffix: String::new(),
        }
    }

    /// As [`new`](Self::new), and all names end with the seed: files of different seeds have no
    /// name in common then, so that kubectl can read many at once.
    pub(crate) fn unique(seed: u64) -> Self {
        Random {
            suffix: format!("-{seed}"),
            ..Random::new(seed)
        }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A valid kubeconfig without entries of kubby's.
pub(crate) fn kubeconfig(r: &mut Random) -> String {
    let text = if r.chance(25) { json(r) } else { yaml(r) };
    let text = if r.chance(20) {
        text.replace('\n', "\r\n")
    } else {
        text
    };
    let text = if r.chance(5) {
        format!("\u{feff}{text}")
    } else {
        text
    };
    if r.chance(20) {
        text.trim_end().to_owned()
    } else {
        text
    }
}

const NAMES: [&str; 8] = [
    "prod",
    "dev",
    "\"no\"",
    "'it''s'",
    "\"a b: #c\"",
    "zürich",
    "\"7\"",
    "arn:aws/x@y",
];

/// Distinct names, so that kubectl accepts the file.
fn names(r: &mut Random) -> Vec<String> {
    let start = r.below(8) as usize;
    (0..r.below(4) as usize)
        .map(|i| suffixed(NAMES[(start + i * 3) % 8], &r.suffix))
        .collect()
}

/// A name with a suffix, within its quotes where it has any.
fn suffixed(name: &str, suffix: &str) -> String {
    match name.chars().last() {
        Some(quote @ ('"' | '\'')) => format!("{}{suffix}{quote}", &name[..name.len() - 1]),
        _ => format!("{name}{suffix}"),
    }
}

fn yaml(r: &mut Random) -> String {
    let mut out = String::new();
    if r.chance(20) {
        out += "# my clusters\n";
    }
    if r.chance(20) {
        out += r.pick(&["---\n", "--- # start\n"]);
    }
    let mut keys = vec![
        "apiVersion",
        "kind",
        "clusters",
        "users",
        "contexts",
        "current-context",
    ];
    if r.chance(40) {
        keys.push("preferences");
    }
    for i in (1..keys.len()).rev() {
        keys.swap(i, r.below(i as u64 + 1) as usize);
    }
    let indent = if r.chance(50) { 0 } else { 2 };
    for key in keys {
        if r.chance(15) {
            out += r.pick(&["# about the next\n", "\n", "\n\n", "   # odd indent\n"]);
        }
        match key {
            "apiVersion" => out += r.pick(&["apiVersion: v1\n", "\"apiVersion\": 'v1'\n"]),
            "kind" => out += r.pick(&["kind: Config\n", "kind:   Config  # x\n"]),
            "preferences" => {
                out += r.pick(&["preferences: {}\n", "preferences:\n  colors: true\n"])
            }
            "current-context" => {
                out += r.pick(&[
                    "",
                    "current-context: prod\n",
                    "current-context: \"\"\n",
                    "current-context:\n",
                    "'current-context': 'dev' # now\n",
                    "current-context: null\n",
                ]);
            }
            list => out += &yaml_list(r, list, indent),
        }
    }
    if r.chance(15) {
        out += r.pick(&["# the end\n", "\n\n", "...\n", "  # the end, indented\n"]);
    }
    out
}

fn yaml_list(r: &mut Random, key: &str, indent: usize) -> String {
    let names = names(r);
    if names.is_empty() {
        return match r.below(7) {
            0 => String::new(),
            1 => format!("{key}: []\n"),
            2 => format!("{key}: null # none\n"),
            3 => format!("{key}:\n"),
            4 => format!("{key}: ~\n"),
            5 => format!("{key}: [ ] # none\n"),
            _ => format!("\"{key}\" :   \n# none\n"),
        };
    }
    if r.chance(15) {
        let items: Vec<String> = names.iter().map(|n| flow_item(r, key, n)).collect();
        return match r.below(3) {
            0 => format!("{key}: [{}]\n", items.join(", ")),
            1 => format!(
                "{key}: [\n    {} # last\n  ]\n",
                items.join(", # first\n    ")
            ),
            _ => format!("{key}:\n  [ {}, ]\n", items.join(",\n    ")),
        };
    }
    let mut out = format!("{key}:{}\n", r.pick(&["", "", " # mine", "   "]));
    for name in names {
        if r.chance(15) {
            out += r.pick(&["# about this\n", "    # deep\n", "\n"]);
        }
        out += &block_item(r, key, &name, indent);
    }
    out
}

fn flow_item(r: &mut Random, key: &str, name: &str) -> String {
    let content = match key {
        "clusters" => "cluster: {server: \"https://a:1\"}",
        "users" => r.pick(&["user: {token: t0k}", "user: {}"]),
        _ => "context: {cluster: prod, user: dev}",
    };
    if r.chance(50) {
        format!("{{name: {name}, {content}}}")
    } else {
        format!("{{{content}, name: {name}}}")
    }
}

fn block_item(r: &mut Random, key: &str, name: &str, indent: usize) -> String {
    let pad = " ".repeat(indent);
    if r.chance(10) {
        return format!(
            "{pad}- {}{}\n",
            flow_item(r, key, name),
            r.pick(&["", " # inline"])
        );
    }
    let inner = match key {
        "clusters" => r.pick(&[
            "cluster:\n    server: https://10.0.0.1:6443\n    insecure-skip-tls-verify: true\n",
            "cluster:\n        certificate-authority-data: LS0tCg==\n        server: 'https://b'\n",
            "cluster:\n    server: >-\n      https://folded:1\n    extensions:\n    - name: x\n      extension:\n        a: [1, yes, ~]\n",
            "cluster: &shared\n    server: https://anchored # why\n",
        ]),
        "users" => r.pick(&[
            "user:\n    token: abc\n",
            "user:\n    exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: aws\n      args:\n      - eks\n      - '--x'\n      interactiveMode: Never\n      provideClusterInfo: false\n",
            "user:\n    username: |-\n      line # not a comment\n    password: \"tab\\there\"\n",
            "user: {}\n",
        ]),
        _ => r.pick(&[
            "context:\n    cluster: prod\n    user: dev\n",
            "context:\n    cluster: prod\n    user: dev\n    namespace: \"kube-system\" # ns\n",
            "context: {cluster: prod,\n     user: dev}\n",
        ]),
    };
    // Anchors of one name may be given twice; the later one counts.
    let lines: String = inner
        .lines()
        .enumerate()
        .map(|(i, l)| {
            if i == 0 {
                format!("{l}\n")
            } else {
                format!("{pad}{l}\n")
            }
        })
        .collect();
    match r.below(3) {
        0 => format!("{pad}- {lines}{pad}  name: {name}\n"),
        1 => format!("{pad}- name: {name}\n{pad}  {lines}"),
        _ => format!("{pad}-\n{pad}  name: {name}  # who\n{pad}  {lines}"),
    }
}

fn json(r: &mut Random) -> String {
    let mut members = vec![
        "\"apiVersion\": \"v1\"".to_owned(),
        "\"kind\": \"Config\"".to_owned(),
    ];
    for key in ["clusters", "users", "contexts"] {
        let items: Vec<String> = ["prod", "dev", "zürich", "a\\\"b"]
            .iter()
            .take(r.below(5) as usize)
            .map(|name| suffixed(name, &r.suffix))
            .map(|name| match key {
                "clusters" => {
                    format!("{{\"name\": \"{name}\", \"cluster\": {{\"server\": \"https://x\"}}}}")
                }
                "users" => format!("{{\"name\":\"{name}\",\"user\":{{\"token\":\"t\"}}}}"),
                _ => format!(
                    "{{\"name\": \"{name}\", \"context\": {{\"cluster\": \"a\", \"user\": \"b\"}}}}"
                ),
            })
            .collect();
        match (items.is_empty(), r.below(3)) {
            (true, 0) => {}
            (true, 1) => members.push(format!("\"{key}\": null")),
            (_, 2) => members.push(format!("\"{key}\": [\n    {}\n  ]", items.join(",\n    "))),
            _ => members.push(format!("\"{key}\": [{}]", items.join(", "))),
        }
    }
    if r.chance(50) {
        members.push("\"current-context\": \"prod\"".to_owned());
    }
    match r.below(4) {
        0 => format!("{{{}}}", members.join(",")),
        1 => format!("{{\n\t{}\n}}\n", members.join(",\n\t")),
        2 => format!("{{ {} }}\n", members.join(" , ")),
        _ => format!("{{\n  {}\n}}\n", members.join(",\n  ")),
    }
}
