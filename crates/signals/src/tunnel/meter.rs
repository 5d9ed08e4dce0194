//! What the brokers of a cluster send, by round: how much that may be, and how much of the process's memory it is taken for.
//!
//! Bytes of a round beyond its budget end the connections of the cluster. Bytes within it wait, from some size on, until the
//! rounds that are under way leave room in the pool of the process: the broker is not read from meanwhile. Who drips slowly
//! waits with little; who asks for much is behind those who came before, until their rounds end, at the latest at their
//! deadline.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::limits::{BYTES_PER_BYTE_SENT, FREE_FOR_A_ROUND, LARGE_ROUND};

/// The pool is counted in these, and drawn from in pieces of so many of them.
const UNIT: u64 = 1 << 10;
const PIECE: u32 = 256;

/// What brokers may send between two rounds, such as answers that come late, in bytes.
const BETWEEN_ROUNDS: u64 = 1 << 20;

/// What all rounds together may hold in memory.
#[derive(Debug, Clone)]
pub(super) struct Pool(Arc<Semaphore>);

impl Pool {
    pub(super) fn new(bytes: usize) -> Self {
        let units = usize::try_from(UNIT).map_or(0, |unit| bytes / unit);
        // Of one piece at least, or nobody with more than a little would ever be read.
        Self(Arc::new(Semaphore::new(units.clamp(PIECE as usize, Semaphore::MAX_PERMITS))))
    }
}

/// One client's account.
#[derive(Debug)]
pub(super) struct Meter {
    pool: Pool,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// What brokers may send in this round, and what they have sent, in bytes.
    allowed: u64,
    sent: u64,
    /// No round is under way, and the client has connected.
    is_idle: bool,
    /// What is left of what was drawn, in bytes of memory.
    credit: u64,
    drawn: Option<OwnedSemaphorePermit>,
    /// Ends the connections that there are.
    cut: CancellationToken,
}

impl Meter {
    /// Before the first round, such as while connecting, it may have what a round has that asks one question.
    pub(super) fn new(pool: Pool) -> Self {
        let allowed = crate::limits::bytes_of_a_round(1);
        Self { pool, account: Mutex::new(Account { allowed, credit: FREE_FOR_A_ROUND, ..Account::default() }) }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a round. What was drawn before it, such as while connecting, is held until it ends.
    pub(super) fn round(&self, bytes: u64) -> Round<'_> {
        let mut account = self.account();
        let (cut, drawn) = (std::mem::take(&mut account.cut), account.drawn.take());
        *account = Account { allowed: bytes, sent: 0, is_idle: false, credit: FREE_FOR_A_ROUND, drawn, cut };
        Round { meter: self, ended_well: false }
    }

    /// What brokers may send in this round, if they have sent more.
    pub(super) fn exceeded(&self) -> Option<u64> {
        let account = self.account();
        (account.sent > account.allowed).then_some(account.allowed)
    }

    /// What brokers have sent in this round, or before the first, in bytes.
    pub(super) fn sent(&self) -> u64 {
        self.account().sent
    }

    /// Counts what a broker has sent, as soon as there is room for it; an error with what it may, if that is too much.
    pub(super) async fn take(&self, bytes: u64) -> Result<(), u64> {
        {
            let mut account = self.account();
            account.sent = account.sent.saturating_add(bytes);
            if account.sent > account.allowed {
                return Err(account.allowed);
            }
            if account.is_idle {
                return Ok(());
            }
        }
        self.draw(bytes.saturating_mul(BYTES_PER_BYTE_SENT)).await;
        Ok(())
    }

    /// Waits until there is room for so many bytes of memory.
    async fn draw(&self, mut bytes: u64) {
        loop {
            {
                let mut account = self.account();
                let used = account.credit.min(bytes);
                account.credit -= used;
                bytes -= used;
            }
            if bytes == 0 {
                return;
            }
            // It is never closed.
            let Ok(piece) = Arc::clone(&self.pool.0).acquire_many_owned(PIECE).await else { return };
            let mut account = self.account();
            account.credit += u64::from(PIECE) * UNIT;
            match &mut account.drawn {
                Some(drawn) => drawn.merge(piece),
                None => account.drawn = Some(piece),
            }
        }
    }

    /// Is cancelled when the connections of the client end.
    pub(super) fn cut(&self) -> CancellationToken {
        self.account().cut.clone()
    }
}

/// A round that is under way. What it holds of the pool goes back when it is dropped; and unless it has ended well, so do
/// the connections whose answers krafka may still be holding.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    meter: &'a Meter,
    ended_well: bool,
}

