//! A real sshd on loopback, with throwaway keys.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use exec::{Cmd, Error, File, Host, Ssh, Target, Tunnel};
use tempfile::TempDir;

/// An sshd of our own; it goes when dropped.
struct Sshd {
    dir: TempDir,
    port: u16,
}

impl Sshd {
    fn start() -> Sshd {
        assert!(
            Path::new("/usr/sbin/sshd").exists(),
            "these tests need sshd: sudo apt-get install openssh-server"
        );
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for key in ["host", "user", "other"] {
            Cmd::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(at(key))
                .read()
                .unwrap();
        }
        fs::copy(at("user.pub"), at("authorized")).unwrap();
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\n\
             StrictModes no\nUsePAM no\nLogLevel VERBOSE\nPasswordAuthentication no\n",
            at("host").display(),
            at("authorized").display(),
            at("pid").display(),
        );
        fs::write(at("config"), config).unwrap();
        let public = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known"), format!("[127.0.0.1]:{port} {public}")).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        Cmd::new("/usr/sbin/sshd")
            .arg("-f")
            .arg(at("config"))
            .arg("-E")
            .arg(at("log"))
            .read()
            .unwrap();
        wait_until("sshd listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Sshd { dir, port }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn target(&self) -> Target {
        Target::Ssh(self.ssh())
    }

    fn ssh(&self) -> Ssh {
        Ssh {
            destination: "127.0.0.1".into(),
            port: Some(self.port),
            key: Some(self.at("user")),
            known_hosts: Some(self.at("known")),
            proxy: None,
        }
    }

    /// How many logins it accepted.
    fn logins(&self) -> usize {
        fs::read_to_string(self.at("log")).unwrap().matches("Accepted publickey").count()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        if let Ok(pid) = fs::read_to_string(self.at("pid")) {
            let _ = Cmd::new("kill").arg(pid.trim()).read();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::yield_now();
    }
}

fn file(path: &str, text: &str) -> File {
    File { path: path.into(), mode: 0o600, bytes: text.into() }
}

/// The processes whose arguments hold `text`.
fn arguments_with(text: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|it| fs::read(it.unwrap().path().join("cmdline")).ok())
        .map(|it| String::from_utf8_lossy(&it).replace('\0', " "))
        .filter(|it| it.contains(text))
        .collect()
}

