//! The clocks, and the alarm that rings at a moment: the only place that asks what time it is.
//!
//! Time is `CLOCK_BOOTTIME`: it never goes back, and it goes on while the machine sleeps.
//! Nothing here decides anything; a moment goes out, and the rules take it as an argument.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::time::Moment;

const NANOS_PER_MILLI: u64 = 1_000_000;
const MILLIS_PER_SEC: u64 = 1_000;

/// The present, rounded down to the millisecond.
pub fn now() -> Moment {
    let (secs, nanos) = boottime();
    Moment::from_millis(secs * MILLIS_PER_SEC + nanos / NANOS_PER_MILLI)
}

/// The present, rounded up to the millisecond.
///
/// For the receipt of an answer: what was read then is at least as old as it is said to be,
/// so rounding never makes a life look longer than it is.
pub fn now_ceil() -> Moment {
    let (secs, nanos) = boottime();
    Moment::from_millis(secs * MILLIS_PER_SEC + nanos.div_ceil(NANOS_PER_MILLI))
}

/// The date and time of day, for what people read. It may jump; no rule depends on it.
#[expect(clippy::disallowed_methods, reason = "this module is where the clocks are read")]
pub fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// How long something takes, where milliseconds are too coarse.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// It runs from now on.
    pub fn start() -> Self {
        Self(since_boot())
    }

    /// The time since it was started.
    pub fn elapsed(self) -> Duration {
        since_boot().saturating_sub(self.0)
    }
}

fn since_boot() -> Duration {
    let (secs, nanos) = boottime();
    Duration::from_secs(secs) + Duration::from_nanos(nanos)
}

/// Seconds and nanoseconds since the machine was started.
#[expect(clippy::disallowed_methods, reason = "this module is where the clocks are read")]
fn boottime() -> (u64, u64) {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    // The kernel's answer is never negative: this clock starts at zero.
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// An alarm clock on the daemon's clock, for one waiter.
///
/// A machine that wakes from its sleep after the moment rings at once; tokio's own timers
/// would first sleep the rest.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use tokenkeep::clock::{self, Timer};
///
/// let mut timer = Timer::new()?;
/// let at = clock::now() + Duration::from_millis(5);
/// timer.set(Some(at))?;
/// timer.expired().await?;
/// assert!(clock::now() >= at);
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Timer {
    timer: AsyncFd<OwnedFd>,
    /// What the kernel was told last, until it has rung.
    set_to: Option<Moment>,
}

impl Timer {
    /// An alarm that is not set. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the process has no file descriptor left, or the kernel no memory.
    #[expect(
        deprecated,
        reason = "its successor is unsafe for the sake of types that change \
        the descriptor they show; `OwnedFd` never does"
    )]
    pub fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        Ok(Self { timer: AsyncFd::with_interest(timer, Interest::READABLE)?, set_to: None })
    }

    /// Sets the alarm to `at`, in place of what it was set to. A moment that is past rings at
    /// once; `None` and [`Moment::NEVER`] ring never. A ring that nobody took is forgotten.
    ///
    /// # Errors
    ///
    /// None that is known: the kernel takes every moment of this type.
    pub fn set(&mut self, at: Option<Moment>) -> io::Result<()> {
        let at = at.filter(|at| *at != Moment::NEVER);
        let spec = Itimerspec { it_interval: DISARMED, it_value: at.map_or(DISARMED, instant) };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
        self.set_to = at;
        Ok(())
    }

    /// Sees to it that the alarm rings at `at` at the latest. One that is set to an earlier
    /// moment stays so: whoever hears it too early asks again, and that costs less than a
    /// system call each time that the moment is put off.
    ///
    /// # Errors
    ///
    /// As for [`set`](Self::set).
    pub fn set_at_latest(&mut self, at: Option<Moment>) -> io::Result<()> {
        match (at, self.set_to) {
            (None, _) => Ok(()),
            (Some(at), Some(set_to)) if set_to <= at => Ok(()),
            (at, _) => self.set(at),
        }
    }

    /// Waits until the alarm rings, once for each time that it is set. Cancel-safe: a ring is
    /// either returned or still to come.
    ///
    /// # Errors
    ///
    /// When the runtime is shutting down.
    pub async fn expired(&mut self) -> io::Result<()> {
        let mut expirations = [0; 8];
        loop {
            let mut ready = self.timer.readable().await?;
            let read =
                ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut expirations[..])?));
            if let Ok(rung) = read {
                self.set_to = None;
                return rung.map(|_| ());
            }
        }
    }
}

