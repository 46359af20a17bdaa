//! The line to the data centre: a TCP proxy that can be cut.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::Scene;
use crate::gateway::Addresses;

pub struct Line {
    listener: TcpListener,
    address: SocketAddr,
}

impl Line {
    pub async fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where Spark believes the gateway to be.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Carries connections while the line is up. A cut one answers nothing and
    /// refuses nothing, as a real one: bytes stop, and new connections wait.
    pub async fn carry(
        self,
        mut scene: watch::Receiver<Scene>,
        gateway: watch::Receiver<Option<Addresses>>,
    ) {
        while scene.wait_for(|scene| scene.line_up).await.is_ok() {
            tokio::select! {
                accepted = self.listener.accept() => {
                    let Ok((spark, _)) = accepted else { continue };
                    let Some(addresses) = *gateway.borrow() else { continue };
                    tokio::spawn(connection(spark, addresses.spark, scene.clone()));
                }
                changed = scene.changed() => if changed.is_err() { return },
            }
        }
    }
}

async fn connection(mut spark: TcpStream, gateway: SocketAddr, mut scene: watch::Receiver<Scene>) {
    let Ok(mut gateway) = TcpStream::connect(gateway).await else { return };
    let _ = (spark.set_nodelay(true), gateway.set_nodelay(true));
    let was_cut = tokio::select! {
        _ = copy_bidirectional(&mut spark, &mut gateway) => false,
        cut = scene.wait_for(|scene| !scene.line_up) => cut.is_ok(),
    };
    if was_cut {
        // Both ends find out when the line is back.
        let _ = scene.wait_for(|scene| scene.line_up).await;
    }
}
