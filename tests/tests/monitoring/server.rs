//! Prometheus, Debian's, as a process of the test: asked over HTTP, and waited for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A process that ends with the test.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// Starts it, without a word to this test's output.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub(crate) fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(
            quiet
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}; .ci/run installs what is needed")),
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An address of this machine whose port was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address")
}

/// What is at `path` there; nothing if nobody answers, or not with 200.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    // HTTP/1.0, so that the answer ends with the connection and is not sent in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Prometheus {
    address: SocketAddr,
    _process: Running,
}

impl Prometheus {
    /// Starts one with this configuration, which keeps its data in `storage`.
    pub(crate) fn start(config: &Path, storage: &Path) -> Self {
        let address = free_address();
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", storage.display()))
            .arg(format!("--web.listen-address={address}"));
        let server = Self { address, _process: Running::start(&mut command) };
        wait_for("prometheus to be ready", || get(address, "/-/ready"));
        server
    }

    /// The `data` of an answer of the API, with these parameters.
    ///
    /// # Panics
    ///
    /// If the server refuses the question: a query with a mistake in it, say.
    pub(crate) fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let parameters: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        let answer = get(self.address, &format!("/api/v1/{path}?{}", parameters.join("&")));
        let answer = answer.unwrap_or_else(|| panic!("{path} refuses {parameters:?}"));
        let mut answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}");
        answer["data"].take()
    }

    /// What a query gives now.
    pub(crate) fn now(&self, query: &str) -> Found {
        Found::of(&self.ask("query", &[("query", query)]))
    }

    /// What a query gives over the last minute, as the panels with a line over time ask.
    pub(crate) fn lately(&self, query: &str) -> Found {
        let now = self.ask("query", &[("query", "time()")])["result"][0].as_f64().expect("a time");
        let (start, end) = ((now - 60.0).to_string(), now.to_string());
        Found::of(
            &self.ask("query_range", &[("query", query), ("start", &start), ("end", &end), ("step", "1")]),
        )
    }
}

/// What a query has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Found {
    /// Series, also those that are no numbers.
    pub(crate) series: usize,
    /// Points that are numbers: a quantile of nothing is none.
    pub(crate) points: usize,
}

impl Found {
    fn of(data: &Value) -> Self {
        let number = |point: &Value| point[1].as_str().and_then(|text| text.parse::<f64>().ok());
        let finite = |point: &Value| number(point).is_some_and(f64::is_finite);
        let series = data["result"].as_array().expect("series");
        let points = series.iter().map(|series| match &series["values"] {
            Value::Array(points) => points.iter().filter(|point| finite(point)).count(),
            _ => usize::from(finite(&series["value"])),
        });
        Self { series: series.len(), points: points.sum() }
    }
}

/// Asks again and again until there is an answer.
///
/// # Panics
///
/// If there is none after two minutes.
#[allow(
    clippy::disallowed_methods,
    reason = "another process is waited for, which tells nobody when it is ready"
)]
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited two minutes for {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// As a part of a URL.
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
