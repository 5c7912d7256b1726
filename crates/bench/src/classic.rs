//! The flow that a deploy replaces: build, push `:latest`, and over SSH
//! `docker-compose pull && docker-compose up -d docker_dagster_core`.

use std::{collections::BTreeMap, time::Duration};

use exec::Cmd;
use images::{Build, Context, Engine, Login};

use crate::{
    Checkout, Link, Relay,
    checkout::{Window, runtime},
};

/// A VM on which the four containers are one Compose project.
pub struct Classic<'a> {
    checkout: &'a Checkout,
    facts: BTreeMap<String, String>,
    /// What goes to the registry.
    pub registry: Relay,
    /// What goes to the VM.
    pub ssh: Relay,
    ssh_options: Vec<String>,
    window: Window,
}

impl<'a> Classic<'a> {
    /// Sets the VM of a testbed up in that way, and starts all four.
    pub fn start(checkout: &'a Checkout, link: Link) -> Classic<'a> {
        let facts = checkout.facts();
        let registry = checkout.registry_through(link);
        let (ssh, through) = checkout.ssh_through(link);
        let [(_, port), (_, known_hosts)] = &through;
        let ssh_options = [
            "-p",
            port,
            "-i",
            &facts["DEPLOY_SSH_KEY"],
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            "-o",
            &format!("UserKnownHostsFile={known_hosts}"),
            &facts["DEPLOY_HOST"],
        ];
        let ssh_options = ssh_options.map(str::to_owned).to_vec();
        let window = checkout.window(3000);
        let classic = Classic { checkout, facts, registry, ssh, ssh_options, window };
        checkout.write(DOCKERFILE, &with_code(&checkout.read("compose/core.Dockerfile")));
        let ignore = "*\n!pyproject.toml\n!uv.lock\n!dagster_core\n**/__pycache__\n**/.env*\n";
        checkout.write(&format!("{DOCKERFILE}.dockerignore"), ignore);
        classic.push("dagster-core", DOCKERFILE);
        classic.push("dagster-platform", "compose/platform.Dockerfile");
        classic.upload();
        classic.remote("docker-compose up --detach --quiet-pull 2>&1");
        let client = dagster::Client::new(classic.port());
        runtime().block_on(client.ready(Duration::from_mins(2))).unwrap();
        classic
    }

    /// The port of its UI, here.
    pub fn port(&self) -> u16 {
        self.window.port
    }

    /// Deploys the checkout as it is.
    pub fn deploy(&self) {
        self.push("dagster-core", DOCKERFILE);
        self.remote(
            "docker-compose pull --quiet docker_dagster_core 2>&1 && \
             docker-compose up --detach docker_dagster_core 2>&1",
        );
    }

    fn name(&self) -> String {
        format!("127.0.0.1:{}/classic", self.registry.port())
    }

    fn push(&self, name: &str, dockerfile: &str) {
        let tag = format!("{}/{name}:latest", self.name());
        let build = Build {
            context: Context::read(self.checkout.root(), dockerfile.as_ref()).unwrap(),
            dockerfile: dockerfile.into(),
            tag: tag.clone(),
            args: [("PYTHON_IMAGE".to_owned(), self.facts["DEPLOY_PYTHON_IMAGE"].clone())].into(),
            labels: BTreeMap::new(),
            secrets: testbed::Options::named("demo")
                .ca_bundle
                .map(|it| ("ca".to_owned(), it))
                .into_iter()
                .collect(),
        };
        runtime().block_on(async {
            let engine = Engine::local().await.unwrap();
            engine.build(&build, &mut |_| {}).await.unwrap();
            engine.push(&tag.parse().unwrap(), &Login::None, &mut |_| {}).await.unwrap();
        });
    }

    /// Puts the Compose file and what it names onto the VM.
    fn upload(&self) {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("docker-compose.yml", include_str!("classic/docker-compose.yml"));
        write("dagster.yaml", &self.checkout.read("compose/dagster.yaml"));
        write(
            "workspace.yaml",
            "load_from:\n  - grpc_server: {host: docker_dagster_core, port: 4000, location_name: dagster_core}\n",
        );
        let postgres = &self.facts["DEPLOY_POSTGRES_IMAGE"];
        write(".env", &format!("REGISTRY={}\nPOSTGRES_IMAGE={postgres}\n", self.name()));
        let password = &self.facts["POSTGRES_PASSWORD"];
        write(
            "containers.env",
            &format!(
                "DAGSTER_ENV=prod\nPOSTGRES_USER=dagster\nPOSTGRES_PASSWORD={password}\n\
                 POSTGRES_DB=dagster\nWAREHOUSE_DB=warehouse\n\
                 DAGSTER_POSTGRES_HOST=dagster-postgres\n"
            ),
        );
        let tar = Cmd::new("tar").args(["-c", "-C"]).arg(dir.path()).arg(".").output().unwrap();
        self.ssh("mkdir -p classic && tar -x -C classic").stdin(tar.stdout).read().unwrap();
    }

    /// Runs a line in the project's folder on the VM: one connection of `ssh`.
    fn remote(&self, line: &str) {
        self.ssh(&format!("cd classic && {{ {line}; }}")).read().unwrap();
    }

    fn ssh(&self, line: &str) -> Cmd {
        Cmd::new("ssh").args(self.ssh_options.clone()).arg(line)
    }
}

/// The code's image, as this flow builds it.
const DOCKERFILE: &str = "compose/classic.Dockerfile";

/// The Dockerfile of the libraries, with the code as its last layers.
fn with_code(libraries: &str) -> String {
    let (before, user) = libraries.rsplit_once("\nUSER ").expect("it runs as a user of its own");
    let code = "COPY dagster_core dagster_core\n\
                RUN [\"python\", \"-m\", \"compileall\", \"-q\", \"dagster_core\"]";
    format!("{before}\n{code}\nUSER {user}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_comes_last_and_belongs_to_root() {
        let text = with_code("FROM base\nUSER root\nRUN a\nUSER dagster\nCMD [\"b\"]\n");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            ["FROM base", "USER root", "RUN a", "COPY dagster_core dagster_core"]
        );
        assert_eq!(lines[5..], ["USER dagster", "CMD [\"b\"]"]);
    }
}
