//! The numbers of one job on the operator's metrics page.

/// Live values; unknown ones are absent.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Live {
    pub(super) lag: Option<f64>,
    pub(super) latency: Option<f64>,
    /// Records per second that one worker can process.
    pub(super) capacity: Option<f64>,
    pub(super) desired: Option<f64>,
}

impl Live {
    /// Finds the job's gauges on a page in the Prometheus or OpenMetrics text format.
    pub(super) fn on_page(page: &str, namespace: &str, name: &str) -> Self {
        let labels = [format!(r#"namespace="{namespace}""#), format!(r#"name="{name}""#)];
        let mut live = Self::default();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, rest)) = line.split_once('{') else { continue };
            let Some((given, value)) = rest.split_once('}') else { continue };
            // Names of namespaces and jobs hold neither commas nor quotes, so labels can be split at commas.
            if !labels.iter().all(|wanted| given.split(',').any(|label| label == wanted)) {
                continue;
            }
            let value = value.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
            let value = value.filter(|value| value.is_finite());
            match series {
                "sluice_job_lag_records" => live.lag = value,
                "sluice_job_latency_seconds" => live.latency = value,
                "sluice_job_worker_capacity" => live.capacity = value,
                "sluice_job_desired_replicas" => live.desired = value,
                _ => {}
            }
        }
        live
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
    fn only_the_jobs_own_series_are_read() {
        let live = Live::on_page(PAGE, "demo", "orders");
        assert_eq!(live, Live { lag: Some(1200.0), latency: Some(3.25), capacity: None, desired: None });
        assert_eq!(Live::on_page("", "demo", "orders"), Live::default());
    }
}
