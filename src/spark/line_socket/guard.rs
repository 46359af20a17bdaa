//! Who may have the lines, by the certificate.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;

use super::super::access::{Access, On, Right};
use crate::serve::Client;

/// Stands at a line socket whose clients have certificates.
pub(super) struct Guard {
    pub access: Arc<ArcSwap<Access>>,
    /// This one's name, and the stream's.
    pub gateway: String,
    pub stream: String,
}

impl Guard {
    /// Whether a client may have the lines.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn lets_in(&self, name: Option<&str>) -> Result<(), String> {
        self.judge(&self.access.load(), name)
    }

    /// Resolves when one that was let in may not stay, with the reason: a name
    /// may have been denied, or have lost its grant, since.
    pub(super) async fn refuses(&self, name: Option<&str>) -> String {
        loop {
            let now = self.access.load_full();
            if let Err(why) = self.judge(&now, name) {
                return why;
            }
            now.replaced().await;
        }
    }

    fn judge(&self, access: &Access, name: Option<&str>) -> Result<(), String> {
        let client = Client { address: None, name: name.map(ToOwned::to_owned) };
        let who = access.identify(&client, &HeaderMap::new());
        let who = who.ok_or("its certificate has no DNS name, or a denied one")?;
        let on = On { gateway: Some(&self.gateway), stream: Some(&self.stream) };
        if access.may(&who, Right::Read, on) {
            return Ok(());
        }
        let (gateway, stream) = (&self.gateway, &self.stream);
        Err(format!(
            "{} is not granted \"read\" on the stream {stream} of {gateway}; see [[client]]",
            who.0
        ))
    }
}
