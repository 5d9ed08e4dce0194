//! A report as one HTML page that needs nothing else: the verdict, the plots, the report in words, and the numbers as JSON.

use std::fmt::Write as _;

use super::plot::{self, PlotError};
use super::run::RunReport;

/// Lines of the text are wrapped at so many characters: as wide as the plots.
const WIDTH: usize = 120;

const STYLE: &str = "body{font:15px/1.5 sans-serif;color:#222;max-width:980px;margin:2em auto;padding:0 1em}\
    svg{max-width:100%;height:auto}pre{font-size:13px;line-height:1.4;overflow-x:auto}\
    .met{color:#2b7a3d}.missed{color:#b3261e}summary{cursor:pointer}";

/// The page. `json` is shown at its end, as it is in the file.
pub fn html(report: &RunReport, json: &str) -> Result<String, PlotError> {
    let title = escaped(&format!("{}: {}", report.run.job, report.run.load));
    let class = if report.met { "met" } else { "missed" };
    let mut page = String::new();
    let _ = writeln!(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">");
    let _ = writeln!(page, "<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>");
    let _ = writeln!(page, "<p class=\"{class}\"><strong>{}</strong></p>", escaped(&report.verdict()));
    page.push_str(&plot::svg(report)?);
    let _ = writeln!(page, "<pre>{}</pre>", escaped(&report.text(Some(WIDTH))));
    let _ = writeln!(page, "<details><summary>All numbers</summary><pre>{}</pre></details>", escaped(json));
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

/// Text that is no markup: a message may have come from an API server.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::run::{Run, Target, Work};

    #[test]
    fn a_page_has_everything_in_it_and_no_markup_of_others() {
        let report = RunReport::of(Run {
            job: "orders".into(),
            load: "<script>alert(1)</script>".into(),
            target: Target { latency_seconds: 10.0, share: 0.99 },
            produced: Some(0),
            uncommitted: Some(0),
            work: Work::default(),
            points: Vec::new(),
            changes: Vec::new(),
        });
        let page = html(&report, r#"{"job": "</pre>"}"#).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert!(page.contains("<svg") && page.contains("class=\"missed\"") && page.contains("&lt;/pre&gt;"));
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="), "{page}");
    }
}
