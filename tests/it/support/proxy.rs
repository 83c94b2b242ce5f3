//! The executable under test.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::{DEADLINE, Upstream, Wire};

/// Its path.
pub(crate) const EXECUTABLE: &str = env!("CARGO_BIN_EXE_headwater");

/// A running proxy; killed when dropped.
pub(crate) struct Proxy {
    process: Child,
    output: Receiver<String>,
    announced: Vec<String>,
    listening: BTreeMap<String, String>,
    directory: TempDir,
}

impl Proxy {
    /// Starts with this `proxy.yaml` and waits until every listener is bound.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_in(TempDir::new().unwrap(), config)
    }

    /// Starts in a directory that already holds what the configuration names.
    pub(crate) fn start_in(directory: TempDir, config: &str) -> Self {
        Self::start_by(directory, config, program())
    }

    /// As [`Self::start_in`], with a file of that directory named in the environment.
    pub(crate) fn start_with(
        (variable, file): (&str, &str),
        directory: TempDir,
        config: &str,
    ) -> Self {
        let mut command = program();
        command.env(variable, directory.path().join(file));
        Self::start_by(directory, config, command)
    }

    /// As [`Proxy::start_in`], by a command that ends with the path of the executable.
    pub(crate) fn start_by(directory: TempDir, config: &str, command: Command) -> Self {
        let mut proxy = Self::spawn(directory, config, command);
        let began = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            let line = match proxy.output.recv_timeout(left) {
                Ok(line) => line,
                Err(error) => panic!("the proxy did not start: {error}"),
            };
            eprintln!("{line}");
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("ready"), Some("in")) => return proxy,
                (Some(listener), Some(url)) if url.contains(':') => {
                    proxy.listening.insert(listener.into(), url.into());
                }
                _ => {}
            }
            proxy.announced.push(line);
        }
    }

    /// The exit code of a start that is to fail.
    pub(crate) fn fails(config: &str) -> Option<i32> {
        let mut proxy = Self::spawn(TempDir::new().unwrap(), config, program());
        proxy.ended().code()
    }

    fn spawn(directory: TempDir, config: &str, mut command: Command) -> Self {
        std::fs::write(directory.path().join("proxy.yaml"), config).unwrap();
        let mut process = command
            .args(["run", "--config", "proxy.yaml"])
            .args(["--log-format", "text", "--color", "never"])
            .current_dir(directory.path())
            .env_remove("HEADWATER_LOG")
            .env_remove("HEADWATER_ADMIN_ADDRESS")
            .env_remove("KUBERNETES_SERVICE_HOST")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the executable starts");
        let stderr = process.stderr.take().unwrap();
        let (lines, output) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens once the test is over.
                let _ = lines.send(line);
            }
        });
        Self {
            process,
            output,
            announced: Vec::new(),
            listening: BTreeMap::new(),
            directory,
        }
    }

    /// Puts another `proxy.yaml` in the place of the one there, at once.
    pub(crate) fn reconfigure(&self, config: &str) {
        std::fs::write(self.path("proxy.yaml.new"), config).unwrap();
        std::fs::rename(self.path("proxy.yaml.new"), self.path("proxy.yaml")).unwrap();
    }

    /// Has it run another configuration, and waits until it does; returns what it said then.
    pub(crate) fn reload(&mut self, config: &str) -> String {
        self.reconfigure(config);
        self.signal("HUP");
        self.says("reload applied")
    }

    /// Waits for a line of its log that holds this text, and for the addresses of listeners on the way.
    pub(crate) fn says(&mut self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            let line = match self.output.recv_timeout(left) {
                Ok(line) => line,
                Err(error) => panic!("the proxy does not say {text:?} ({error})"),
            };
            eprintln!("{line}");
            if let Some((_, listener)) = line.split_once(" listening listener=\"") {
                let (name, address) = listener.split_once("\" address=").unwrap();
                self.listening.insert(name.into(), address.into());
            }
            if line.contains(text) {
                return line;
            }
        }
    }

    /// What it said before it was ready.
    pub(crate) fn announced(&self) -> String {
        self.announced.join("\n")
    }

    /// One plain listener named `http`, everything to `upstream`.
    pub(crate) fn to(upstream: &Upstream) -> Self {
        Self::start(&format!(
            "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n{}",
            upstream.as_only_route()
        ))
    }

    /// One plain listener named `http`, everything to the built-in echo service.
    pub(crate) fn to_whoami() -> Self {
        Self::start(
            "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
             upstreams: { whoami: { builtin: whoami } }\n\
             routes: [{ upstream: whoami }]\n",
        )
    }

    /// Where this listener is bound.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let url = &self.listening[listener];
        let authority = url.rsplit('/').next().unwrap();
        let authority = authority.replace("localhost", "127.0.0.1");
        authority.parse().expect(url)
    }

    /// A file in the proxy's own directory.
    pub(crate) fn path(&self, file: &str) -> std::path::PathBuf {
        self.directory.path().join(file)
    }

    /// A client of the listener `http`.
    pub(crate) fn client(&self) -> Wire<TcpStream> {
        self.client_from("127.0.0.1".parse().unwrap())
    }

    /// A client of the listener `http` with this loopback address.
    pub(crate) fn client_from(&self, source: IpAddr) -> Wire<TcpStream> {
        Wire::tcp(connect(source, self.address("http")))
    }

    /// The process's memory that is in use.
    pub(crate) fn resident_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        value.expect("VmRSS").parse().unwrap()
    }

    /// What all its threads have taken of the processors so far.
    pub(crate) fn processor_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        threads
            .map(|thread| {
                let times = std::fs::read_to_string(thread.unwrap().path().join("schedstat"));
                let times = times.unwrap();
                Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
            })
            .sum()
    }

    /// From now on it can have this many descriptors more than it has.
    pub(crate) fn leave_descriptors(&self, more: usize) {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap();
        let open: BTreeSet<usize> = open
            .map(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        // It bounds their numbers.
        let limit = (0..).filter(|number| !open.contains(number)).nth(more);
        let status = Command::new("prlimit")
            .args(["--pid", &self.process.id().to_string()])
            .arg(format!("--nofile={}:", limit.unwrap()))
            .status();
        assert!(status.unwrap().success(), "prlimit");
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }

    /// Sends SIGTERM, waits for the end, and gives what it left in its directory.
    pub(crate) fn end_and_keep(mut self) -> TempDir {
        self.signal("TERM");
        assert!(self.ended().success());
        std::mem::replace(&mut self.directory, TempDir::new().unwrap())
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.process.id().to_string()])
            .status();
        assert!(status.unwrap().success(), "signal {name}");
    }

    /// Waits for a line of the log that holds this text.
    pub(crate) fn wait_for_log(&self, text: &str) {
        let began = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            let line = self.output.recv_timeout(left).expect(text);
            eprintln!("{line}");
            if line.contains(text) {
                return;
            }
        }
    }

    /// Sends SIGTERM, waits for the end, and gives the rest of the log.
    pub(crate) fn log_to_the_end(self) -> Vec<String> {
        self.signal("TERM");
        let mut log = Vec::new();
        while let Ok(line) = self.output.recv_timeout(DEADLINE) {
            log.push(line);
        }
        log
    }

    /// Waits for the end of the process: its output ends with it.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            let left = DEADLINE.saturating_sub(began.elapsed());
            match self.output.recv_timeout(left) {
                Ok(line) => eprintln!("{line}"),
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.process.wait().unwrap(),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("the proxy does not end"),
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Fails when the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        for line in self.output.try_iter() {
            eprintln!("{line}");
        }
    }
}

/// The executable, without the access log that it writes to standard output.
pub(crate) fn program() -> Command {
    let mut command = Command::new(EXECUTABLE);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Connects from a loopback address of choice.
pub(crate) fn connect(source: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect_timeout(&to.into(), DEADLINE).unwrap();
    socket.into()
}

impl Wire<UnixStream> {
    /// A client of a Unix socket.
    pub(crate) fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self::new(stream)
    }
}

/// Runs the program with these arguments in this directory; the exit code, and what was said.
pub(crate) fn headwater(directory: impl AsRef<Path>, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(EXECUTABLE)
        .args(arguments)
        .current_dir(directory)
        .env_remove("HEADWATER_ADMIN_ADDRESS")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let code = output.status.code().unwrap();
    (code, String::from_utf8(said).unwrap())
}
