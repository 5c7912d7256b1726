//! Up, down, and what a testbed says of itself.

use std::{cell::RefCell, collections::BTreeMap, fmt, path::Path, time::Instant};

use bollard::{auth::DockerCredentials, query_parameters::TagImageOptionsBuilder};
use images::{Engine, Progress};
use release::ImageRef;

use crate::{
    Compose, Error, Event, Login, Options,
    bases::{self, seconds},
    containers::{self, File, Spec, Stands},
    state::{Made, Place, Record},
};

/// A throwaway VM with a registry beside it. It outlives this value, and this program.
#[derive(Clone)]
pub struct Testbed {
    /// Its name.
    pub name: String,
    place: Place,
    record: Record,
    made: Made,
    password: String,
}

impl Testbed {
    /// Makes the testbed, or finds it; goes on with one that is half made. Its files are in
    /// `<root>/.dagster-deploy/<name>`. Of two callers at once, one waits.
    pub async fn up(
        root: &Path,
        options: &Options,
        say: &mut dyn FnMut(Event),
    ) -> Result<Testbed, Error> {
        let say = &RefCell::new(say);
        let place = Place::new(root, &options.name)?;
        let _lock = locked(&place).await?;
        place.make_secrets(options.registry_login.as_ref())?;
        let engine = engine().await?;
        let docker = engine.docker();

        let mut record = place.record().unwrap_or_else(|| {
            let ssh_port = containers::free_port(&place, "ssh", &[]);
            let registry_port = containers::free_port(&place, "registry", &[ssh_port]);
            Record { ssh_port, registry_port, official: None, made: None }
        });
        place.write_record(&record)?;
        let bases = Box::pin(bases::provide(&engine, options, record.official, say)).await?;
        record.official = Some(bases.official);

        let began = Instant::now();
        say.borrow_mut()(Event::Now("starting the registry and the VM".to_owned()));
        containers::network(docker, &place).await?;
        let login = options.registry_login.as_ref();
        let mut tries = 0;
        let (registry, vm) = loop {
            tries += 1;
            place.write_record(&record)?;
            let spec = registry_spec(&bases.registry, record.registry_port, login);
            let registry = containers::stand(docker, &place, &spec).await?;
            if registry == Stands::PortTaken && tries < 5 {
                let not = [record.ssh_port, record.registry_port];
                record.registry_port = containers::free_port(&place, "registry", &not);
                continue;
            }
            place.pin_host_key(record.ssh_port)?;
            let spec = vm_spec(&place, &bases.vm, &record, options.disk)?;
            let vm = containers::stand(docker, &place, &spec).await?;
            if vm == Stands::PortTaken && tries < 5 {
                let not = [record.ssh_port, record.registry_port];
                record.ssh_port = containers::free_port(&place, "ssh", &not);
                continue;
            }
            break (registry, vm);
        };
        containers::answer(docker, &place, record.ssh_port, record.registry_port).await?;
        if (registry, vm) != (Stands::Already, Stands::Already) {
            let text = format!("started the registry and the VM ({})", seconds(began));
            say.borrow_mut()(Event::Said(text));
        }

        let registry = registry_address(&record);
        let postgres_image = give(&engine, &registry, &bases.postgres, login, say).await?;
        let made = Made { compose: options.compose, python_image: bases.python, postgres_image };
        record.made = Some(made.clone());
        place.write_record(&record)?;
        let password = place.read("postgres_password")?;
        Ok(Testbed { name: place.name.clone(), place, record, made, password })
    }

    /// The testbed of that name, if it was made and its VM is there.
    pub async fn find(root: &Path, name: &str) -> Result<Option<Testbed>, Error> {
        let place = Place::new(root, name)?;
        let Some(record) = place.record() else { return Ok(None) };
        let Some(made) = record.made.clone() else { return Ok(None) };
        if !containers::exists(engine().await?.docker(), &place.object("vm")).await? {
            return Ok(None);
        }
        let password = place.read("postgres_password")?;
        Ok(Some(Testbed { name: name.to_owned(), place, record, made, password }))
    }

