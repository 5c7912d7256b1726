//! The engine's objects: a network, the registry, the VM. Each carries the testbed's label, by which
//! it is found and removed.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use bollard::{
    Docker, body_full,
    container::LogOutput,
    errors::Error as DockerError,
    exec::StartExecResults,
    models::{
        ContainerCreateBody, ContainerStateStatusEnum, EndpointSettings, ExecConfig, HostConfig,
        HostConfigCgroupnsModeEnum, Mount, MountType, MountVolumeOptions, NetworkCreateRequest,
        NetworkingConfig, PortBinding, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::{
        CreateContainerOptionsBuilder, ListContainersOptionsBuilder, ListImagesOptionsBuilder,
        ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, LogsOptionsBuilder,
        RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RemoveVolumeOptionsBuilder,
        UploadToContainerOptionsBuilder,
    },
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use release::Fingerprint;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Error, state::Place};

/// Whose an object is.
const LABEL: &str = "dagster-deploy.testbed";

/// What a container was made from.
const RECIPE: &str = "dagster-deploy.recipe";

/// A container of the testbed.
pub(crate) struct Spec<'a> {
    /// `vm` or `registry`.
    pub(crate) role: &'static str,
    pub(crate) image: &'a str,
    /// Its port, and the one on our loopback that leads to it.
    pub(crate) port: (u16, u16),
    pub(crate) env: Vec<String>,
    /// What its volume is for.
    pub(crate) data: &'static str,
    /// So many bytes in memory in place of the volume.
    pub(crate) disk: Option<u64>,
    /// Whether it holds an engine of its own.
    pub(crate) nested: bool,
    /// Files put into it before it starts.
    pub(crate) files: Vec<File>,
}

/// A file in a container.
pub(crate) struct File {
    pub(crate) path: &'static str,
    pub(crate) mode: u32,
    /// User and group.
    pub(crate) owner: u64,
    pub(crate) bytes: Vec<u8>,
}

/// What became of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stands {
    /// It ran as it should.
    Already,
    /// It was there, and was started.
    Started,
    /// It was made.
    Made,
    /// Its port is somebody else's: take another.
    PortTaken,
}

impl Spec<'_> {
    fn recipe(&self) -> String {
        let words = [
            self.role.to_owned(),
            self.image.to_owned(),
            format!("{:?} {:?} {} {}", self.port, self.disk, self.data, self.nested),
        ];
        let files = self.files.iter().flat_map(|it| [it.path.as_bytes(), it.bytes.as_slice()]);
        let parts = words.iter().chain(&self.env).map(String::as_bytes);
        Fingerprint::of(parts.chain(files)).to_string()
    }

    /// How the engine is asked for it. An engine inside an engine needs rights: all of them, or,
    /// where not all are to be had, all but those to raise limits.
    fn body(&self, place: &Place, privileged: bool) -> ContainerCreateBody {
        let network = place.object("net");
        let (inside, outside) = self.port;
        let inside = format!("{inside}/tcp");
        let binding = PortBinding {
            host_ip: Some("127.0.0.1".to_owned()),
            host_port: Some(outside.to_string()),
        };
        let volume = Mount {
            typ: Some(MountType::VOLUME),
            source: Some(place.object(self.role)),
            target: Some(self.data.to_owned()),
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels(place)),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        };
        let (mounts, tmpfs) = match self.disk {
            None => (Some(vec![volume]), None),
            Some(bytes) => {
                let options = format!("size={bytes},exec,dev,suid");
                (None, Some(HashMap::from([(self.data.to_owned(), options)])))
            }
        };
        let mut host = HostConfig {
            network_mode: Some(network.clone()),
            port_bindings: Some(HashMap::from([(inside.clone(), Some(vec![binding]))])),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
                maximum_retry_count: None,
            }),
            mounts,
            tmpfs,
            ..HostConfig::default()
        };
        if self.nested {
            // Its groups are below its own, and go with it.
            host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::PRIVATE);
            if privileged {
                host.privileged = Some(true);
            } else {
                host.cap_add = Some(vec!["ALL".to_owned()]);
                host.cap_drop = Some(vec!["SYS_RESOURCE".to_owned()]);
                // The command line's `systempaths=unconfined`.
                host.masked_paths = Some(Vec::new());
                host.readonly_paths = Some(Vec::new());
                let unconfined = ["seccomp=unconfined", "apparmor=unconfined"];
                host.security_opt = Some(unconfined.map(str::to_owned).to_vec());
            }
        }
        let endpoint = EndpointSettings {
            aliases: Some(vec![self.role.to_owned()]),
            ..EndpointSettings::default()
        };
        let mut labels = labels(place);
        labels.insert(RECIPE.to_owned(), self.recipe());
        ContainerCreateBody {
            hostname: Some(self.role.to_owned()),
            image: Some(self.image.to_owned()),
            env: Some(self.env.clone()),
            exposed_ports: Some(vec![inside]),
            labels: Some(labels),
            stop_timeout: Some(30),
            host_config: Some(host),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network, endpoint)])),
            }),
            ..ContainerCreateBody::default()
        }
    }
}

