//! Counts what the brokers of a cluster send in each round, and how much of the process's memory that takes.
//!
//! When a round exceeds its budget, the connections of the cluster are closed. Bytes within the budget wait, from some
//! size on, until the running rounds leave memory in the pool of the process; the broker is not read from meanwhile. A
//! broker that sends slowly waits with little; a round that needs much memory waits for the rounds before it, at most
//! until their deadlines.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::limits::{BYTES_PER_BYTE_SENT, FREE_BYTES_PER_ROUND, LARGE_ROUND_BYTES};

/// The unit in which the pool is counted, in bytes, and the number of units that are drawn at a time.
const UNIT: u64 = 1 << 10;
const PIECE: u32 = 256;

/// What brokers may send between two rounds, such as late answers, in bytes.
const MAX_BYTES_BETWEEN_ROUNDS: u64 = 1 << 20;

/// The memory that all rounds may use together, beside the free memory of each.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    /// What rounds wait for.
    shared: Arc<Semaphore>,
    /// What is set aside for rounds with several questions, and given to them when they begin if it is available.
    reserve: Arc<Semaphore>,
}

impl Pool {
    /// Creates a pool of this much memory, of which a quarter is the reserve.
    pub(super) fn new(bytes: usize) -> Self {
        let units = usize::try_from(UNIT).map_or(0, |unit| bytes / unit).min(Semaphore::MAX_PERMITS);
        let reserve = units / 4;
        // At least one piece, or a round that needs more than its free memory could never be read.
        let shared = (units - reserve).max(PIECE as usize);
        Self { shared: Arc::new(Semaphore::new(shared)), reserve: Arc::new(Semaphore::new(reserve)) }
    }

    /// Takes this much memory from the reserve, in bytes, or what is left of it.
    fn take_from_reserve(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        let wanted = usize::try_from(bytes / UNIT).unwrap_or(usize::MAX).min(self.reserve.available_permits());
        let units = u32::try_from(wanted).unwrap_or(u32::MAX);
        Arc::clone(&self.reserve).try_acquire_many_owned(units).ok().filter(|permit| permit.num_permits() > 0)
    }
}

/// The account of one client.
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
    /// Whether the client has connected and no round is running.
    is_idle: bool,
    /// What is left of the memory that was drawn, in bytes.
    credit: u64,
    drawn: Option<OwnedSemaphorePermit>,
    reserved: Option<OwnedSemaphorePermit>,
    /// Closes the current connections.
    close: CancellationToken,
}

impl Meter {
    /// Creates the account. Before the first round, such as while connecting, the budget is that of a round with one
    /// question.
    pub(super) fn new(pool: Pool) -> Self {
        let allowed = crate::limits::max_bytes_per_round(1);
        Self { pool, account: Mutex::new(Account { allowed, credit: FREE_BYTES_PER_ROUND, ..Account::default() }) }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock()
    }

    /// Begins a round. What was drawn before, such as while connecting, is held until the round ends.
    pub(super) fn round(&self, bytes: u64) -> RoundBudget<'_> {
        let mut account = self.account();
        let (close, drawn) = (std::mem::take(&mut account.close), account.drawn.take());
        *account = Account { allowed: bytes, credit: FREE_BYTES_PER_ROUND, drawn, close, ..Account::default() };
        RoundBudget { meter: self, is_complete: false }
    }

    /// Returns the budget of this round, if brokers have sent more.
    pub(super) fn exceeded(&self) -> Option<u64> {
        let account = self.account();
        (account.sent > account.allowed).then_some(account.allowed)
    }

    /// Returns how many bytes brokers have sent in this round, or before the first one.
    pub(super) fn sent(&self) -> u64 {
        self.account().sent
    }

    /// Counts what a broker has sent, as soon as there is memory for it; returns the budget as an error if it is
    /// exceeded.
    pub(super) async fn count(&self, bytes: u64) -> Result<(), u64> {
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

    /// Waits until this much memory is available, in bytes.
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
            // The semaphore is never closed.
            let Ok(piece) = Arc::clone(&self.pool.shared).acquire_many_owned(PIECE).await else { return };
            let mut account = self.account();
            account.credit += u64::from(PIECE) * UNIT;
            match &mut account.drawn {
                Some(drawn) => drawn.merge(piece),
                None => account.drawn = Some(piece),
            }
        }
    }

    /// Returns a token that is cancelled when the connections of the client are closed.
    pub(super) fn close_token(&self) -> CancellationToken {
        self.account().close.clone()
    }
}

