//! Two network namespaces with the program between them; all gone when dropped.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Timings are measured here: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

pub struct Fixture {
    left: String,
    right: String,
    folder: TempDir,
    program: Child,
    server: Option<Child>,
    _alone: MutexGuard<'static, ()>,
}

#[derive(Debug)]
pub struct Ping {
    pub received: u32,
    pub average_ms: f64,
    /// Standard deviation.
    pub spread_ms: f64,
}

pub struct Flow(Child);

impl Fixture {
    pub fn new(name: &str) -> Fixture {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let [left, right] =
            ["l", "r"].map(|side| format!("dll-{}-{name}-{side}", std::process::id()));
        for namespace in [&left, &right] {
            run("ip", &["netns", "add", namespace]);
        }
        let folder = tempfile::tempdir().unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_drover-lab-link"))
            .args([
                "--left",
                &format!("/run/netns/{left}"),
                "--right",
                &format!("/run/netns/{right}"),
            ])
            .args([
                "--left-address",
                "10.77.0.1/30",
                "--right-address",
                "10.77.0.2/30",
            ])
            .args(["--seed", "7", "--control"])
            .arg(folder.path().join("link.sock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(program.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        assert_eq!(ready, "ready\n", "is this root?");
        let mut fixture = Fixture {
            left,
            right,
            folder,
            program,
            server: None,
            _alone: alone,
        };
        fixture.serve();
        fixture
    }

    pub fn ask(&self, line: &str) -> Value {
        let mut stream = UnixStream::connect(self.control()).unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    pub fn get(&self) -> Value {
        self.ask(r#"{"get":{}}"#)
    }

    pub fn set(&self, settings: &Value) {
        let answer = self.ask(&json!({ "set": settings }).to_string());
        assert!(answer.get("error").is_none(), "{answer}");
    }

    pub fn set_one(&self, direction: &str, settings: &Value) {
        let answer = self.ask(&json!({ "set": settings, "direction": direction }).to_string());
        assert!(answer.get("error").is_none(), "{answer}");
    }

    /// UDP datagrams there and back.
    pub fn ping(&self, count: u32, interval: f64) -> Ping {
        let (count, interval) = (count.to_string(), interval.to_string());
        let arguments = [&flow_program(), "ping", &server(), &count, &interval];
        let output = inside(&self.left, &arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers: Vec<f64> = text
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let [received, average_ms, spread_ms] = numbers[..] else {
            panic!("{output:?}")
        };
        Ping {
            received: received as u32,
            average_ms,
            spread_ms,
        }
    }

    /// Bits/s of a TCP flow from left to right.
    pub fn flow(&self, seconds: f64) -> f64 {
        let output = self.sender(seconds).output().unwrap();
        parse(&output)
    }

    pub fn start_flow(&self, seconds: f64) -> Flow {
        Flow(self.sender(seconds).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn sender(&self, seconds: f64) -> Command {
        inside(
            &self.left,
            &[&flow_program(), "send", &server(), &seconds.to_string()],
        )
    }

    /// Starts the receiver of flows at the right.
    fn serve(&mut self) {
        let mut server = inside(&self.right, &[&flow_program(), "serve", &server()]);
        let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
        let mut listening = String::new();
        BufReader::new(server.stdout.take().unwrap())
            .read_line(&mut listening)
            .unwrap();
        self.server = Some(server);
    }

    pub fn has_devices(&self) -> bool {
        [&self.left, &self.right].iter().any(|namespace| {
            inside(namespace, &["ip", "link", "show", "drover0"])
                .output()
                .unwrap()
                .status
                .success()
        })
    }

    pub fn control_exists(&self) -> bool {
        self.control().exists()
    }

    pub fn terminate(&mut self) -> ExitStatus {
        run("kill", &["-TERM", &self.program.id().to_string()]);
        self.program.wait().unwrap()
    }

    fn control(&self) -> PathBuf {
        self.folder.path().join("link.sock")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for child in [Some(&mut self.program), self.server.as_mut()]
            .into_iter()
            .flatten()
        {
            let _ = child.kill();
            let _ = child.wait();
        }
        for namespace in [&self.left, &self.right] {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

impl Flow {
    pub fn finish(self) -> f64 {
        parse(&self.0.wait_with_output().unwrap())
    }
}

/// The receiver of flows, at the right.
fn server() -> String {
    "10.77.0.2:7000".to_owned()
}

fn parse(output: &Output) -> f64 {
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().unwrap_or_else(|_| panic!("{output:?}"))
}

fn inside(namespace: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).args(arguments);
    command
}

/// The example that cargo builds together with the tests.
fn flow_program() -> String {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_drover-lab-link"));
    program
        .with_file_name("examples")
        .join("flow")
        .to_string_lossy()
        .into_owned()
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}");
}