impl Round<'_> {
    /// The same with so many bytes of memory more that need no room in the pool.
    pub(crate) fn with_free(self, bytes: u64) -> Self {
        let mut account = self.meter.account();
        account.credit = account.credit.saturating_add(bytes);
        drop(account);
        self
    }

    /// Waits until there is room for so many bytes of memory.
    pub(crate) async fn draw(&self, bytes: u64) {
        self.meter.draw(bytes).await;
    }

    /// What brokers have sent in this round, in bytes.
    pub(crate) fn sent(&self) -> u64 {
        self.meter.sent()
    }

    /// Whether it has drawn much of what all have together.
    pub(crate) fn is_large(&self) -> bool {
        let account = self.meter.account();
        let drawn = account.drawn.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        u64::try_from(drawn).unwrap_or(u64::MAX) * UNIT >= LARGE_ROUND
    }

    /// Every answer has come in full.
    pub(crate) fn ended_well(mut self) {
        self.ended_well = true;
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        let mut account = self.meter.account();
        let was_large = account.drawn.take().is_some();
        account.credit = FREE_FOR_A_ROUND;
        let exceeded = account.sent > account.allowed;
        // What comes until the next is late, or was not asked for: nothing holds it.
        (account.sent, account.allowed, account.is_idle) = (0, BETWEEN_ROUNDS, true);
        if (was_large && !self.ended_well) || exceeded {
            std::mem::take(&mut account.cut).cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn free(pool: &Pool) -> usize {
        pool.0.available_permits()
    }

    #[tokio::test]
    async fn b1_what_brokers_send_beyond_the_budget_of_a_round_is_refused_until_the_next() {
        let meter = Meter::new(Pool::new(64 << 20));
        let round = meter.round(MIB);
        assert_eq!(meter.take(MIB).await, Ok(()));
        assert_eq!((meter.take(1).await, meter.exceeded(), round.sent()), (Err(MIB), Some(MIB), MIB + 1));
        let cut = meter.cut();
        drop(round);
        assert!(cut.is_cancelled() && !meter.cut().is_cancelled(), "the connections end with it");
        let round = meter.round(MIB);
        assert_eq!((meter.take(MIB).await, meter.exceeded()), (Ok(()), None));
        drop(round);
    }

    #[tokio::test]
    async fn b1_all_rounds_together_hold_no_more_than_the_pool_and_a_small_one_never_waits() {
        let pool = Pool::new(4 << 20);
        let meters: Vec<Meter> = (0..50).map(|_| Meter::new(pool.clone())).collect();
        let rounds: Vec<Round<'_>> = meters.iter().map(|meter| meter.round(64 * MIB)).collect();
        // 0.1 MiB sent is 1 MiB held: half of it is free, so that eight of them fill the pool.
        let taken: Vec<bool> = meters.iter().map(|meter| meter.take(MIB / 10).now_or_never().is_some()).collect();
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 8);
        assert_eq!(free(&pool), 0);
        let late = Meter::new(pool.clone());
        let round = late.round(MIB);
        assert_eq!(late.take(50_000).now_or_never(), Some(Ok(())), "what is free for each needs no room");
        assert!(!round.is_large());
        assert_eq!(late.take(50_000).now_or_never(), None);
        drop(rounds);
        assert_eq!(late.take(50_000).now_or_never(), Some(Ok(())));
        drop(round);
        assert_eq!(free(&pool), 4 << 10, "all of it is back");
    }

    #[tokio::test]
    async fn b1_many_small_questions_to_one_cluster_wait_for_no_large_answer_of_another() {
        let pool = Pool::new(4 << 20);
        let (hostile, honest) = (Meter::new(pool.clone()), Meter::new(pool.clone()));
        let large = hostile.round(64 * MIB);
        assert_eq!(hostile.take(8 * MIB).now_or_never(), None);
        // Fifty topics of 16 partitions: some 4 KiB each, and what it costs to ask.
        let round = honest.round(64 * MIB).with_free(crate::limits::free_for_questions(50));
        assert_eq!(honest.take(200 << 10).now_or_never(), Some(Ok(())));
        assert!(round.draw(800 * crate::limits::BYTES_PER_PARTITION_ASKED).now_or_never().is_some());
        assert!(!round.is_large());
        drop(round);
        let alone = honest.round(64 * MIB).with_free(crate::limits::free_for_questions(1));
        assert_eq!(honest.take(200 << 10).now_or_never(), None, "what is free is for the next round's questions alone");
        drop((large, alone));
    }

    #[tokio::test]
    async fn b1_what_came_while_connecting_is_held_until_the_first_round_ends() {
        let pool = Pool::new(4 << 20);
        let meter = Meter::new(pool.clone());
        assert_eq!(meter.take(MIB / 5).await, Ok(()));
        let round = meter.round(MIB);
        assert!(free(&pool) < 4 << 10);
        drop(round);
        assert_eq!(free(&pool), 4 << 10);
        // What comes without a question is held by nobody, and is not without end.
        assert_eq!((meter.take(MIB).await, free(&pool)), (Ok(()), 4 << 10));
        assert_eq!(meter.take(1).await, Err(MIB));
        drop(meter.round(MIB));
        assert_eq!(meter.take(1).await, Ok(()));
    }

    #[tokio::test]
    async fn b1_a_large_round_that_does_not_end_well_takes_its_connections_along() {
        let meter = Meter::new(Pool::new(4 << 20));
        for (bytes, well, cut) in [(MIB, false, true), (MIB, true, false), (10, false, false)] {
            let connection = meter.cut();
            let round = meter.round(64 * MIB);
            round.draw(bytes).await;
            if well {
                round.ended_well();
            } else {
                drop(round);
            }
            assert_eq!(connection.is_cancelled(), cut, "{bytes} {well}");
        }
    }
}
