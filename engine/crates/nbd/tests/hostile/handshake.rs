//! Misdeeds before the transmission phase.

use std::time::{Duration, Instant};

use nbd::{Client, Error, Export, HANDSHAKE_TIMEOUT};
use tokio::time::sleep;

use crate::server::{
    ACK, ERR_UNKNOWN, ERR_UNSUP, FLAGS, INFO, META_CONTEXT, SIZE, Server, assert_violation,
    option_reply, soon, start,
};

async fn connect(export: &Export) -> Result<u64, Error> {
    soon(Client::connect(export))
        .await
        .map(|client| client.info().size)
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_named() {
    let (_folder, export) = start(async |mut server: Server| {
        server.send(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "no NBD greeting");
}

#[tokio::test]
async fn the_oldstyle_handshake_is_unsupported() {
    let (_folder, export) = start(async |mut server: Server| {
        server
            .send(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0")
            .await;
        server.linger().await;
    });
    assert!(matches!(connect(&export).await, Err(Error::Unsupported(_))));
}

#[tokio::test]
async fn a_wrong_magic_of_an_option_reply_is_a_violation() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.send(&[7; 20]).await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "begins with");
}

#[tokio::test]
async fn a_reply_to_an_option_that_was_not_sent_is_a_violation() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(3, ACK, &[]).await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "option 3");
}

#[tokio::test]
async fn an_oversize_option_reply_is_refused_before_it_is_read() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        let mut reply = option_reply(8, INFO, &[]);
        reply[16..].copy_from_slice(&u32::MAX.to_be_bytes());
        server.send(&reply).await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "4294967295 bytes");
}

#[tokio::test]
async fn endless_replies_to_one_option_are_cut_off() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(8, ACK, &[]).await;
        server.reply(10, ACK, &[]).await;
        loop {
            server.info_export(SIZE, FLAGS).await;
            tokio::task::yield_now().await;
        }
    });
    assert_violation(connect(&export).await, "more than 1024 replies");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_ends_in_a_time_out() {
    let (_folder, export) = start(async |mut server: Server| server.linger().await);
    let begin = tokio::time::Instant::now();
    let outcome = Client::connect(&export).await;
    assert!(matches!(
        outcome,
        Err(Error::HandshakeTimeout { seconds: 10, .. })
    ));
    assert!(begin.elapsed() < HANDSHAKE_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_drips_ends_in_a_time_out() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(8, ACK, &[]).await;
        server.reply(10, ACK, &[]).await;
        loop {
            server.info_export(SIZE, FLAGS).await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    let outcome = Client::connect(&export).await;
    assert!(matches!(outcome, Err(Error::HandshakeTimeout { .. })));
}

#[tokio::test]
async fn a_server_that_hangs_up_is_closed() {
    let (_folder, export) = start(async |mut server: Server| server.greet().await);
    let begin = Instant::now();
    assert!(matches!(connect(&export).await, Err(Error::Closed)));
    assert!(begin.elapsed() < HANDSHAKE_TIMEOUT);
}

#[tokio::test]
async fn an_export_without_a_size_is_a_violation() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(8, ACK, &[]).await;
        server.reply(10, ACK, &[]).await;
        server.reply(7, ACK, &[]).await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "size");
}

#[tokio::test]
async fn a_negative_size_is_a_violation() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(8, ACK, &[]).await;
        server.reply(10, ACK, &[]).await;
        server.info_export(u64::MAX, FLAGS).await;
        server.reply(7, ACK, &[]).await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "an export of");
}

#[tokio::test]
async fn a_short_information_reply_is_a_violation() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(8, ACK, &[]).await;
        server.reply(10, ACK, &[]).await;
        server.reply(7, INFO, &[0]).await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "information reply");
}

#[tokio::test]
async fn a_context_that_was_not_asked_for_is_a_violation() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(8, ACK, &[]).await;
        server
            .reply(10, META_CONTEXT, b"\0\0\0\x01other:context")
            .await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "not asked for");
}

#[tokio::test]
async fn a_context_granted_twice_is_a_violation() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(8, ACK, &[]).await;
        server
            .reply(10, META_CONTEXT, b"\0\0\0\x01base:allocation")
            .await;
        server
            .reply(10, META_CONTEXT, b"\0\0\0\x02base:allocation")
            .await;
        server.linger().await;
    });
    assert_violation(connect(&export).await, "twice");
}

#[tokio::test]
async fn an_unknown_export_is_refused_with_the_names_that_exist() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        server.reply(8, ACK, &[]).await;
        server
            .reply(10, ERR_UNKNOWN, b"no \x1b[31msuch\nexport")
            .await;
        server.reply(3, 2, b"\0\0\0\x03vda").await;
        server.reply(3, 2, b"\0\0\0\x03vdb").await;
        server.reply(3, ACK, &[]).await;
        server.linger().await;
    });
    let outcome = connect(&export).await;
    let Err(Error::Refused { option, reason }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(option, "NBD_OPT_SET_META_CONTEXT");
    for words in ["\"disk\"", "no such export", "\"vda\", \"vdb\""] {
        assert!(reason.contains(words), "{reason}");
    }
    assert!(!reason.contains(char::is_control), "{reason:?}");
}

#[tokio::test]
async fn a_server_without_structured_replies_gives_no_contexts() {
    let (_folder, export) = start(async |mut server: Server| {
        server.handshake(false).await;
        server.linger().await;
    });
    let client = soon(Client::connect(&export)).await.unwrap();
    assert!(!client.info().structured_replies);
    assert!(client.info().meta_contexts.is_empty());
}

#[tokio::test]
async fn a_server_without_go_is_entered_by_name() {
    let (_folder, export) = start(async |mut server: Server| {
        server.greet().await;
        while let Some(option) = server.option().await {
            if option.number == 1 {
                assert_eq!(option.payload, b"disk");
                server
                    .send(&[&SIZE.to_be_bytes()[..], &FLAGS.to_be_bytes()].concat())
                    .await;
                break;
            }
            server.reply(option.number, ERR_UNSUP, &[]).await;
        }
        server.linger().await;
    });
    assert_eq!(connect(&export).await.unwrap(), SIZE);
}

#[tokio::test]
async fn nobody_listening_is_an_io_error_that_names_the_address() {
    let (folder, export) = start(async |_: Server| {});
    drop(folder);
    let error = soon(Client::connect(&export)).await.err().unwrap();
    assert!(matches!(error, Error::Io { .. }));
    assert!(error.to_string().contains("nbd.sock"), "{error}");
}