#[test]
fn everything_travels_over_one_connection() {
    let sshd = Sshd::start();
    let host = Host::connect(&sshd.target()).unwrap();
    for n in 0..10 {
        let n = n.to_string();
        assert_eq!(host.read(&Cmd::new("echo").arg(&n)).unwrap(), n);
    }
    assert_eq!(host.read(&Cmd::new("cat").stdin("in and out")).unwrap(), "in and out");
    assert_eq!(host.output(&Cmd::new("sh").args(["-c", "exit 7"])).unwrap().status.code(), Some(7));

    fs::write(sshd.at("large"), vec![b'x'; 3 << 20]).unwrap();
    let large = || fs::File::open(sshd.at("large")).unwrap();
    assert_eq!(host.feed(&Cmd::new("wc").arg("-c"), large()).unwrap().stdout, b"3145728\n");
    let copy = fs::File::create(sshd.at("copy")).unwrap();
    assert!(host.save(&Cmd::new("cat").arg(sshd.at("large")), copy).unwrap().status.success());
    assert_eq!(fs::metadata(sshd.at("copy")).unwrap().len(), 3 << 20);
    let nowhere = fs::File::create(sshd.at("copy")).unwrap();
    let failed = host.save(&Cmd::new("sh").args(["-c", "echo why >&2; exit 3"]), nowhere).unwrap();
    assert_eq!((failed.status.code(), failed.stderr.as_slice()), (Some(3), b"why\n".as_slice()));

    let dir = sshd.at("up load").display().to_string();
    host.upload(&[file("a", "1"), file("b/c", "2")], &dir).unwrap();
    host.upload(&[file("a", "3")], &dir).unwrap();
    assert_eq!(fs::read_to_string(sshd.at("up load/a")).unwrap(), "3");
    assert!(!sshd.at("up load/b").exists(), "an upload replaces the folder");
    let left: Vec<_> = fs::read_dir(sshd.dir.path())
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .filter(|it| it.contains("partial"))
        .collect();
    assert_eq!(left, [""; 0]);

    let listener = UnixListener::bind(sshd.at("socket")).unwrap();
    let local = host.forward_socket(&sshd.at("socket").display().to_string()).unwrap();
    let _stream = std::os::unix::net::UnixStream::connect(local).unwrap();
    listener.accept().unwrap();

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let wanted = taken.local_addr().unwrap().port();
    let remote = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.forward_port(remote.local_addr().unwrap().port(), wanted).unwrap();
    assert!(port > wanted, "{port}: the next free port is taken when {wanted} is in use");
    let _stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    remote.accept().unwrap();

    drop(host);
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn a_held_process_ends_with_its_value_and_with_the_connection() {
    let sshd = Sshd::start();
    let host = Host::connect(&sshd.target()).unwrap();
    let lock = sshd.at("lock").display().to_string();
    let script = "exec 9>>$1; flock -n 9 && echo held || echo taken; cat >/dev/null";
    let flock = Cmd::new("bash").args(["-c", script, "lock", &lock]);
    let held = host.hold(&flock).unwrap();
    assert_eq!(held.answer(), "held");
    assert_eq!(host.hold(&flock).unwrap().answer(), "taken");
    drop(held);
    wait_until("the lock is free", || host.hold(&flock).unwrap().answer() == "held");

    let held = host.hold(&flock).unwrap();
    drop(host);
    let host = Host::connect(&sshd.target()).unwrap();
    wait_until("the lock is free again", || host.hold(&flock).unwrap().answer() == "held");
    drop(held);

    let missing = host.hold(&Cmd::new("no-such-program")).unwrap_err();
    assert!(missing.to_string().contains("no-such-program"), "{missing}");
}

#[test]
fn a_login_that_fails_says_why() {
    let sshd = Sshd::start();
    let fails = |change: &dyn Fn(&mut Ssh)| {
        let mut ssh = sshd.ssh();
        change(&mut ssh);
        Host::connect(&Target::Ssh(ssh)).unwrap_err()
    };
    let error = fails(&|it| it.key = Some(sshd.at("other")));
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.hint().unwrap().contains("other"), "{error}");

    let public = fs::read_to_string(sshd.at("other.pub")).unwrap();
    fs::write(sshd.at("wrong"), format!("[127.0.0.1]:{} {public}", sshd.port)).unwrap();
    let error = fails(&|it| it.known_hosts = Some(sshd.at("wrong")));
    assert!(matches!(error, Error::HostKey { changed: true, .. }), "{error}");

    fs::write(sshd.at("empty"), "").unwrap();
    let error = fails(&|it| it.known_hosts = Some(sshd.at("empty")));
    assert!(matches!(error, Error::HostKey { changed: false, .. }), "{error}");
    assert!(error.hint().unwrap().contains("ssh-keyscan"), "{error}");

    let error = fails(&|it| it.port = Some(free_port()));
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("Connection refused"), "{error}");

    let error = fails(&|it| it.destination = "no-such-host.invalid".into());
    assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    assert!(error.is_unreachable());
}

#[test]
fn a_connection_that_is_cut_is_told_from_a_command_that_exits_255() {
    let sshd = Sshd::start();
    let host = Host::connect(&sshd.target()).unwrap();
    let exit = Cmd::new("sh").args(["-c", "exit 255"]);
    assert_eq!(host.output(&exit).unwrap().status.code(), Some(255));
    // The far end's half of the connection is our shell's grandparent there.
    let cut = "kill $(ps -o ppid= -p $PPID) $PPID";
    let _ = host.output(&Cmd::new("sh").args(["-c", cut]));
    wait_until("the connection is gone", || !host.is_alive());
    let error = host.output(&exit).unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
}

