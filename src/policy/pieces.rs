//! Pieces of the policy that can be switched off, to measure what each is worth: `simulate::benchmark::ablation`, and nobody
//! else, does so.

/// A piece of the policy; one bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece(u16);

impl Piece {
    /// Growth is carried forward.
    pub(crate) const TREND: Self = Self(1);
    /// Room for what arrives beyond the forecast.
    pub(crate) const RESERVE: Self = Self(1 << 1);
    /// That room follows the error budget.
    pub(crate) const BUDGET: Self = Self(1 << 2);
    /// Each worker's own load after a change; else the staircase's hottest worker.
    pub(crate) const CREW: Self = Self(1 << 3);
    /// Each worker's own speed.
    pub(crate) const SPEEDS: Self = Self(1 << 4);
    /// Numbers that proved too few are remembered.
    pub(crate) const MISTAKES: Self = Self(1 << 5);
    /// Ups that gave nothing are undone.
    pub(crate) const BOTTLENECK: Self = Self(1 << 6);
    /// Changes whose pause makes records late have a price.
    pub(crate) const DEAR: Self = Self(1 << 7);
    /// A backlog asks for workers beyond those that the arrivals need.
    pub(crate) const RECOVERY: Self = Self(1 << 8);
    /// Fewer workers must be enough for a while.
    pub(crate) const WINDOW: Self = Self(1 << 9);
    /// A change is let land before the next one.
    pub(crate) const FLIGHT: Self = Self(1 << 10);
    /// The last moments' rate counts where it is above its noise.
    pub(crate) const FAST_LEVEL: Self = Self(1 << 11);
}

/// Those that are off; none by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Off(u16);

impl Off {
    /// This one too.
    #[must_use]
    pub(crate) fn and(self, part: Piece) -> Self {
        Self(self.0 | part.0)
    }

    /// Whether this one works.
    pub(crate) fn spares(self, part: Piece) -> bool {
        self.0 & part.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_off_is_off_and_nothing_else() {
        let off = Off::default().and(Piece::CREW).and(Piece::FAST_LEVEL);
        assert!(!off.spares(Piece::CREW) && !off.spares(Piece::FAST_LEVEL) && off.spares(Piece::TREND));
        assert!(Off::default().spares(Piece::FLIGHT));
    }
}