fn labels(place: &Place) -> HashMap<String, String> {
    HashMap::from([(LABEL.to_owned(), place.id.clone())])
}

fn filter(place: &Place) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{LABEL}={}", place.id)])])
}

/// Makes the network if it is not there.
pub(crate) async fn network(docker: &Docker, place: &Place) -> Result<(), Error> {
    let options = ListNetworksOptionsBuilder::new().filters(&filter(place)).build();
    let there =
        docker.list_networks(Some(options)).await.map_err(Error::engine("list networks"))?;
    if !there.is_empty() {
        return Ok(());
    }
    let request = NetworkCreateRequest {
        name: place.object("net"),
        labels: Some(labels(place)),
        ..NetworkCreateRequest::default()
    };
    docker.create_network(request).await.map_err(Error::engine("make a network"))?;
    Ok(())
}

/// Makes a container, or starts it, or finds it running. One made from another recipe, or half
/// made, is made anew; a VM then has its disk made anew too.
pub(crate) async fn stand(
    docker: &Docker,
    place: &Place,
    spec: &Spec<'_>,
) -> Result<Stands, Error> {
    let name = place.object(spec.role);
    let start = || Error::engine(format!("start `{name}`"));
    let found = match docker.inspect_container(&name, None).await {
        Ok(found) => Some(found),
        Err(error) if is_absent(&error) => None,
        Err(error) => return Err(Error::engine(format!("look up `{name}`"))(error)),
    };
    if let Some(found) = found {
        let state = found.state.unwrap_or_default();
        let labels = found.config.and_then(|it| it.labels).unwrap_or_default();
        let same = labels.get(RECIPE) == Some(&spec.recipe());
        let whole = state.status != Some(ContainerStateStatusEnum::CREATED);
        if same && whole && state.running == Some(true) {
            return Ok(Stands::Already);
        }
        if same && whole {
            return match docker.start_container(&name, None).await {
                Ok(()) => Ok(Stands::Started),
                Err(error) if is_port_taken(&error) => Ok(Stands::PortTaken),
                Err(error) => Err(start()(error)),
            };
        }
        remove(docker, &name).await?;
    }
    if spec.nested {
        // What an engine of another make stored is of no use to this one.
        remove_volume(docker, &name).await?;
    }
    for privileged in [true, false] {
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        docker
            .create_container(Some(options), spec.body(place, privileged))
            .await
            .map_err(Error::engine(format!("make `{name}`")))?;
        upload(docker, &name, &spec.files).await?;
        let Err(error) = docker.start_container(&name, None).await else {
            return Ok(Stands::Made);
        };
        let last = !privileged || !spec.nested;
        if is_port_taken(&error) || last {
            remove(docker, &name).await?;
            return if is_port_taken(&error) { Ok(Stands::PortTaken) } else { Err(start()(error)) };
        }
        // This machine's own engine has not all rights.
        remove(docker, &name).await?;
    }
    unreachable!("the last attempt returns")
}

async fn upload(docker: &Docker, name: &str, files: &[File]) -> Result<(), Error> {
    let error = |source| Error::File { path: name.into(), source };
    let mut tar = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode);
        header.set_uid(file.owner);
        header.set_gid(file.owner);
        header.set_size(file.bytes.len() as u64);
        tar.append_data(&mut header, file.path, file.bytes.as_slice()).map_err(error)?;
    }
    let tar = tar.into_inner().map_err(error)?;
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    docker
        .upload_to_container(name, Some(options), body_full(tar.into()))
        .await
        .map_err(Error::engine(format!("put files into `{name}`")))
}

fn is_absent(error: &DockerError) -> bool {
    matches!(error, DockerError::DockerResponseServerError { status_code: 404, .. })
}

fn is_port_taken(error: &DockerError) -> bool {
    error.to_string().contains("already allocated") || error.to_string().contains("already in use")
}

