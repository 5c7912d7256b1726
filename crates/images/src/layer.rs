//! One more layer on an image, as values: no engine, no registry.

use std::{collections::BTreeMap, io::Write as _, path::Path};

use flate2::{Compression, write::GzEncoder};
use oci_client::manifest::{
    IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE, IMAGE_LAYER_GZIP_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE,
    OciDescriptor, OciImageManifest,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::context::Files;

/// Files as one layer of an image. The same files are the same bytes.
pub struct Layer {
    pub(crate) bytes: Vec<u8>,
    /// Of its content, whatever packs it.
    diff_id: String,
}

impl Layer {
    /// Packs files, below the folder `at` of the image.
    pub fn pack(files: &Files, at: &Path) -> Layer {
        let tar = files.tar(at.strip_prefix("/").unwrap_or(at));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&tar).expect("writing into memory does not fail");
        let bytes = gzip.finish().expect("writing into memory does not fail");
        Layer { bytes, diff_id: digest(&tar) }
    }

    /// What travels of it, in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// An image's manifest and its configuration, which the manifest names by digest.
pub(crate) struct Description {
    pub(crate) manifest: OciImageManifest,
    /// As it came: what is not known here is kept.
    pub(crate) config: Value,
}

impl Description {
    /// The same image with a layer on top and more labels; and its configuration's bytes.
    pub(crate) fn with(
        &self,
        layer: &Layer,
        labels: &BTreeMap<String, String>,
    ) -> (OciImageManifest, Vec<u8>) {
        let mut config = self.config.clone();
        push(&mut config["rootfs"]["diff_ids"], json!(layer.diff_id));
        push(&mut config["history"], json!({ "created_by": "dagster-deploy: the code" }));
        for (key, value) in labels {
            config["config"]["Labels"][key] = json!(value);
        }
        let config = config.to_string().into_bytes();

        let mut manifest = self.manifest.clone();
        let docker = manifest.media_type.as_deref() == Some(IMAGE_MANIFEST_MEDIA_TYPE);
        let media_type =
            if docker { IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE } else { IMAGE_LAYER_GZIP_MEDIA_TYPE };
        let of = |media_type: &str, bytes: &[u8]| OciDescriptor {
            media_type: media_type.to_owned(),
            digest: digest(bytes),
            size: i64::try_from(bytes.len()).expect("what fits into memory fits"),
            ..OciDescriptor::default()
        };
        manifest.layers.push(of(media_type, &layer.bytes));
        manifest.config = of(&self.manifest.config.media_type, &config);
        (manifest, config)
    }

    /// The labels.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.config["config"]["Labels"].as_object();
        labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    }
}

fn push(list: &mut Value, item: Value) {
    match list {
        Value::Array(list) => list.push(item),
        other => *other = json!([item]),
    }
}

/// `sha256:…` of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read as _};

    use super::*;

    fn layer(code: &str) -> Layer {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("code")).unwrap();
        fs::write(root.path().join("code/a.py"), code).unwrap();
        let code = Files::read(root.path(), Path::new("code")).unwrap();
        Layer::pack(&code, Path::new("/opt/app"))
    }

    fn base() -> Description {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "User": "10001:10001", "Labels": { "a": "base", "b": "base" } },
            "rootfs": { "type": "layers", "diff_ids": ["sha256:1"] },
            "history": [{ "created_by": "base" }],
            "moby.buildkit.cache.v0": "kept",
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE_MANIFEST_MEDIA_TYPE,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": "sha256:2",
                "size": 2,
            },
            "layers": [{ "mediaType": "x", "digest": "sha256:3", "size": 3 }],
        });
        Description { manifest: serde_json::from_value(manifest).unwrap(), config }
    }

    #[test]
    fn the_same_files_are_the_same_bytes() {
        let (one, two) = (layer("x = 1\n"), layer("x = 1\n"));
        assert_eq!((one.bytes, one.diff_id), (two.bytes, two.diff_id));
        assert_ne!(layer("x = 2\n").diff_id, layer("x = 1\n").diff_id);
    }

    #[test]
    fn its_name_is_of_what_is_unpacked() {
        let layer = layer("x = 1\n");
        let mut tar = Vec::new();
        flate2::read::GzDecoder::new(layer.bytes.as_slice()).read_to_end(&mut tar).unwrap();
        assert_eq!(digest(&tar), layer.diff_id);
    }

    #[test]
    fn it_comes_on_top_and_the_rest_of_the_base_stays() {
        let layer = layer("x = 1\n");
        let labels = [("b".to_owned(), "code".to_owned())].into();
        let (manifest, bytes) = base().with(&layer, &labels);

        let mut expected = base().config;
        expected["config"]["Labels"]["b"] = json!("code");
        expected["rootfs"]["diff_ids"] = json!(["sha256:1", layer.diff_id]);
        expected["history"] =
            json!([{ "created_by": "base" }, { "created_by": "dagster-deploy: the code" }]);
        let config: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(config, expected);

        assert_eq!(manifest.config.digest, digest(&bytes));
        assert_eq!(manifest.config.media_type, base().manifest.config.media_type);
        let layers: Vec<_> =
            manifest.layers.iter().map(|it| (it.digest.as_str(), it.size)).collect();
        let size = i64::try_from(layer.size()).unwrap();
        assert_eq!(layers, [("sha256:3", 3), (digest(&layer.bytes).as_str(), size)]);
        assert_eq!(manifest.layers[1].media_type, IMAGE_DOCKER_LAYER_GZIP_MEDIA_TYPE);
    }

    #[test]
    fn a_base_without_labels_gets_some() {
        let mut base = base();
        base.config["config"]["Labels"] = Value::Null;
        let labels: BTreeMap<_, _> = [("a".to_owned(), "code".to_owned())].into();
        let (manifest, config) = base.with(&layer(""), &labels);
        let config = serde_json::from_slice(&config).unwrap();
        assert_eq!(Description { manifest, config }.labels(), labels);
    }
}
