//! What is read of a server: its process, and the device under its data.

use crate::image::Counter;
use crate::process::{self, Reading};

#[derive(Clone)]
pub struct Meter {
    pub pid: u32,
    pub device: Option<Counter>,
}

impl Meter {
    pub fn read(&self) -> anyhow::Result<Reading> {
        let written_to_device = self.device.as_ref().map(Counter::read).transpose()?;
        Ok(Reading { written_to_device, ..process::read(self.pid)? })
    }
}