async fn remove(docker: &Docker, name: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match docker.remove_container(name, Some(options)).await {
        Err(error) if !is_absent(&error) => Err(Error::engine(format!("remove `{name}`"))(error)),
        _ => Ok(()),
    }
}

async fn remove_volume(docker: &Docker, name: &str) -> Result<(), Error> {
    let options = RemoveVolumeOptionsBuilder::new().build();
    match docker.remove_volume(name, Some(options)).await {
        Err(error) if !is_absent(&error) => {
            Err(Error::engine(format!("remove the volume `{name}`"))(error))
        }
        _ => Ok(()),
    }
}

/// Removes all objects of a testbed. Answers what they were.
pub(crate) async fn remove_all(docker: &Docker, place: &Place) -> Result<Vec<String>, Error> {
    let mut removed = Vec::new();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filter(place)).build();
    let containers =
        docker.list_containers(Some(options)).await.map_err(Error::engine("list containers"))?;
    for name in containers.into_iter().filter_map(|it| it.names?.into_iter().next()) {
        let name = name.trim_start_matches('/');
        remove(docker, name).await?;
        removed.push(format!("container {name}"));
    }
    let options = ListVolumesOptionsBuilder::new().filters(&filter(place)).build();
    let volumes =
        docker.list_volumes(Some(options)).await.map_err(Error::engine("list volumes"))?;
    for volume in volumes.volumes.unwrap_or_default() {
        remove_volume(docker, &volume.name).await?;
        removed.push(format!("volume {}", volume.name));
    }
    let options = ListNetworksOptionsBuilder::new().filters(&filter(place)).build();
    let networks =
        docker.list_networks(Some(options)).await.map_err(Error::engine("list networks"))?;
    for name in networks.into_iter().filter_map(|it| it.name) {
        let error = Error::engine(format!("remove the network `{name}`"));
        docker.remove_network(&name).await.map_err(error)?;
        removed.push(format!("network {name}"));
    }
    Ok(removed)
}

/// Removes the images whose name begins so, from this machine's engine. Answers their names.
pub(crate) async fn remove_images(docker: &Docker, prefix: &str) -> Result<Vec<String>, Error> {
    let options = ListImagesOptionsBuilder::new().build();
    let images = docker.list_images(Some(options)).await.map_err(Error::engine("list images"))?;
    let mut removed = Vec::new();
    // A tag takes its digest with it, so a digest may be gone when it is its turn.
    let tags = images.iter().flat_map(|it| &it.repo_tags);
    let digests = images.iter().flat_map(|it| &it.repo_digests);
    for name in tags.chain(digests).filter(|it| it.starts_with(prefix)) {
        let options = RemoveImageOptionsBuilder::new().build();
        match docker.remove_image(name, Some(options), None).await {
            Ok(_) => removed.push(format!("image {name}")),
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(Error::engine(format!("remove the image `{name}`"))(error)),
        }
    }
    Ok(removed)
}

/// Whether a container is there, running or not.
pub(crate) async fn exists(docker: &Docker, name: &str) -> Result<bool, Error> {
    match docker.inspect_container(name, None).await {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        Err(error) => Err(Error::engine(format!("look up `{name}`"))(error)),
    }
}

/// Waits until the VM's engine works, and registry and SSH answer on our loopback.
pub(crate) async fn answer(
    docker: &Docker,
    place: &Place,
    ssh: u16,
    registry: u16,
) -> Result<(), Error> {
    const DEADLINE: Duration = Duration::from_secs(90);
    const PAUSE: Duration = Duration::from_millis(100);

    let began = Instant::now();
    let (vm, store) = (place.object("vm"), place.object("registry"));
    let is_registry = async || says(registry, b"GET /v2/ HTTP/1.0\r\n\r\n", b"HTTP/1.").await;
    let is_sshd = async || says(ssh, b"", b"SSH-").await;
    let is_engine = async || {
        let port = format!("exec 3<>/dev/tcp/127.0.0.1/{registry}");
        let script = format!("docker info >/dev/null 2>&1 && ({port}) 2>/dev/null");
        succeeds(docker, &vm, &["bash", "-c", &script]).await
    };
    let (mut registry, mut sshd, mut engine) = (false, false, false);
    loop {
        registry = registry || is_registry().await;
        sshd = sshd || is_sshd().await;
        engine = engine || is_engine().await;
        if registry && sshd && engine {
            return Ok(());
        }
        if began.elapsed() > DEADLINE {
            let container = if registry { vm } else { store };
            let log = last_words(docker, &container).await;
            return Err(Error::Silent { container, log });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether what listens on a loopback port answers like this.
async fn says(port: u16, ask: &[u8], answer: &[u8]) -> bool {
    let talk = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(ask).await?;
        let mut begin = vec![0; answer.len()];
        stream.read_exact(&mut begin).await?;
        std::io::Result::Ok(begin == answer)
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), talk).await, Ok(Ok(true)))
}

