//! A real user-space file system (FUSE), on which a file store must not be.

use std::{
    env,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    process::{Command, Stdio},
    thread,
};

use tower_oauth::{ErrorKind, FetchContext, TokenSource as _, store::Persisted};

use crate::{
    harness::{refresh, strict},
    temporary::Temporary,
};

/// Mounts a file system in namespaces of its own, which end with it, and goes on as [`child`], which
/// has the kernel's side of it as standard input.
const MOUNT: &str = r#"
exec 0<>/dev/fuse || exit 77
mount -i -t fuse -o fd=0,rootmode=40000,user_id=0,group_id=0 none "$1" || exit 77
exec "$2" user_space::child --exact --ignored --nocapture
"#;

#[test]
fn f36_f60_a_folder_on_a_user_space_file_system_is_refused() {
    let folder = Temporary::new();
    std::fs::create_dir(folder.tokens()).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"]);
    command.arg(folder.tokens()).arg(env::current_exe().unwrap()).stdin(Stdio::null());
    let output = command.env("TEST_FOLDER", folder.tokens()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    // Where the kernel lets nobody mount anything, there is nothing to refuse either.
    let impossible = output.status.code() == Some(77) || told.contains("unshare failed");
    assert!(impossible || told.contains("refused: it is on FUSE"), "{told}");
}

#[tokio::test]
#[ignore = "it is run by another test, in a process of its own"]
async fn child() {
    let Ok(folder) = env::var("TEST_FOLDER") else { return };
    let kernel = File::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    // It ends with the process.
    thread::spawn(move || serve(kernel));
    let server = strict();
    let store = tower_oauth::store::FileStore::new(folder, crate::temporary::ring());
    let initial = server.issue_refresh_token("cli");
    let source = Persisted::new(refresh(&server, initial), store);
    let error = source.fetch(FetchContext::first()).await.unwrap_err();
    assert_eq!((error.kind(), server.token_request_count()), (ErrorKind::Store, 0));
    let reason = std::error::Error::source(&error).unwrap().to_string();
    println!("refused: {reason}");
}

/// Answers what is asked of an empty folder (`linux/fuse.h`, version 7.31).
fn serve(mut kernel: File) {
    let mut request = vec![0; 1 << 18];
    while let Ok(length) = kernel.read(&mut request) {
        let opcode = u32::from_ne_bytes(request.get(4..8).unwrap().try_into().unwrap());
        let unique = request.get(8..16).unwrap();
        assert!(length >= 40, "a request has a header");
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (error, body): (i32, Vec<u8>) = match opcode {
            // FUSE_INIT: the version, and mostly zeros.
            26 => (0, words(&[7, 31, 0, 0, 0, 4096, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])),
            // FUSE_GETATTR: the inode 1, a folder of root's with mode 0700.
            3 => {
                let mut attributes = [0; 26];
                attributes[4] = 1;
                attributes[19] = 0o040_700;
                attributes[20] = 2;
                (0, words(&attributes))
            }
            // FUSE_STATFS.
            17 => (0, vec![0; 80]),
            // ENOSYS
            _ => (-38, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).unwrap();
        let header = [&length.to_ne_bytes(), &error.to_ne_bytes()[..], unique].concat();
        // What was given up meanwhile needs no answer.
        let _ = kernel.write(&[header, body].concat());
    }
}
