//! The process is killed; what it gave to the kernel stays.

use super::campaign::Mishap;
use super::life::Life;
use super::seed::Seed;
use crate::common::gateway::{Gateway, Setup};

pub struct Kill9;

impl Mishap for Kill9 {
    fn setup(&mut self) -> Setup {
        Setup::new().set("STORE__SEGMENT_BYTES", "1MiB")
    }

    async fn start(&mut self, setup: Setup, _: &mut Seed) -> Result<Gateway, Setup> {
        Ok(setup.start().await)
    }

    async fn disturb(&mut self, _: &Life, _: &mut Seed) {}

    async fn strike(&mut self, gateway: Gateway, life: &Life, chance: &mut Seed) -> Setup {
        // Few make it likely that the kill falls into a start or a rotation.
        let few = chance.one_in(4);
        let moment = chance.below(if few { 5 } else { 400 });
        life.reaches(moment).await;
        if chance.one_in(6) {
            // In the middle of an orderly end.
            life.stopping();
            gateway.signal("TERM");
        }
        gateway.kill().await
    }
}
