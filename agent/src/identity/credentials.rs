//! Credentials of the service manager (systemd.exec(5), LoadCredential=): files in a folder that it makes for this service
//! alone, and names in the environment. They are copies, made when the service starts: what they were made from may change
//! without them.

use std::{env, ffi::OsString, path::PathBuf};

use adit_config::Tls;

use super::error::LoadError;

/// Where the folder's name stands.
pub const VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// What `tls` names, as paths alone.
pub(super) fn found(tls: &Tls) -> Result<Tls, LoadError> {
    within(tls, env::var_os(VARIABLE))
}

fn within(tls: &Tls, folder: Option<OsString>) -> Result<Tls, LoadError> {
    let Some(asks) = tls.credential() else { return Ok(tls.clone()) };
    match folder.map(PathBuf::from) {
        Some(folder) if folder.is_absolute() => Ok(tls.with_credentials_in(&folder)),
        Some(_) | None => Err(LoadError::new(asks, format!("cannot be found: {VARIABLE} is not set"), HELP)),
    }
}

const HELP: &str = "let LoadCredential= of the systemd unit name it, and systemd start the agent; or write a path";

#[cfg(test)]
mod tests {
    use adit_config::Certificate;

    use super::*;

    fn tls(key: &str) -> Tls {
        let certificate = Certificate { id: "default".to_owned(), cert: "/etc/host.pem".into(), key: key.into() };
        Tls { ca: "/etc/ca.pem".into(), crl: Vec::new(), certificates: vec![certificate] }
    }

    #[test]
    fn a_credential_is_a_file_of_the_folder_and_a_path_stays_what_it_is() {
        let found = within(&tls("credential:host.key"), Some("/run/credentials/adit.service".into())).unwrap();
        assert_eq!(found, tls("/run/credentials/adit.service/host.key"));
        assert_eq!(within(&tls("/etc/host.key"), None).unwrap(), tls("/etc/host.key"));
    }

    #[test]
    fn a_credential_without_a_folder_is_named() {
        for folder in [None, Some("relative".into())] {
            let error = within(&tls("credential:host.key"), folder).unwrap_err().to_string();
            assert!(
                error.contains("credential:host.key: cannot be found: CREDENTIALS_DIRECTORY is not set"),
                "{error}"
            );
        }
    }
}
