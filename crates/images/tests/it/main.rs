//! What a registry is asked for, by a stand-in for one.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod stand_in;

use expect_test::{Expect, expect};
use images::{Login, Registry};
use release::ImageRef;
use serde_json::json;

use self::stand_in::{StandIn, digest};

/// Puts an image of two layers there. Answers its manifest.
fn image(registry: &StandIn, repository: &str, code: &[u8]) -> String {
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = registry.put(repository, bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    };
    let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.oci.image.config.v1+json", &[b"config of ", code].concat()),
        "layers": [blob(layer, b"libraries"), blob(layer, code)],
    });
    let manifest = manifest.to_string();
    registry.put(repository, manifest.as_bytes());
    manifest
}

async fn copy(from: &str, to: &str, manifest: &str) -> Result<(ImageRef, u64), images::Error> {
    let registry = |at: &str| Registry::new(at, Login::None, "amd64", None);
    let source: ImageRef = format!("{from}@{}", digest(manifest.as_bytes())).parse().unwrap();
    registry(to).copy(&registry(from), &source, &format!("{to}:1").parse().unwrap()).await
}

#[track_caller]
fn check(registry: &StandIn, travelled: u64, expected: &Expect) {
    expected.assert_eq(&format!("{}\n{travelled} bytes", registry.log()));
}

#[tokio::test]
async fn a_copy_is_the_same_bytes_and_only_what_is_missing_travels() {
    let (staging, prod) = (StandIn::start().await, StandIn::start().await);
    let from = format!("127.0.0.1:{}/staging/code", staging.port);
    let to = format!("127.0.0.1:{}/prod/code", prod.port);
    let first = image(&staging, "staging/code", b"code");
    let (copied, travelled) = copy(&from, &to, &first).await.unwrap();
    assert_eq!(copied.to_string(), format!("{to}@{}", digest(first.as_bytes())));
    for name in ["1", &digest(first.as_bytes())] {
        assert_eq!(prod.get("prod/code", name).unwrap(), first.as_bytes());
    }
    check(
        &prod,
        travelled,
        &expect![[r#"
            put prod/code 01cfc30
            put prod/code 5694d08
            put prod/code cd6b38c
            put prod/code 1
            27 bytes"#]],
    );

    // Another one on the same libraries.
    let second = image(&staging, "staging/code", b"other code");
    let (_, travelled) = copy(&from, &to, &second).await.unwrap();
    check(
        &prod,
        travelled,
        &expect![[r#"
            put prod/code 41ce7d3
            put prod/code a1ff21a
            put prod/code 1
            30 bytes"#]],
    );

    // One that is there: it is not even put under its tag again.
    let (copied, travelled) = copy(&from, &to, &first).await.unwrap();
    assert_eq!(copied.digest().unwrap().as_str(), digest(first.as_bytes()));
    check(
        &prod,
        travelled,
        &expect![[r#"

            0 bytes"#]],
    );
    assert_eq!(staging.log(), "", "it is only read");
}

#[tokio::test]
async fn between_repositories_of_one_registry_nothing_travels() {
    let registry = StandIn::start().await;
    let at = |repository: &str| format!("127.0.0.1:{}/{repository}", registry.port);
    let manifest = image(&registry, "staging/code", b"code");
    let (_, travelled) = copy(&at("staging/code"), &at("prod/code"), &manifest).await.unwrap();
    check(
        &registry,
        travelled,
        &expect![[r#"
            mount prod/code 01cfc30
            mount prod/code 5694d08
            mount prod/code cd6b38c
            put prod/code 1
            0 bytes"#]],
    );
}

#[tokio::test]
async fn an_image_that_is_gone_or_spoilt_is_named() {
    let registry = StandIn::start().await;
    let at = |repository: &str| format!("127.0.0.1:{}/{repository}", registry.port);
    let shown =
        |error: images::Error| error.to_string().replace(&registry.port.to_string(), "PORT");
    let error = copy(&at("staging/code"), &at("prod/code"), "{}").await.unwrap_err();
    expect!["cannot copy `127.0.0.1:PORT/staging/code@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a`: it answered 404"].assert_eq(&shown(error));
    registry.put("staging/code", b"{}");
    let error = copy(&at("staging/code"), &at("prod/code"), "{}").await.unwrap_err();
    expect!["cannot copy `127.0.0.1:PORT/staging/code@sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a`: missing field `schemaVersion` at line 1 column 2"].assert_eq(&shown(error));
}