    /// Removes the testbed: its containers, volumes, network, the images pushed to its registry and
    /// its files. Answers what was removed. The base images stay; other testbeds use them too.
    pub async fn down(root: &Path, name: &str) -> Result<Vec<String>, Error> {
        let place = Place::new(root, name)?;
        let is_known = place.dir.is_dir();
        let _lock = if is_known { Some(locked(&place).await?) } else { None };
        let engine = engine().await?;
        let docker = engine.docker();
        let mut removed = containers::remove_all(docker, &place).await?;
        if let Some(record) = place.record() {
            let ours = format!("{}/", registry_address(&record));
            removed.extend(containers::remove_images(docker, &ours).await?);
        }
        if is_known {
            place.remove()?;
            removed.push(format!("folder {}", place.dir.display()));
        }
        Ok(removed)
    }

    /// Removes the base images that testbeds of this machine made. Answers what was removed.
    pub async fn purge() -> Result<Vec<String>, Error> {
        containers::remove_images(engine().await?.docker(), bases::PREFIX).await
    }

    /// What it is, in a line.
    pub fn describe(&self) -> String {
        let Record { ssh_port, registry_port, .. } = self.record;
        format!("a VM at 127.0.0.1:{ssh_port}, a registry at 127.0.0.1:{registry_port}")
    }

    /// Its settings, by key.
    pub fn facts(&self) -> BTreeMap<String, String> {
        let file = |name| self.place.file(name).display().to_string();
        let mut facts = vec![
            ("DEPLOY_HOST", "deployer@127.0.0.1".to_owned()),
            ("DEPLOY_SSH_PORT", self.record.ssh_port.to_string()),
            ("DEPLOY_SSH_KEY", file("key")),
            ("DEPLOY_SSH_KNOWN_HOSTS", file("known_hosts")),
            ("DEPLOY_REGISTRY", format!("{}/dagster", registry_address(&self.record))),
            ("DEPLOY_PYTHON_IMAGE", self.made.python_image.clone()),
            ("DEPLOY_POSTGRES_IMAGE", self.made.postgres_image.clone()),
            ("POSTGRES_PASSWORD", self.password.clone()),
        ];
        if let Some(Login { user, password }) = self.place.registry_login() {
            facts.push(("DEPLOY_REGISTRY_USER", user));
            facts.push(("DEPLOY_REGISTRY_PASSWORD", password));
        }
        facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The name of the VM's container, in this machine's engine.
    pub fn vm(&self) -> String {
        self.place.object("vm")
    }

    /// The Compose its VM has.
    pub fn compose(&self) -> Compose {
        self.made.compose
    }
}

impl fmt::Debug for Testbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Testbed(`{}`)", self.place.id)
    }
}

async fn engine() -> Result<Engine, Error> {
    Engine::local().await.map_err(|source| Error::NoEngine { source: Box::new(source) })
}

/// Waits aside, so that progress can be shown meanwhile.
async fn locked(place: &Place) -> Result<std::fs::File, Error> {
    let place = place.clone();
    tokio::task::spawn_blocking(move || place.lock())
        .await
        .expect("it does not panic, and nothing aborts it")
}

fn registry_address(record: &Record) -> String {
    format!("127.0.0.1:{}", record.registry_port)
}

fn registry_spec<'a>(image: &'a str, port: u16, login: Option<&Login>) -> Spec<'a> {
    let login = login.map(|it| File {
        path: "etc/docker/registry/login",
        mode: 0o600,
        owner: 0,
        bytes: format!("{}\n{}\n", it.user, it.password).into_bytes(),
    });
    Spec {
        role: "registry",
        image,
        port: (5000, port),
        env: Vec::new(),
        data: "/var/lib/docker-registry",
        disk: None,
        nested: false,
        files: login.into_iter().collect(),
    }
}