async fn succeeds(docker: &Docker, name: &str, cmd: &[&str]) -> bool {
    let run = async {
        let config = ExecConfig {
            cmd: Some(cmd.iter().map(|&it| it.to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let id = docker.create_exec(name, config).await?.id;
        if let StartExecResults::Attached { output, .. } = docker.start_exec(&id, None).await? {
            output.try_for_each(async |_| Ok(())).await?;
        }
        Ok::<_, DockerError>(docker.inspect_exec(&id).await?.exit_code == Some(0))
    };
    matches!(tokio::time::timeout(Duration::from_secs(20), run).await, Ok(Ok(true)))
}

async fn last_words(docker: &Docker, name: &str) -> Vec<String> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("15").build();
    let words: Vec<LogOutput> =
        docker.logs(name, Some(options)).filter_map(async |it| it.ok()).collect().await;
    words.iter().map(|it| it.to_string().trim_end().to_owned()).collect()
}

/// A loopback port nobody listens on. Below those that the kernel hands out, so that it is still
/// free when the machine has been restarted; each testbed begins its search elsewhere.
pub(crate) fn free_port(place: &Place, role: &str, not: &[u16]) -> u16 {
    let seed = Fingerprint::of([place.id.as_bytes(), role.as_bytes()]).to_string();
    let seed = u16::from_str_radix(&seed[..3], 16).expect("it is made of hexadecimal digits");
    (0..10_000u16)
        .map(|n| 20_000 + (seed + n) % 10_000)
        .filter(|it| !not.contains(it))
        .find(|&it| TcpListener::bind((Ipv4Addr::LOCALHOST, it)).is_ok())
        .unwrap_or(20_000)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn spec(disk: Option<u64>, nested: bool) -> Spec<'static> {
        Spec {
            role: "vm",
            image: "an/image:1",
            port: (22, 20_022),
            env: vec!["REGISTRY_PORT=20050".to_owned()],
            data: "/var/lib/docker",
            disk,
            nested,
            files: vec![File { path: "etc/key", mode: 0o600, owner: 0, bytes: b"secret".to_vec() }],
        }
    }

    #[test]
    fn all_that_is_made_carries_the_label_by_which_it_is_removed() {
        let place = Place::new(Path::new("/"), "demo").unwrap();
        let body = spec(None, true).body(&place, true);
        let mine = Some(&place.id);
        assert_eq!(body.labels.unwrap().get(LABEL), mine);
        let mounts = body.host_config.unwrap().mounts.unwrap();
        let options = mounts[0].volume_options.clone().unwrap();
        assert_eq!(options.labels.unwrap().get(LABEL), mine);
    }

    #[test]
    fn ports_are_open_on_the_loopback_only() {
        let place = Place::new(Path::new("/"), "demo").unwrap();
        let host = spec(None, true).body(&place, true).host_config.unwrap();
        let bindings = host.port_bindings.unwrap().remove("22/tcp").unwrap().unwrap();
        assert_eq!(bindings[0].host_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(bindings.len(), 1);
    }

    #[test]
    fn a_changed_spec_is_another_recipe_and_shows_no_secret() {
        let recipe = spec(None, true).recipe();
        assert_eq!(recipe, spec(None, true).recipe());
        assert_ne!(recipe, spec(Some(1), true).recipe());
        let mut other = spec(None, true);
        other.files[0].bytes = b"another".to_vec();
        assert_ne!(recipe, other.recipe());
        let place = Place::new(Path::new("/"), "demo").unwrap();
        assert!(!format!("{:?}", other.body(&place, false)).contains("another"));
    }

    #[test]
    fn a_port_in_use_is_not_taken() {
        let place = Place::new(Path::new("/"), "demo").unwrap();
        let first = free_port(&place, "ssh", &[]);
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first)).unwrap();
        let second = free_port(&place, "ssh", &[]);
        assert_ne!(second, first);
        assert_ne!(free_port(&place, "ssh", &[second]), second);
    }
}
