//! A `drover-engine` process and its API.

use super::until;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

pub struct Engine {
    pub api: PathBuf,
    pub state: PathBuf,
    pub log: PathBuf,
    child: Child,
}

impl Engine {
    pub fn start(folder: &Path, name: &str) -> Engine {
        let path = |end: &str| folder.join(format!("{name}.{end}"));
        let (api, state, log) = (path("sock"), path("state"), path("log"));
        let child = spawn(&api, &state, &log);
        let engine = Engine {
            api,
            state,
            log,
            child,
        };
        engine.wait_ready();
        engine
    }

    fn wait_ready(&self) {
        until("the engine's API", || UnixStream::connect(&self.api).ok());
    }

    /// kill -9, and a new process with the same state.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.child = spawn(&self.api, &self.state, &self.log);
        until("the API of the new engine", || {
            let engine = self.try_call("GET", "/v1/engine", &Value::Null)?;
            (engine.1["pid"] == self.child.id()).then_some(())
        });
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the process to end by itself.
    pub fn ended(&mut self) -> bool {
        until("the end of the engine", || self.child.try_wait().unwrap()).success()
    }

    pub fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.try_call(method, path, &body)
            .unwrap_or_else(|| panic!("{method} {path}: no answer"))
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
        let mut stream = UnixStream::connect(&self.api).ok()?;
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: engine\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).ok()?))
    }

    /// Demands success.
    pub fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body);
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// Demands an error; returns its status and code.
    pub fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let (status, answer) = self.call(method, path, body);
        assert!(status >= 400, "{method} {path}: {status} {answer}");
        (
            status,
            answer["code"]
                .as_str()
                .unwrap_or_else(|| panic!("{answer}"))
                .to_owned(),
        )
    }

    pub fn put_vdisk(&self, size: u64, endpoint: Value) {
        self.ok(
            "PUT",
            "/v1/vdisks/vda",
            json!({ "size": size, "endpoint": endpoint }),
        );
    }

    pub fn status(&self) -> Value {
        self.ok("GET", "/v1/status", Value::Null)
    }

    pub fn vdisk(&self) -> Value {
        self.status()["vdisks"]["vda"].clone()
    }

    /// Waits for "held" and returns its error.
    pub fn wait_held(&self) -> Value {
        until("a held VDISK", || {
            let vdisk = self.vdisk();
            (vdisk["state"] == "held").then(|| vdisk["error"].clone())
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!(
                "--- {}\n{}",
                self.log.display(),
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
    }
}

fn spawn(api: &Path, state: &Path, log: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drover-engine"));
    command
        .arg("serve")
        .arg("--api")
        .arg(api)
        .arg("--state")
        .arg(state)
        .arg("--log")
        .arg(log);
    command.spawn().unwrap()
}
