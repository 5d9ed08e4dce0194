//! Renders a report as one self-contained HTML page: the verdict, the plots, the facts, the decisions, and the numbers
//! as JSON.

use std::fmt::Write as _;

use super::plot::{self, PlotError};
use super::run::{Change, RunReport};
use sluice_base::words;

/// In dark mode the plots are inverted except for their hues. On a narrow screen they scroll instead of becoming
/// unreadable.
const STYLE: &str = "\
    :root{color-scheme:light dark;--met:#1a7f5a;--missed:#cf222e;--faint:#8884}\
    body{font:15px/1.5 sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}\
    h1{font-size:1.4em;line-height:1.3}.met{color:var(--met)}.missed{color:var(--missed)}\
    .plots{overflow-x:auto}svg{display:block;width:100%;min-width:640px;height:auto}\
    dl{display:grid;grid-template-columns:max-content 1fr;gap:.3em 1.5em}dt{font-weight:bold}dd{margin:0;grid-column:2}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3em 1em .3em 0;border-bottom:1px solid var(--faint)}\
    td:first-child,th:first-child{text-align:right;white-space:nowrap}td:nth-child(2){white-space:nowrap}\
    pre{font-size:13px;line-height:1.4;overflow-x:auto}summary{cursor:pointer;margin-top:1.5em}\
    @media(prefers-color-scheme:dark){:root{--met:#4cc38a;--missed:#ff6b6b}body{background:#121212;color:#ddd}\
    svg{filter:invert(.93) hue-rotate(180deg)}}\
    @media(max-width:600px){th,td{padding-right:.6em;font-size:13px}body{margin:1em auto}}";

/// Returns the page. `json` is shown at its end, as it is in the file.
pub fn html(report: &RunReport, json: &str) -> Result<String, PlotError> {
    let title = escaped(&format!("{}: {}", report.run.job, report.run.load));
    let class = if report.met { "met" } else { "missed" };
    let mut page = String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    let _ = writeln!(page, "<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>");
    let _ = writeln!(page, "<p class=\"{class}\"><strong>{}</strong></p>", escaped(&report.verdict()));
    let _ = writeln!(page, "<div class=\"plots\">{}</div>\n<dl>", plot::panels(report)?);
    for (heading, sentences) in report.facts() {
        let _ = writeln!(page, "<dt>{heading}</dt>");
        for words in sentences {
            let _ = writeln!(page, "<dd>{}</dd>", escaped(&words));
        }
    }
    page.push_str("</dl>\n");
    page.push_str(&decisions(&report.run.changes));
    let _ = writeln!(page, "<details><summary>All numbers</summary><pre>{}</pre></details>", escaped(json));
    page.push_str("</body>\n</html>\n");
    Ok(page)
}

fn decisions(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "<p>No decision changed the replica count.</p>\n".to_owned();
    }
    let mut table = String::from("<table>\n<tr><th>time</th><th>change</th><th>reason</th><th>message</th></tr>\n");
    for change in changes {
        let (at, reason) = (words::seconds(change.at), escaped(&change.reason));
        let (from, to, message) = (change.from, change.to, escaped(change.sentence()));
        let _ = writeln!(table, "<tr><td>{at}</td><td>{from} → {to}</td><td>{reason}</td><td>{message}</td></tr>");
    }
    table + "</table>\n"
}

/// Escapes text for HTML: a message may contain markup from an API server.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::run;
    use crate::run::{Run, Work};

    #[test]
    fn page_is_complete_and_escapes_foreign_markup() {
        let mut run = run();
        run.changes[0].message = "1 -> 2: a <b> arrives".into();
        let load = "<script>alert(1)</script>".into();
        let report = RunReport::from_run(Run { load, work: Work::default(), points: Vec::new(), ..run });
        let page = html(&report, r#"{"job": "</pre>"}"#).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert!(page.contains("<svg") && page.contains("class=\"missed\"") && page.contains("&lt;/pre&gt;"));
        assert!(page.contains("<td>1 → 2</td><td>Growth</td><td>a &lt;b&gt; arrives</td>"), "{page}");
        // In the title of the window, and as the heading; the verdict once.
        assert_eq!((page.matches("orders: ").count(), page.matches(&report.verdict()).count()), (2, 1), "{page}");
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("href="), "{page}");
    }
}