/// The budget of a running round. Dropping it returns its memory to the pool; unless the round was complete, that also
/// closes the connections whose answers krafka may still hold.
#[derive(Debug)]
pub(crate) struct RoundBudget<'a> {
    meter: &'a Meter,
    is_complete: bool,
}

impl RoundBudget<'_> {
    /// Adds this much memory, in bytes, that the round may use without waiting, as far as the reserve has it.
    pub(crate) fn with_reserve(self, bytes: u64) -> Self {
        if let Some(reserved) = self.meter.pool.take_from_reserve(bytes) {
            let mut account = self.meter.account();
            account.credit += u64::try_from(reserved.num_permits()).unwrap_or(0) * UNIT;
            account.reserved = Some(reserved);
        }
        self
    }

    /// Waits until this much memory is available, in bytes.
    pub(crate) async fn draw(&self, bytes: u64) {
        self.meter.draw(bytes).await;
    }

    /// Returns how many bytes brokers have sent in this round.
    pub(crate) fn sent(&self) -> u64 {
        self.meter.sent()
    }

    /// Returns whether the round has drawn much of the shared memory.
    pub(crate) fn is_large(&self) -> bool {
        let account = self.meter.account();
        let drawn = account.drawn.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        u64::try_from(drawn).unwrap_or(u64::MAX) * UNIT >= LARGE_ROUND_BYTES
    }

    /// Ends the round. Every answer was complete.
    pub(crate) fn complete(mut self) {
        self.is_complete = true;
    }
}

