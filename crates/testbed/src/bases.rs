//! The images everything stands on: pulled where a registry answers, else made from Debian's
//! packages. Those made here are a cache by content, which all testbeds of the machine share.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bollard::{body_full, query_parameters::CreateImageOptionsBuilder};
use exec::Cmd;
use futures_util::TryStreamExt as _;
use images::{Build, Context, Engine, Progress};
use release::{Fingerprint, ImageRef};
use tokio::{
    sync::OnceCell,
    time::{error::Elapsed, timeout},
};

use crate::{Compose, Error, Event, Options};

/// The repositories of all images made here begin with it.
pub(crate) const PREFIX: &str = "dagster-testbed/";

/// The official images: Debian, Python, Postgres.
const OFFICIAL: [&str; 3] = ["debian:bookworm-slim", "python:3.12-slim-bookworm", "postgres:17"];

/// How long a registry may think about whether it is there.
const DEADLINE: Duration = Duration::from_secs(10);

/// What makes Debian's base out of its packages. No manuals, no translations.
const MMDEBSTRAP: &[&str] = &[
    "--quiet",
    "--variant=minbase",
    "--aptopt=Acquire::Languages \"none\"",
    "--aptopt=APT::Install-Recommends \"false\"",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "bookworm",
];

/// The images of a testbed, by the names that this machine's engine knows them by.
#[derive(Debug, Clone)]
pub(crate) struct Bases {
    pub(crate) official: bool,
    pub(crate) python: String,
    pub(crate) postgres: String,
    pub(crate) registry: String,
    pub(crate) vm: String,
}

