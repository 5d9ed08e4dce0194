//! Assigns partitions to workers: sticky, by count.

/// Marks a partition without an owner.
pub(crate) const NO_OWNER: u32 = u32::MAX;

/// Assigns `owners.len()` partitions to `workers` in even counts, the first workers getting the remainder. A worker
/// keeps its partitions as far as the counts allow. Partitions for which `stays` is true are left alone.
pub(crate) fn sticky(owners: &mut [u32], workers: &[u32], stays: impl Fn(usize) -> bool) {
    let total = (0..owners.len()).filter(|p| !stays(*p)).count();
    let mut room: Vec<usize> = match workers.len() {
        0 => Vec::new(),
        count => (0..count).map(|i| total / count + usize::from(i < total % count)).collect(),
    };
    let mut free = Vec::new();
    for (partition, owner) in owners.iter().enumerate() {
        if stays(partition) {
            continue;
        }
        match workers.iter().position(|w| w == owner) {
            Some(index) if room[index] > 0 => room[index] -= 1,
            _ => free.push(partition),
        }
    }
    let mut next = 0;
    for partition in free {
        while room.get(next) == Some(&0) {
            next += 1;
        }
        let owner = workers.get(next).copied().unwrap_or(NO_OWNER);
        if let Some(left) = room.get_mut(next) {
            *left -= 1;
        }
        owners[partition] = owner;
    }
}

/// Returns the hottest worker's share of all records when these weights are newly assigned to `count` workers, 0 to 1.
pub(crate) fn hottest_share(weights: &[f64], count: u32) -> f64 {
    let workers: Vec<u32> = (0..count).collect();
    let mut owners = vec![NO_OWNER; weights.len()];
    sticky(&mut owners, &workers, |_| false);
    let mut shares = vec![0.0; workers.len()];
    for (owner, weight) in owners.iter().zip(weights) {
        if let Some(share) = shares.get_mut(*owner as usize) {
            *share += weight;
        }
    }
    shares.iter().copied().fold(0.0, f64::max)
}