impl Drop for RoundBudget<'_> {
    fn drop(&mut self) {
        let mut account = self.meter.account();
        let was_large = account.drawn.take().is_some();
        account.reserved = None;
        account.credit = FREE_BYTES_PER_ROUND;
        let exceeded = account.sent > account.allowed;
        // What arrives before the next round is late or was not requested, and is not held.
        (account.sent, account.allowed, account.is_idle) = (0, MAX_BYTES_BETWEEN_ROUNDS, true);
        if (was_large && !self.is_complete) || exceeded {
            std::mem::take(&mut account.close).cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn free(pool: &Pool) -> usize {
        pool.shared.available_permits()
    }

    /// Catalogue: B1.
    #[tokio::test]
    async fn bytes_beyond_the_round_budget_are_refused() {
        let meter = Meter::new(Pool::new(64 << 20));
        let round = meter.round(MIB);
        assert_eq!(meter.count(MIB).await, Ok(()));
        assert_eq!((meter.count(1).await, meter.exceeded(), round.sent()), (Err(MIB), Some(MIB), MIB + 1));
        let close = meter.close_token();
        drop(round);
        assert!(close.is_cancelled() && !meter.close_token().is_cancelled(), "its connections are closed");
        let round = meter.round(MIB);
        assert_eq!((meter.count(MIB).await, meter.exceeded()), (Ok(()), None));
        drop(round);
    }

    /// Catalogue: B1.
    #[tokio::test]
    async fn rounds_share_the_pool_and_a_small_one_never_waits() {
        let pool = Pool::new(4 << 20);
        let meters: Vec<Meter> = (0..50).map(|_| Meter::new(pool.clone())).collect();
        let rounds: Vec<RoundBudget<'_>> = meters.iter().map(|meter| meter.round(64 * MIB)).collect();
        // 0.1 MiB sent takes 1 MiB of memory. Half a MiB of it is free, so six of them fill the three quarters of the pool that all share.
        let taken: Vec<bool> = meters.iter().map(|meter| meter.count(MIB / 10).now_or_never().is_some()).collect();
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 6);
        assert_eq!(free(&pool), 0);
        let late = Meter::new(pool.clone());
        let round = late.round(MIB);
        assert_eq!(late.count(50_000).now_or_never(), Some(Ok(())), "the free memory of a round needs no permit");
        assert!(!round.is_large());
        assert_eq!(late.count(50_000).now_or_never(), None);
        drop(rounds);
        assert_eq!(late.count(50_000).now_or_never(), Some(Ok(())));
        drop(round);
        assert_eq!(free(&pool), 3 << 10, "all permits were returned");
    }

    /// Catalogue: B1.
    #[tokio::test]
    async fn many_small_questions_do_not_wait_for_a_large_answer() {
        let pool = Pool::new(64 << 20);
        let (hostile, honest) = (Meter::new(pool.clone()), Meter::new(pool.clone()));
        let large = hostile.round(64 * MIB);
        assert_eq!(hostile.count(8 * MIB).now_or_never(), None);
        // Fifty topics of 16 partitions: about 4 KiB each, and the memory to ask for them.
        let round = honest.round(64 * MIB).with_reserve(crate::limits::reserve_for_questions(50));
        assert_eq!(honest.count(200 << 10).now_or_never(), Some(Ok(())));
        assert!(round.draw(800 * crate::limits::BYTES_PER_PARTITION_ASKED).now_or_never().is_some());
        assert!(!round.is_large());
        drop(round);
        let alone = honest.round(64 * MIB).with_reserve(crate::limits::reserve_for_questions(1));
        assert_eq!(honest.count(200 << 10).now_or_never(), None, "the reserved memory belongs to one round");
        drop((large, alone));
    }

    /// However many questions rounds have, together they are given no more than the reserve, and return all of it.
    ///
    /// Catalogue: B1.
    #[tokio::test]
    async fn reserve_is_bounded_for_all_rounds_together() {
        let pool = Pool::new(40 << 20);
        let reserve = pool.reserve.available_permits();
        assert_eq!(reserve + free(&pool), 40 << 10, "the reserve is a part of the pool");
        let meters: Vec<Meter> = (0..20).map(|_| Meter::new(pool.clone())).collect();
        let round = |meter| Meter::round(meter, MIB).with_reserve(crate::limits::reserve_for_questions(4096));
        let rounds: Vec<RoundBudget<'_>> = meters.iter().map(round).collect();
        let given = |meter: &Meter| meter.account().reserved.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let all: Vec<usize> = meters.iter().map(given).collect();
        assert_eq!((all[0], all[1], all.iter().sum()), (8 << 10, 2 << 10, reserve), "{all:?}");
        drop(rounds);
        assert_eq!(pool.reserve.available_permits(), reserve);
    }

    /// Catalogue: B1.
    #[tokio::test]
    async fn bytes_of_connecting_are_held_until_the_first_round_ends() {
        let pool = Pool::new(4 << 20);
        let meter = Meter::new(pool.clone());
        assert_eq!(meter.count(MIB / 5).await, Ok(()));
        let round = meter.round(MIB);
        assert!(free(&pool) < 3 << 10);
        drop(round);
        assert_eq!(free(&pool), 3 << 10);
        // What arrives without a question takes no memory from the pool, and is limited.
        assert_eq!((meter.count(MIB).await, free(&pool)), (Ok(()), 3 << 10));
        assert_eq!(meter.count(1).await, Err(MIB));
        drop(meter.round(MIB));
        assert_eq!(meter.count(1).await, Ok(()));
    }

    /// Catalogue: B1.
    #[tokio::test]
    async fn incomplete_large_round_closes_its_connections() {
        let meter = Meter::new(Pool::new(4 << 20));
        for (bytes, well, close) in [(MIB, false, true), (MIB, true, false), (10, false, false)] {
            let connection = meter.close_token();
            let round = meter.round(64 * MIB);
            round.draw(bytes).await;
            if well {
                round.complete();
            } else {
                drop(round);
            }
            assert_eq!(connection.is_cancelled(), close, "{bytes} {well}");
        }
    }
}
