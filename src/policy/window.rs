//! The highest need of the last while: what a scale-down must still cover.

use std::collections::VecDeque;

/// Most entries kept; older, higher ones win over exactness.
const MOST: usize = 64;

/// Needs over time, each lower than the one before it: only those can still be the highest.
#[derive(Debug, Clone, Default)]
pub(crate) struct NeedWindow {
    needs: VecDeque<(f64, u32)>,
}

impl NeedWindow {
    /// Notes a need, and forgets what is older than `window` seconds.
    pub(crate) fn note(&mut self, now: f64, need: u32, window: f64) {
        while self.needs.front().is_some_and(|n| now - n.0 > window) {
            self.needs.pop_front();
        }
        while self.needs.back().is_some_and(|n| n.1 <= need) {
            self.needs.pop_back();
        }
        if self.needs.len() < MOST {
            self.needs.push_back((now, need));
        }
    }

    /// The highest.
    pub(crate) fn highest(&self) -> Option<u32> {
        self.needs.front().map(|n| n.1)
    }

    pub(crate) fn clear(&mut self) {
        self.needs.clear();
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.needs.capacity() * size_of::<(f64, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_need_holds_for_the_window() {
        let mut window = NeedWindow::default();
        for (now, need, highest) in
            [(0.0, 5, 5), (1.0, 9, 9), (5.0, 3, 9), (8.0, 4, 9), (11.5, 2, 4), (18.5, 1, 2), (40.0, 1, 1)]
        {
            window.note(now, need, 10.0);
            assert_eq!(window.highest(), Some(highest), "{now}");
        }
    }
}
