//! How the shared library is named to those who link to it: by its major version, which changes when callers must.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let var = |name| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let (version, major) = (var("CARGO_PKG_VERSION"), var("CARGO_PKG_VERSION_MAJOR"));
    match var("CARGO_CFG_TARGET_OS").as_str() {
        // Threads of the library may run when a program unloads it: it stays in memory.
        "linux" => link_arguments(&[&format!("-soname,libjsondb.so.{major}"), "-z,nodelete"]),
        "macos" => link_arguments(&[
            &format!("-install_name,@rpath/libjsondb.{major}.dylib"),
            &format!("-compatibility_version,{major}.0.0"),
            &format!("-current_version,{version}"),
        ]),
        // A DLL is named by its file.
        _ => {}
    }
}

fn link_arguments(arguments: &[&str]) {
    for argument in arguments {
        println!("cargo:rustc-cdylib-link-arg=-Wl,{argument}");
    }
}