#[test]
fn a_secret_given_as_input_is_in_nobodys_arguments() {
    let sshd = Sshd::start();
    let host = Host::connect(&sshd.target()).unwrap();
    let canary = format!("canary-{}", sshd.port);
    let ready = sshd.at("ready").display().to_string();
    std::thread::scope(|scope| {
        let script = "touch \"$1\"; cat; while [ -e \"$1\" ]; do :; done";
        let cmd = Cmd::new("sh").args(["-c", script, "sh", &ready]).stdin(canary.clone());
        let (host, canary) = (&host, &canary);
        let call = scope.spawn(move || host.read(&cmd).unwrap());
        wait_until("the command runs", || Path::new(&ready).exists());
        assert_eq!(arguments_with(canary), [""; 0]);
        fs::remove_file(&ready).unwrap();
        assert_eq!(call.join().unwrap(), *canary);
    });
}

/// Where `the_connection_ends_when_its_owner_is_killed` tells its other half what to connect to.
const OWNED: &str = "target/tmp/owned-port";

#[test]
fn the_connection_ends_when_its_owner_is_killed() {
    let sshd = Sshd::start();
    let masters = || arguments_with(&format!("-p {} -M", sshd.port));
    // The owner is this very test binary, running the helper below in a folder that tells it so.
    let dir = sshd.at("owner");
    fs::create_dir_all(dir.join("target/tmp")).unwrap();
    let told = format!("{}\n{}\n", sshd.port, sshd.dir.path().display());
    fs::write(dir.join(OWNED), told).unwrap();
    let owner = Cmd::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_of_a_connection", "--nocapture"])
        .dir(dir);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| owner.output().unwrap());
        wait_until("the owner is connected", || {
            sshd.at("owner-pid").exists() && masters().len() == 1
        });
        let pid = fs::read_to_string(sshd.at("owner-pid")).unwrap();
        Cmd::new("kill").args(["-KILL", &pid]).read().unwrap();
        assert_eq!(call.join().unwrap().status.code(), None, "ended by the signal");
    });
    wait_until("the master is gone", || masters().is_empty());
}

#[test]
fn owner_of_a_connection() {
    let Ok(told) = fs::read_to_string(OWNED) else { return };
    let (port, dir) = told.trim().split_once('\n').unwrap();
    let at = |name: &str| Path::new(dir).join(name);
    let target = Target::Ssh(Ssh {
        destination: "127.0.0.1".into(),
        port: Some(port.parse().unwrap()),
        key: Some(at("user")),
        known_hosts: Some(at("known")),
        proxy: None,
    });
    let _host = Host::connect(&target).unwrap();
    fs::write(at("new-pid"), std::process::id().to_string()).unwrap();
    fs::rename(at("new-pid"), at("owner-pid")).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_tunnel_stays_and_is_found_again() {
    let sshd = Sshd::start();
    let remote = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = remote.local_addr().unwrap().port();
    let state = sshd.at("tunnel");
    let port = Tunnel::open(&sshd.target(), &state, remote, 0).unwrap();
    assert_eq!(Tunnel::open(&sshd.target(), &state, remote, 0).unwrap(), port);
    Tunnel::close(&state).unwrap();
    wait_until("the port is free", || TcpListener::bind(("127.0.0.1", port)).is_ok());
    Tunnel::close(&state).unwrap();
}

#[test]
fn of_two_tunnels_that_want_one_port_at_once_each_gets_its_own() {
    let sshd = Sshd::start();
    let remote = TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = remote.local_addr().unwrap().port();
    for _ in 0..5 {
        let wanted = free_port();
        let states = ["one", "two"].map(|it| sshd.at(it));
        let ports = std::thread::scope(|scope| {
            let open = |state| Tunnel::open(&sshd.target(), state, remote, wanted).unwrap();
            states
                .each_ref()
                .map(|state| scope.spawn(move || open(state)))
                .map(|it| it.join().unwrap())
        });
        assert_ne!(ports[0], ports[1]);
        for (state, port) in states.iter().zip(ports) {
            assert_eq!(Tunnel::open(&sshd.target(), state, remote, wanted).unwrap(), port);
            Tunnel::close(state).unwrap();
        }
    }
}
