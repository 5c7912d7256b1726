//! Who we are to a registry.

use std::fmt;

use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError, DockerCredential};
use google_cloud_artifact_registry::client::google_cloud_auth::{
    project::Config, token::DefaultTokenSourceProvider,
};
use google_cloud_token::TokenSourceProvider as _;

use crate::Error;

/// The name that Google's registries expect with a token.
const GOOGLE_USER: &str = "oauth2accesstoken";

/// Who we are to a registry. It never prints itself.
#[derive(Clone)]
pub enum Login {
    /// Nobody.
    None,
    /// A user with a password or token.
    Basic {
        /// The user.
        user: String,
        /// The password or token.
        password: String,
    },
    /// Whoever this machine is to Google: a short-lived token is asked for when it is needed.
    Google,
}

impl Login {
    /// This machine's own login at a registry: Google's for its registries, for others what
    /// `docker login` left.
    pub fn of_machine(registry: &str) -> Login {
        let host = registry.split('/').next().unwrap_or_default();
        if host.ends_with("-docker.pkg.dev") || host == "gcr.io" || host.ends_with(".gcr.io") {
            return Login::Google;
        }
        match docker_credential::get_credential(host) {
            Ok(DockerCredential::UsernamePassword(user, password)) => {
                Login::Basic { user, password }
            }
            Ok(DockerCredential::IdentityToken(password)) => {
                Login::Basic { user: "<token>".to_owned(), password }
            }
            // No config, or none for this registry: the registry says so if it minds.
            Err::<_, CredentialRetrievalError>(_) => Login::None,
        }
    }

    /// As a registry asks for it.
    pub(crate) async fn user_and_password(&self) -> Result<Option<(String, String)>, Error> {
        Ok(match self {
            Login::None => None,
            Login::Basic { user, password } => Some((user.clone(), password.clone())),
            Login::Google => Some((GOOGLE_USER.to_owned(), google_token().await?)),
        })
    }

    /// As an engine hands it on.
    pub(crate) async fn credentials(&self) -> Result<Option<DockerCredentials>, Error> {
        let login = self.user_and_password().await?;
        Ok(login.map(|(user, password)| DockerCredentials {
            username: Some(user),
            password: Some(password),
            ..DockerCredentials::default()
        }))
    }
}

async fn google_token() -> Result<String, Error> {
    let scopes = ["https://www.googleapis.com/auth/cloud-platform"];
    let config = Config::default().with_scopes(&scopes);
    let provider = DefaultTokenSourceProvider::new(config)
        .await
        .map_err(|source| Error::Google { source: Box::new(source) })?;
    let token = provider.token_source().token().await.map_err(|source| Error::Google { source })?;
    Ok(token.trim_start_matches("Bearer ").to_owned())
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::None => "Login::None",
            Login::Basic { .. } => "Login::Basic([redacted])",
            Login::Google => "Login::Google",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn googles_registries_get_googles_login() {
        for registry in ["europe-west1-docker.pkg.dev/p/r", "eu.gcr.io/p", "gcr.io/p"] {
            assert!(matches!(Login::of_machine(registry), Login::Google), "{registry}");
        }
        assert!(matches!(Login::of_machine("127.0.0.1:1/x"), Login::None));
    }

    #[test]
    fn a_login_does_not_print_its_password() {
        let login = Login::Basic { user: "ana".into(), password: "hunter2".into() };
        assert_eq!(format!("{login:?}"), "Login::Basic([redacted])");
    }
}
