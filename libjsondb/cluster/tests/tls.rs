//! A server over TLS: whom the machine trusts is talked to, and nobody else.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cluster::Redis;
use common::RedisServer;
use engine::{Coordinator, Seq};
use uuid::Uuid;

/// A certificate for 127.0.0.1, and its key.
fn make_certificate(folder: &Path) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=sop-test \
                     -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
                     -keyout key.pem -out certificate.pem";
    let made = Command::new("openssl").current_dir(folder).args(arguments.split_whitespace()).output();
    let made = made.expect("openssl is missing: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// Run by the other test, in processes of their own: certificates come from the environment.
#[test]
fn process_of_the_other_test() {
    let Ok(address) = std::env::var("SOP_TLS") else { return };
    let redis = Redis::answering_within(Duration::from_secs(60));
    match redis.open(&address) {
        Ok(()) => {
            redis.announce(Uuid::from_u128(1), Seq(7));
            println!("head {:?}", redis.head(Uuid::from_u128(1)));
        }
        Err(error) => println!("{error}"),
    }
}

fn connect(address: &str, trusted: &Path) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "process_of_the_other_test", "--nocapture"]);
    command.env("SOP_TLS", address).env("SSL_CERT_FILE", trusted);
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn a_server_is_talked_to_if_the_machine_trusts_it() {
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path());
    let others = tempfile::tempdir().unwrap();
    make_certificate(others.path());
    let file = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let options = ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let _server = RedisServer::start_with("secret", &[&options[..], &["--tls-auth-clients", "no"]].concat());
    let address = format!("rediss://:secret@127.0.0.1:{port}/0");
    let told = connect(&address, Path::new(&certificate));
    assert!(told.contains("head Some(Seq(7))"), "{told}");
    let told = connect(&address, &others.path().join("certificate.pem"));
    assert!(told.contains("cannot open a Redis connection") && !told.contains("secret"), "{told}");
    let told = connect(&address.replace("127.0.0.1", "localhost"), Path::new(&certificate));
    assert!(told.contains("cannot open a Redis connection"), "it is another one's certificate: {told}");
}
