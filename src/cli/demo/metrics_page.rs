//! Reads the gauges of one job from the operator's metrics page.

/// The current values of a job; `None` where unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct JobGauges {
    /// Records that are not yet processed.
    pub(super) lag: Option<f64>,
    /// Latency at the objective's percentile over the last minute, seconds.
    pub(super) latency: Option<f64>,
    /// Capacity of one worker, records per second.
    pub(super) capacity: Option<f64>,
    /// Desired replica count.
    pub(super) desired: Option<f64>,
}

impl JobGauges {
    /// Reads the job's gauges from a page in the Prometheus or OpenMetrics text format.
    pub(super) fn from_page(page: &str, namespace: &str, name: &str) -> Self {
        let labels = [format!(r#"namespace="{namespace}""#), format!(r#"name="{name}""#)];
        let mut gauges = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, rest)) = line.split_once('{') else { continue };
            let Some((given, value)) = rest.split_once('}') else { continue };
            // Names of namespaces and jobs contain neither commas nor quotes, so labels can be split at commas.
            if !labels.iter().all(|wanted| given.split(',').any(|label| label == wanted)) {
                continue;
            }
            let value = value.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
            let value = value.filter(|value| value.is_finite());
            match series {
                "sluice_job_lag_records" => gauges.lag = value,
                "sluice_job_latency_seconds" => gauges.latency = value,
                "sluice_job_worker_capacity" => gauges.capacity = value,
                "sluice_job_desired_replicas" => gauges.desired = value,
                _ => {}
            }
        }
        gauges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"# HELP sluice_job_lag_records Records not yet processed.
# TYPE sluice_job_lag_records gauge
sluice_job_lag_records{namespace="demo",name="orders"} 1200
sluice_job_lag_records{namespace="demo",name="orders-2"} 7
sluice_job_latency_seconds{name="orders",namespace="demo"} 3.25 1700000000
sluice_job_worker_capacity{namespace="demo",name="orders"} NaN
sluice_job_desired_replicas{namespace="other",name="orders"} 9
sluice_up 1
# EOF
"#;

    #[test]
    fn metrics_page_yields_only_the_series_of_the_job() {
        let gauges = JobGauges::from_page(PAGE, "demo", "orders");
        assert_eq!(gauges, JobGauges { lag: Some(1200.0), latency: Some(3.25), capacity: None, desired: None });
        assert_eq!(JobGauges::from_page("", "demo", "orders"), JobGauges::default());
    }
}