/// What timerfd takes for "no alarm".
const DISARMED: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// `at` as the kernel wants it; never [`DISARMED`], as the clock's origin is past.
fn instant(at: Moment) -> Timespec {
    let millis = at.as_millis().max(1);
    Timespec {
        tv_sec: i64::try_from(millis / MILLIS_PER_SEC).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(millis % MILLIS_PER_SEC * NANOS_PER_MILLI).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Long enough for the slowest machine that runs the tests; reached only on failure.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// How long a silence is listened to before it counts as one.
    const SILENCE: Duration = Duration::from_millis(50);

    #[test]
    fn rounding_up_is_never_earlier_than_rounding_down() {
        let floor = now();
        let ceil = now_ceil();
        assert!(floor <= ceil && ceil <= now() + Duration::from_millis(1));
    }

    #[test]
    fn the_wall_clock_shows_a_date_of_our_time() {
        assert!(wall_clock() > "2024-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn a_stopwatch_tells_less_than_a_millisecond() {
        let shortest = (0..1_000).map(|_| Stopwatch::start().elapsed()).min();
        assert!(shortest < Some(Duration::from_millis(1)), "{shortest:?}");
    }

    #[tokio::test]
    async fn an_alarm_rings_at_its_moment_and_not_before() {
        let mut timer = Timer::new().unwrap();
        let at = now() + Duration::from_millis(30);
        timer.set(Some(at)).unwrap();
        timeout(PATIENCE, timer.expired()).await.unwrap().unwrap();
        assert!(now() >= at);
    }

    #[tokio::test]
    async fn a_moment_that_is_past_rings_at_once() {
        let mut timer = Timer::new().unwrap();
        for past in [Moment::default(), now()] {
            timer.set(Some(past)).unwrap();
            timeout(PATIENCE, timer.expired()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn an_alarm_rings_once_for_each_time_that_it_is_set() {
        let mut timer = Timer::new().unwrap();
        timer.set(Some(now())).unwrap();
        timer.expired().await.unwrap();
        assert!(timeout(SILENCE, timer.expired()).await.is_err());
    }

    #[tokio::test]
    async fn an_alarm_that_is_taken_back_stays_silent() {
        let mut timer = Timer::new().unwrap();
        for never in [None, Some(Moment::NEVER), Some(Moment::from_millis(u64::MAX - 1))] {
            timer.set(Some(now())).unwrap();
            timer.set(never).unwrap();
            assert!(timeout(SILENCE, timer.expired()).await.is_err(), "{never:?}");
        }
    }

    #[tokio::test]
    async fn an_alarm_that_is_to_ring_by_a_moment_rings_then_at_the_latest() {
        let mut timer = Timer::new().unwrap();
        let soon = now() + Duration::from_millis(20);
        for (first, second) in [(soon, soon + PATIENCE), (soon + PATIENCE, soon)] {
            timer.set_at_latest(Some(first)).unwrap();
            timer.set_at_latest(Some(second)).unwrap();
            timeout(PATIENCE / 2, timer.expired()).await.unwrap().unwrap();
            timer.set(None).unwrap();
        }
    }

    #[tokio::test]
    async fn an_alarm_that_has_rung_can_be_set_to_a_later_moment() {
        let mut timer = Timer::new().unwrap();
        for _ in 0..2 {
            let at = now() + Duration::from_millis(5);
            timer.set_at_latest(Some(at)).unwrap();
            timeout(PATIENCE, timer.expired()).await.unwrap().unwrap();
            assert!(now() >= at);
        }
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_loses_no_ring() {
        let mut timer = Timer::new().unwrap();
        timer.set(Some(now() + Duration::from_millis(20))).unwrap();
        assert!(timeout(Duration::from_millis(1), timer.expired()).await.is_err());
        timeout(PATIENCE, timer.expired()).await.unwrap().unwrap();
    }
}