/// A Dockerfile of ours and what it copies.
struct Recipe {
    name: &'static str,
    what: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! recipe {
    ($folder:literal, $what:literal, $($file:literal),+) => {
        Recipe {
            name: $folder,
            what: $what,
            files: &[$(($file, include_str!(concat!("../images/", $folder, "/", $file)))),+],
        }
    };
}

const PYTHON: Recipe = recipe!("python", "the Python image", "Dockerfile");
const POSTGRES: Recipe = recipe!("postgres", "the Postgres image", "Dockerfile", "postgres.sh");
const REGISTRY: Recipe =
    recipe!("registry", "the registry's image", "Dockerfile", "config.yml", "registry.sh");
const VM: Recipe = recipe!("vm", "the VM's image", "Dockerfile", "compose.txt", "vm.sh");

/// Makes or finds the images of a testbed. Whether they are official is decided once, unless told.
pub(crate) async fn provide(
    engine: &Engine,
    options: &Options,
    official: Option<bool>,
    say: &RefCell<&mut dyn FnMut(Event)>,
) -> Result<Bases, Error> {
    let official = match official {
        Some(it) => it,
        None => official_answers(engine).await,
    };
    let make = |recipe, base, args| make(engine, options, recipe, base, args, say);
    if official {
        for image in OFFICIAL {
            pull(engine, image, say).await?;
        }
        let [debian, python, postgres] = OFFICIAL.map(str::to_owned);
        let args = vm_args(options.compose, &python);
        let (registry, vm) =
            tokio::try_join!(make(&REGISTRY, &debian, BTreeMap::new()), make(&VM, &debian, args))?;
        return Ok(Bases { official, python, postgres, registry, vm });
    }
    let debian = debian_here(engine, say).await?;
    let python_and_vm = async {
        if options.compose == Compose::V1 {
            let args = vm_args(options.compose, "scratch");
            return tokio::try_join!(
                make(&PYTHON, &debian, BTreeMap::new()),
                make(&VM, &debian, args)
            );
        }
        // Its newer Compose comes through pip.
        let python = make(&PYTHON, &debian, BTreeMap::new()).await?;
        let vm = make(&VM, &debian, vm_args(options.compose, &python)).await?;
        Ok((python, vm))
    };
    let (registry, (python, vm), postgres) = tokio::try_join!(
        make(&REGISTRY, &debian, BTreeMap::new()),
        python_and_vm,
        make(&POSTGRES, &debian, BTreeMap::new()),
    )?;
    Ok(Bases { official, python, postgres, registry, vm })
}

/// The images that those of a platform are built on and run by, as settings by their key: the
/// official ones where a registry answers, else made here.
pub async fn base_images(
    engine: &Engine,
    ca_bundle: Option<PathBuf>,
    say: &mut dyn FnMut(Event),
) -> Result<BTreeMap<String, String>, Error> {
    let say = &RefCell::new(say);
    let [python, postgres] = if official_answers(engine).await {
        let [_, python, postgres] = OFFICIAL;
        for image in [python, postgres] {
            pull(engine, image, say).await?;
        }
        [python, postgres].map(str::to_owned)
    } else {
        let debian = debian_here(engine, say).await?;
        let options = Options { ca_bundle, ..Options::named("base-images") };
        let make = |recipe| make(engine, &options, recipe, &debian, BTreeMap::new(), say);
        tokio::try_join!(make(&PYTHON), make(&POSTGRES))?.into()
    };
    let facts = [("DEPLOY_PYTHON_IMAGE", python), ("DEPLOY_POSTGRES_IMAGE", postgres)];
    Ok(facts.map(|(key, image)| (key.to_owned(), image)).into())
}

/// Debian's base, made if it is not here.
async fn debian_here(
    engine: &Engine,
    say: &RefCell<&mut dyn FnMut(Event)>,
) -> Result<String, Error> {
    let debian = debian_base();
    if engine.image(&name(&debian)).await.map_err(Error::image("Debian's base image"))?.is_none() {
        say.borrow_mut()(Event::Said(
            "no container registry answers here; making the base images from Debian packages"
                .to_owned(),
        ));
        debootstrap(engine, &debian, say).await?;
    }
    Ok(debian)
}

/// Whether Debian's base has yet to be made here.
pub(crate) async fn debian_is_needed(engine: &Engine) -> bool {
    let there = engine.image(&name(&debian_base())).await;
    !matches!(there, Ok(Some(_))) && !official_answers(engine).await
}

/// Whether the official images are here, or can be had.
async fn official_answers(engine: &Engine) -> bool {
    /// Asked once in the life of this program.
    static ANSWER: OnceCell<bool> = OnceCell::const_new();

    *ANSWER
        .get_or_init(async || {
            let mut here = true;
            for image in OFFICIAL {
                here &= matches!(engine.image(&name(image)).await, Ok(Some(_)));
            }
            let asked = engine.docker().inspect_registry_image(OFFICIAL[0], None);
            here || matches!(timeout(DEADLINE, asked).await, Ok::<_, Elapsed>(Ok(_)))
        })
        .await
}

fn vm_args(compose: Compose, python: &str) -> BTreeMap<String, String> {
    let args = [("COMPOSE", compose.stage()), ("PYTHON", python)];
    args.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn debian_base() -> String {
    let recipe = Fingerprint::of(MMDEBSTRAP.iter().map(|it| it.as_bytes()));
    format!("{PREFIX}debian:{}", recipe.short())
}

/// The tag of what a recipe makes: the same for the same files, base and arguments.
fn tag(recipe: &Recipe, args: &BTreeMap<String, String>) -> String {
    let files = recipe.files.iter().flat_map(|(name, text)| [name.as_bytes(), text.as_bytes()]);
    let args = args.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]);
    let fingerprint = Fingerprint::of(files.chain(args));
    format!("{PREFIX}{}:{}", recipe.name, fingerprint.short())
}

async fn pull(
    engine: &Engine,
    image: &str,
    say: &RefCell<&mut dyn FnMut(Event)>,
) -> Result<(), Error> {
    let image = name(image);
    let error = || Error::image(format!("a copy of `{image}`"));
    if engine.image(&image).await.map_err(error())?.is_some() {
        return Ok(());
    }
    let began = Instant::now();
    let mut progress =
        |it: Progress| say.borrow_mut()(Event::Now(format!("pulling `{image}`: {it}")));
    engine.pull(&image, &images::Login::None, &mut progress).await.map_err(error())?;
    say.borrow_mut()(Event::Said(format!("pulled `{image}` ({})", seconds(began))));
    Ok(())
}

