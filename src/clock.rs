//! Clocks and the timer of the daemon. Only this module reads the time.
//!
//! Time is `CLOCK_BOOTTIME`: monotonic, and it includes the time while the machine is suspended. No
//! decisions are made here; other modules get the time as an argument.

use std::os::fd::OwnedFd;
use std::time::Duration;
use std::{env, fs, io};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::time::Moment;

const NANOS_PER_MILLI: u64 = 1_000_000;
const MILLIS_PER_SEC: u64 = 1_000;

/// The current time, rounded down to the millisecond.
pub fn now() -> Moment {
    let (secs, nanos) = boottime();
    Moment::from_millis(secs * MILLIS_PER_SEC + nanos / NANOS_PER_MILLI)
}

/// The current time, rounded up to the millisecond.
///
/// Used when a response is received, so that rounding never makes a token's life look longer than
/// it is.
pub fn now_ceil() -> Moment {
    let (secs, nanos) = boottime();
    Moment::from_millis(secs * MILLIS_PER_SEC + nanos.div_ceil(NANOS_PER_MILLI))
}

/// Date and time of day, for output only. It may jump; no decision depends on it.
#[expect(clippy::disallowed_methods, reason = "this module is where the clocks are read")]
pub fn wall_clock() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Measures durations with more than millisecond precision.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Starts the stopwatch.
    pub fn start() -> Self {
        Self(since_boot())
    }

    /// The time since the start.
    pub fn elapsed(self) -> Duration {
        since_boot().saturating_sub(self.0)
    }
}

fn since_boot() -> Duration {
    let (secs, nanos) = boottime();
    Duration::from_secs(secs) + Duration::from_nanos(nanos)
}

