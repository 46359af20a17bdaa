//! What the gateway was doing when the power went, told from the file that it
//! was changing.

use std::fmt;

/// Something that changes what would be found after a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Write,
    Sync,
    Make,
    Remove,
    Rename,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A group of notifications.
    Intake,
    /// Write-backs: passed through, staged, committed.
    Staging,
    /// Outcomes of write-backs.
    Replay,
    DeadLetters,
    /// A segment is made or sealed.
    Rotation,
    Deletion,
    /// Consumers' positions, reserved numbers, marks.
    Positions,
    /// Before the gateway listens.
    StartUp,
    Other,
}

impl Place {
    pub const AIMS: [Self; 8] = [
        Self::Intake,
        Self::Staging,
        Self::Replay,
        Self::DeadLetters,
        Self::Rotation,
        Self::Deletion,
        Self::Positions,
        Self::StartUp,
    ];

    pub fn of(step: Step, path: &str, is_up: bool) -> Self {
        let name = path.rsplit('/').next().unwrap_or_default();
        match (step, name) {
            _ if !is_up => Self::StartUp,
            (Step::Remove, _) => Self::Deletion,
            (_, "state.a" | "state.b") => Self::Positions,
            // Of a relay: what gateways hand over, and what they are to pull.
            (_, "db") if path.starts_with("streams/") || path.starts_with("replicas/") => {
                Self::Intake
            }
            (_, "db") if path.starts_with("write-backs/") || path.starts_with("outboxes/") => {
                Self::Staging
            }
            (_, "db") if path.starts_with("outcomes/") => Self::Replay,
            (_, "db") if path.starts_with("dead-letters/") => Self::DeadLetters,
            _ if path.contains("segments") => Self::Rotation,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Intake => "intake",
            Self::Staging => "staging and commit",
            Self::Replay => "replay's outcomes",
            Self::DeadLetters => "dead letters",
            Self::Rotation => "a segment's rotation",
            Self::Deletion => "deletion",
            Self::Positions => "positions, reservation",
            Self::StartUp => "start-up",
            Self::Other => "elsewhere",
        })
    }
}