fn vm_spec<'a>(
    place: &Place,
    image: &'a str,
    record: &Record,
    disk: Option<u64>,
) -> Result<Spec<'a>, Error> {
    let file = |path, mode, owner, name| {
        Ok::<_, Error>(File { path, mode, owner, bytes: place.read(name)?.into_bytes() })
    };
    // 1000 is the first user's number: `deployer`.
    let authorized = file("home/deployer/.ssh/authorized_keys", 0o600, 1000, "key.pub")?;
    let host_key = file("etc/ssh/ssh_host_ed25519_key", 0o600, 0, "host_key")?;
    Ok(Spec {
        role: "vm",
        image,
        port: (22, record.ssh_port),
        env: vec![format!("REGISTRY_PORT={}", record.registry_port)],
        data: "/var/lib/docker",
        disk,
        nested: true,
        files: vec![authorized, host_key],
    })
}

/// Gives the registry an image, so that the VM can pull it. Answers its name there, by digest.
async fn give(
    engine: &Engine,
    registry: &str,
    image: &str,
    login: Option<&Login>,
    say: &RefCell<&mut dyn FnMut(Event)>,
) -> Result<String, Error> {
    let what = "the registry's copy of the Postgres image";
    let there: ImageRef = format!("{registry}/testbed/{}", image.trim_start_matches(bases::PREFIX))
        .parse()
        .expect("our own names are well-formed");
    let credentials = login.map(|it| DockerCredentials {
        username: Some(it.user.clone()),
        password: Some(it.password.clone()),
        ..DockerCredentials::default()
    });
    if let Ok(found) = engine.docker().inspect_registry_image(&there.to_string(), credentials).await
        && let Some(digest) = found.descriptor.digest
        && let Ok(digest) = digest.parse()
    {
        return Ok(there.with_digest(digest).to_string());
    }
    let began = Instant::now();
    let options = TagImageOptionsBuilder::new()
        .repo(there.name())
        .tag(there.tag().unwrap_or("latest"))
        .build();
    engine.docker().tag_image(image, Some(options)).await.map_err(Error::engine("tag an image"))?;
    let login = match login {
        None => images::Login::None,
        Some(Login { user, password }) => {
            images::Login::Basic { user: user.clone(), password: password.clone() }
        }
    };
    let mut progress = |it: Progress| say.borrow_mut()(Event::Now(format!("{what}: {it}")));
    let digest = engine.push(&there, &login, &mut progress).await.map_err(Error::image(what))?;
    let text = format!("gave the registry the Postgres image ({})", seconds(began));
    say.borrow_mut()(Event::Said(text));
    Ok(there.with_digest(digest).to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_facts_are_all_that_a_deploy_needs() {
        let place = Place {
            name: "demo".to_owned(),
            dir: "/checkout/.dagster-deploy/demo".into(),
            id: "demo-1a2b3c".to_owned(),
        };
        let made = Made {
            compose: Compose::V1,
            python_image: "dagster-testbed/python:1".to_owned(),
            postgres_image: "127.0.0.1:20050/testbed/postgres:1".to_owned(),
        };
        let record = Record {
            ssh_port: 20_022,
            registry_port: 20_050,
            official: Some(false),
            made: Some(made.clone()),
        };
        let password = "hunter2".to_owned();
        let testbed = Testbed { name: "demo".to_owned(), place, record, made, password };
        expect![[r#"
            {
                "DEPLOY_HOST": "deployer@127.0.0.1",
                "DEPLOY_POSTGRES_IMAGE": "127.0.0.1:20050/testbed/postgres:1",
                "DEPLOY_PYTHON_IMAGE": "dagster-testbed/python:1",
                "DEPLOY_REGISTRY": "127.0.0.1:20050/dagster",
                "DEPLOY_SSH_KEY": "/checkout/.dagster-deploy/demo/key",
                "DEPLOY_SSH_KNOWN_HOSTS": "/checkout/.dagster-deploy/demo/known_hosts",
                "DEPLOY_SSH_PORT": "20022",
                "POSTGRES_PASSWORD": "hunter2",
            }
        "#]]
        .assert_debug_eq(&testbed.facts());
        assert_eq!(testbed.vm(), "dagster-testbed-demo-1a2b3c-vm");
        expect!["a VM at 127.0.0.1:20022, a registry at 127.0.0.1:20050"]
            .assert_eq(&testbed.describe());
    }
}
