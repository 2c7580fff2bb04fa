//! A real sshd on loopback, of this test alone. Needs root and OpenSSH's server.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::host::{has, skip};

/// Where Debian has it.
const SSHD: &str = "/usr/sbin/sshd";
/// sshd wants it, and Debian's service makes it.
const PRIVILEGE_DIR: &str = "/run/sshd";

/// An sshd, and a client's configuration for it.
pub(crate) struct Sshd {
    server: Child,
    dir: PathBuf,
}

impl Sshd {
    /// Starts one at `address` by a command that `wrap` makes for the program. It keeps its things in `dir`. Those who log in
    /// start in the directory `home`, and find programs in `path` and in those of the system. `None`, with the reason, where
    /// this is not possible.
    pub(crate) fn start(
        address: &str,
        dir: &Path,
        home: &Path,
        path: &str,
        wrap: impl Fn(&str) -> Command,
    ) -> Option<Self> {
        if !has("ssh") || !Path::new(SSHD).is_file() {
            skip("OpenSSH is not installed");
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skip("sshd needs root");
            return None;
        }
        fs::create_dir_all(PRIVILEGE_DIR).expect("root can make it");
        fs::create_dir_all(dir).expect("a directory for sshd");
        for name in ["host_key", "user_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.join(name))
                .status();
            assert!(made.is_ok_and(|status| status.success()), "a key");
        }
        let at = |name: &str| dir.join(name).display().to_string();
        fs::copy(at("user_key.pub"), at("authorized_keys")).expect("a key can be copied");
        let port = free_port(address);
        let env = |name: &str, value: &str| format!("\"{name}={value}\"");
        let variables =
            [env("HOME", &home.display().to_string()), env("PATH", &format!("{path}:/usr/bin:/bin"))];
        let config = format!(
            "ListenAddress {address}\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin yes\nLogLevel VERBOSE\nPrintMotd no\nSetEnv {}\n\
             ForceCommand cd \"$HOME\" && eval \"$SSH_ORIGINAL_COMMAND\"\n",
            at("host_key"),
            at("authorized_keys"),
            variables.join(" "),
        );
        fs::write(at("sshd_config"), config).expect("a file");
        let host_key = fs::read_to_string(at("host_key.pub")).expect("a file");
        fs::write(at("known_hosts"), format!("[{address}]:{port} {host_key}")).expect("a file");
        let client = format!(
            "Host there\nHostName {address}\nPort {port}\nUser root\nIdentityFile {}\nIdentitiesOnly yes\n\
             UserKnownHostsFile {}\nStrictHostKeyChecking yes\nBatchMode yes\n",
            at("user_key"),
            at("known_hosts"),
        );
        fs::write(at("config"), client).expect("a file");
        let mut server = wrap(SSHD)
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sshd starts");
        let mut said = BufReader::new(server.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let mut before = Vec::new();
        loop {
            match said.next() {
                Some(line) if line.contains("Server listening") => break,
                Some(line) => before.push(line),
                None => panic!("sshd does not listen: {before:?}"),
            }
        }
        std::thread::spawn(move || said.for_each(drop));
        Some(Self { server, dir: dir.to_owned() })
    }

    /// The client, for `--ssh`; the server's name is `there`.
    pub(crate) fn client(&self) -> String {
        format!("ssh -F {}", self.dir.join("config").display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// sshd takes no port 0, so another process could take this one before it.
fn free_port(address: &str) -> u16 {
    let bound = TcpListener::bind((address, 0)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)));
    bound.and_then(|listener| listener.local_addr()).expect("a port").port()
}