/// Seconds and nanoseconds since boot.
#[expect(clippy::disallowed_methods, reason = "this module is where the clocks are read")]
fn boottime() -> (u64, u64) {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    // Never negative: the clock starts at zero.
    (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Where the kernel names the current boot.
pub const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// Names the current boot where a sandbox hides [`BOOT_ID_FILE`], as `ProcSubset=pid` of the unit does.
const BOOT_ID_VARIABLE: &str = "TOKENKEEP_BOOT_ID";

/// The machine's current boot, within which the times of this module can be compared: 32 hexadecimal
/// digits. `None` if neither the kernel nor the service manager names it.
pub fn boot_id() -> Option<String> {
    let of_kernel = fs::read_to_string(BOOT_ID_FILE).ok();
    let of_manager = || parse_boot_id(&env::var(BOOT_ID_VARIABLE).ok()?);
    of_kernel.as_deref().and_then(parse_boot_id).or_else(of_manager)
}

/// An id, with or without hyphens.
fn parse_boot_id(text: &str) -> Option<String> {
    let id = text.trim().replace('-', "");
    (id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(id)
}

/// A timer on `CLOCK_BOOTTIME` for one waiter.
///
/// After a suspend, the timer expires at once if its time has passed. Tokio's timers would wait for
/// the remaining time first.
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
    /// The time that is set in the kernel; `None` after the timer has expired.
    set_to: Option<Moment>,
}

impl Timer {
    /// Creates a timer that is not set. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// No free file descriptor, or no kernel memory.
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

    /// Sets the timer to `at`. A time in the past expires at once; `None` and [`Moment::NEVER`]
    /// never expire. An expiration that was not awaited is discarded.
    ///
    /// # Errors
    ///
    /// None are known: the kernel accepts every value of this type.
    pub fn set(&mut self, at: Option<Moment>) -> io::Result<()> {
        let at = at.filter(|at| *at != Moment::NEVER);
        let spec = Itimerspec { it_interval: DISARMED, it_value: at.map_or(DISARMED, instant) };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::ABSTIME, &spec)?;
        self.set_to = at;
        Ok(())
    }

    /// Ensures that the timer expires at `at` at the latest. An earlier setting is kept: an early
    /// wake-up costs less than a system call for each postponed deadline.
    ///
    /// # Errors
    ///
    /// See [`set`](Self::set).
    pub fn set_at_latest(&mut self, at: Option<Moment>) -> io::Result<()> {
        match (at, self.set_to) {
            (None, _) => Ok(()),
            (Some(at), Some(set_to)) if set_to <= at => Ok(()),
            (at, _) => self.set(at),
        }
    }

    /// Waits until the timer expires, once for each setting. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The runtime is shutting down.
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

/// The value that disarms a timerfd.
const DISARMED: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// `at` for the kernel; never [`DISARMED`], because the clock started in the past.
fn instant(at: Moment) -> Timespec {
    let millis = at.as_millis().max(1);
    Timespec {
        tv_sec: i64::try_from(millis / MILLIS_PER_SEC).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(millis % MILLIS_PER_SEC * NANOS_PER_MILLI).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    /// Long enough for the slowest machine that runs the tests; reached only on failure.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// How long to wait before concluding that the timer does not expire.
    const SILENCE: Duration = Duration::from_millis(50);

    #[test]
    fn rounded_up_time_is_not_before_rounded_down_time() {
        let floor = now();
        let ceil = now_ceil();
        assert!(floor <= ceil && ceil <= now() + Duration::from_millis(1));
    }

    #[test]
    fn wall_clock_shows_a_current_date() {
        assert!(wall_clock() > "2024-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn boot_has_one_id_in_either_notation() {
        let id = boot_id().unwrap();
        assert_eq!(Some(&id), boot_id().as_ref());
        let hyphened = format!("{}-{}-{}\n", &id[..8], &id[8..12], &id[12..]);
        assert_eq!(parse_boot_id(&hyphened), Some(id));
        for invalid in ["", "%b", "unknown", "0123456789abcdef", &"g".repeat(32)] {
            assert_eq!(parse_boot_id(invalid), None, "{invalid:?}");
        }
    }

    #[test]
    fn stopwatch_measures_less_than_a_millisecond() {
        let shortest = (0..1_000).map(|_| Stopwatch::start().elapsed()).min();
        assert!(shortest < Some(Duration::from_millis(1)), "{shortest:?}");
    }

    #[tokio::test]
    async fn timer_expires_at_its_time_and_not_before() {
        let mut timer = Timer::new().unwrap();
        let at = now() + Duration::from_millis(30);
        timer.set(Some(at)).unwrap();
        timeout(PATIENCE, timer.expired()).await.unwrap().unwrap();
        assert!(now() >= at);
    }

    #[tokio::test]
    async fn time_in_the_past_expires_at_once() {
        let mut timer = Timer::new().unwrap();
        for past in [Moment::default(), now()] {
            timer.set(Some(past)).unwrap();
            timeout(PATIENCE, timer.expired()).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn timer_expires_once_for_each_setting() {
        let mut timer = Timer::new().unwrap();
        timer.set(Some(now())).unwrap();
        timer.expired().await.unwrap();
        assert!(timeout(SILENCE, timer.expired()).await.is_err());
    }

    #[tokio::test]
    async fn cancelled_timer_does_not_expire() {
        let mut timer = Timer::new().unwrap();
        for never in [None, Some(Moment::NEVER), Some(Moment::from_millis(u64::MAX - 1))] {
            timer.set(Some(now())).unwrap();
            timer.set(never).unwrap();
            assert!(timeout(SILENCE, timer.expired()).await.is_err(), "{never:?}");
        }
    }

    #[tokio::test]
    async fn set_at_latest_expires_no_later_than_its_time() {
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
    async fn expired_timer_can_be_set_to_a_later_time() {
        let mut timer = Timer::new().unwrap();
        for _ in 0..2 {
            let at = now() + Duration::from_millis(5);
            timer.set_at_latest(Some(at)).unwrap();
            timeout(PATIENCE, timer.expired()).await.unwrap().unwrap();
            assert!(now() >= at);
        }
    }

    #[tokio::test]
    async fn cancelled_wait_loses_no_expiration() {
        let mut timer = Timer::new().unwrap();
        let mut delay = Duration::from_millis(20);
        timer.set(Some(now() + delay)).unwrap();
        // On a busy machine it may have expired already.
        while timer.expired().now_or_never().is_some() {
            delay *= 2;
            timer.set(Some(now() + delay)).unwrap();
        }
        timeout(PATIENCE, timer.expired()).await.unwrap().unwrap();
    }
}
