//! Machines as network namespaces. Each reaches the Redis server over a cable of its own, which can be pulled.
//!
//! A namespace lives as long as its holder, and that as long as its input: nothing is left behind, however the campaign ends.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Address of the machine with the Redis server.
pub const HUB: &str = "10.77.0.1";

/// A machine: its network, and its name.
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new(name: &str) -> Namespace {
        let script =
            format!("echo {name} > /proc/sys/kernel/hostname && ip link set lo up && echo ready && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--net", "--uts", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare of util-linux is needed");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(
            line, "ready\n",
            "no network namespaces here: be root on Linux, or run it without (SOP_NAMESPACES=0)"
        );
        Namespace { holder }
    }

    /// A command that runs on this machine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let namespaces = format!("/proc/{}/ns", self.holder.id());
        command.arg(format!("--net={namespaces}/net")).arg(format!("--uts={namespaces}/uts")).arg(program);
        command
    }

    fn ip(&self, words: &str) {
        let status = self.command("ip").args(words.split(' ')).status().expect("ip of iproute2 is needed");
        assert!(status.success(), "ip {words}");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Machines around a bridge.
pub struct Network {
    hub: Namespace,
    machines: Vec<Namespace>,
}

impl Network {
    pub fn new(machines: u64) -> Network {
        let hub = Namespace::new("hub");
        hub.ip("link add bridge type bridge");
        hub.ip(&format!("addr add {HUB}/24 dev bridge"));
        hub.ip("link set bridge up");
        let machines = (0..machines).map(|number| {
            let machine = Namespace::new(&format!("machine-{number}"));
            let id = machine.holder.id();
            hub.ip(&format!("link add cable-{number} type veth peer name eth0 netns {id}"));
            hub.ip(&format!("link set cable-{number} master bridge up"));
            machine.ip(&format!("addr add 10.77.0.{}/24 dev eth0", number + 2));
            machine.ip("link set eth0 up");
            machine
        });
        let machines = machines.collect();
        Network { hub, machines }
    }

    /// A command that runs on a machine.
    pub fn command(&self, machine: u64, program: &str) -> Command {
        self.machines[machine as usize].command(program)
    }

    /// A command that runs beside the bridge.
    pub fn hub_command(&self, program: &str) -> Command {
        self.hub.command(program)
    }

    /// Pulls the cable of a machine: what it sends gets lost, and nothing tells it so.
    pub fn cut(&self, machine: u64) {
        self.hub.ip(&format!("link set cable-{machine} down"));
    }

    pub fn join(&self, machine: u64) {
        self.hub.ip(&format!("link set cable-{machine} up"));
    }
}
