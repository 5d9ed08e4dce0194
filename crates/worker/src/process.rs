//! What the kernel reports about this process. On Linux only; elsewhere the series are absent.

/// Ticks of the kernel's counters (`USER_HZ`), regardless of the kernel's own tick: 100 on every architecture that Rust
/// supports.
const TICKS_PER_SECOND: f64 = 100.0;
/// `/proc/self/status` reports memory in KiB.
const KIB: u64 = 1024;

/// Returns the user and system CPU time used so far, in seconds.
pub(super) fn cpu_seconds() -> Option<f64> {
    cpu_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?).map(seconds)
}

/// Returns the Unix time at which the process started.
pub(super) fn start_time() -> Option<f64> {
    let boot = boot_time(&std::fs::read_to_string("/proc/stat").ok()?)?;
    let since_boot = start_ticks(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(boot + seconds(since_boot))
}

/// Returns the resident memory in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * KIB)
}

#[allow(clippy::cast_precision_loss, reason = "ticks stay exact in an f64 for 2.8 million years")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// Returns a field of `/proc/self/stat` by its number in proc(5). The command's name may contain spaces and
/// parentheses, so counting starts after its last parenthesis, with field 3.
fn stat_field(stat: &str, number: usize) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    Some(stat_field(stat, 14)? + stat_field(stat, 15)?)
}

fn start_ticks(stat: &str) -> Option<u64> {
    stat_field(stat, 22)
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_parsed_for_any_command_name() {
        let stat = "4242 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9 0 123456 1 2";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(start_ticks(stat), Some(123_456));
        assert_eq!(cpu_ticks("nonsense"), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }
}