async fn make(
    engine: &Engine,
    options: &Options,
    recipe: &Recipe,
    base: &str,
    mut args: BTreeMap<String, String>,
    say: &RefCell<&mut dyn FnMut(Event)>,
) -> Result<String, Error> {
    let what = recipe.what;
    args.insert("BASE".to_owned(), base.to_owned());
    let tag = tag(recipe, &args);
    if engine.image(&name(&tag)).await.map_err(Error::image(what))?.is_some() {
        return Ok(tag);
    }
    let began = Instant::now();
    let dir = tempfile::tempdir().map_err(temporary)?;
    for (name, text) in recipe.files {
        fs::write(dir.path().join(name), text).map_err(temporary)?;
    }
    let dockerfile = Path::new("Dockerfile");
    let ca = options.ca_bundle.clone().map(|it| ("ca".to_owned(), it));
    let build = Build {
        context: Context::read(dir.path(), dockerfile).map_err(Error::image(what))?,
        dockerfile: dockerfile.to_owned(),
        tag: tag.clone(),
        args,
        labels: BTreeMap::new(),
        secrets: ca.into_iter().collect(),
    };
    let mut progress = |it: Progress| {
        if let Progress::Step(_) | Progress::Log(_) = it {
            say.borrow_mut()(Event::Now(format!("{what}: {it}")));
        }
    };
    engine.build(&build, &mut progress).await.map_err(Error::image(what))?;
    say.borrow_mut()(Event::Said(format!("made {what} ({})", seconds(began))));
    Ok(tag)
}

async fn debootstrap(
    engine: &Engine,
    tag: &str,
    say: &RefCell<&mut dyn FnMut(Event)>,
) -> Result<(), Error> {
    let what = "Debian's base image";
    let began = Instant::now();
    say.borrow_mut()(Event::Now(format!("{what}: unpacking packages (half a minute)")));
    let dir = tempfile::tempdir().map_err(temporary)?;
    let file = dir.path().join("base.tar");
    let target = file.clone();
    tokio::task::spawn_blocking(move || {
        let args = MMDEBSTRAP.iter().copied();
        // Without root it makes do with a namespace, where the kernel allows that.
        let cmd = match crate::doctor::root() {
            Some(prefix) => prefix.call("mmdebstrap"),
            None => Cmd::new("mmdebstrap"),
        };
        cmd.args(args).arg(target).read()
    })
    .await
    .expect("it does not panic, and nothing aborts it")
    .map_err(|source| Error::Program { what: format!("make {what}"), source })?;
    let bytes = fs::read(&file).map_err(temporary)?;
    let image = name(tag);
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(image.name())
        .tag(image.tag().unwrap_or_default())
        .build();
    engine
        .docker()
        .create_image(Some(options), Some(body_full(bytes.into())), None)
        .try_for_each(async |_| Ok(()))
        .await
        .map_err(Error::engine(format!("import {what}")))?;
    say.borrow_mut()(Event::Said(format!("made {what} ({})", seconds(began))));
    Ok(())
}

fn temporary(source: std::io::Error) -> Error {
    Error::File { path: std::env::temp_dir(), source }
}

fn name(image: &str) -> ImageRef {
    image.parse().expect("our own names are well-formed")
}

pub(crate) fn seconds(began: Instant) -> String {
    format!("{:.1} s", began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_made_here_is_named_by_its_recipe() {
        let args = |compose| vm_args(compose, "scratch");
        let (v1, v2) = (tag(&VM, &args(Compose::V1)), tag(&VM, &args(Compose::V2)));
        assert_ne!(v1, v2);
        assert_eq!(v1, tag(&VM, &args(Compose::V1)));
        for it in [v1, v2, debian_base(), tag(&PYTHON, &BTreeMap::new())] {
            assert!(it.starts_with(PREFIX) && name(&it).tag().is_some_and(|it| it.len() == 12));
        }
    }

    #[test]
    fn what_a_dockerfile_copies_is_there() {
        for recipe in [PYTHON, POSTGRES, REGISTRY, VM] {
            let names: Vec<&str> = recipe.files.iter().map(|(name, _)| *name).collect();
            for line in recipe.files[0].1.lines().filter(|it| it.starts_with("COPY")) {
                let words: Vec<&str> = line.split(' ').filter(|it| !it.starts_with("--")).collect();
                let from_stage = line.contains("--from");
                assert!(from_stage || names.contains(&words[1]), "{}: {line}", recipe.name);
            }
        }
    }
}
