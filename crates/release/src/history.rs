//! What was done to an environment, as its audit log tells.

use std::fmt;

use serde::Serialize;

use crate::{Ended, Entry, LOCATION, Location};

/// What was done to an environment, newest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditLog {
    /// The verbs.
    pub entries: Vec<Entry>,
    /// How long the phases of those that were done took.
    pub phases: Vec<PhaseTimes>,
}

/// How long a phase took, over several releases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseTimes {
    /// The phase.
    pub name: String,
    /// How often it was measured.
    pub count: usize,
    /// Half of them took at most so long, in seconds.
    pub p50: f64,
    /// Nineteen of twenty took at most so long, in seconds.
    pub p95: f64,
}

impl AuditLog {
    /// Reads the audit log, one entry a line; of a line that the host never finished, or that
    /// another version of this program wrote, nothing is told. Of what changed no release only
    /// `all` tells; of what was about another code location than `of`, if one is named, nobody.
    /// The newest `limit` are kept; the times are those of all.
    pub fn read(log: &str, all: bool, of: Option<&Location>, limit: usize) -> AuditLog {
        let mut entries: Vec<Entry> = log
            .lines()
            .rev()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|it: &Entry| of.is_none_or(|of| it.location == *of))
            .filter(|it| all || is_about_releases(it))
            .collect();
        let phases = phase_times(&entries);
        entries.truncate(limit);
        AuditLog { entries, phases }
    }
}

fn is_about_releases(entry: &Entry) -> bool {
    let verb = entry.verb == "deploy" || entry.verb.starts_with("rollback");
    (verb || entry.release.is_some()) && entry.outcome != Some(Ended::NothingToDo)
}

fn phase_times(entries: &[Entry]) -> Vec<PhaseTimes> {
    let mut phases: Vec<(&str, Vec<f64>)> = Vec::new();
    let done = entries.iter().filter(|it| it.outcome == Some(Ended::Done));
    for phase in done.flat_map(|it| &it.phases) {
        match phases.iter_mut().find(|(name, _)| *name == phase.name) {
            Some((_, seconds)) => seconds.push(phase.seconds),
            None => phases.push((&phase.name, vec![phase.seconds])),
        }
    }
    phases
        .into_iter()
        .map(|(name, mut seconds)| {
            seconds.sort_by(f64::total_cmp);
            PhaseTimes {
                name: name.to_owned(),
                count: seconds.len(),
                p50: percentile(&seconds, 50),
                p95: percentile(&seconds, 95),
            }
        })
        .collect()
}

/// The nearest-rank percentile: a value that was measured. `sorted` is not empty.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// A probe of the platform: whether it answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probed {
    /// When it was sent, in seconds since the first.
    pub sent: f64,
    /// When it was answered, or given up.
    pub ended: f64,
    /// Whether the answer was good.
    pub good: bool,
}

/// The longest stretch of failed probes, in seconds: from when the first of them was sent until
/// the next good answer was there. None where nothing was probed.
pub fn gap(probes: &[Probed]) -> Option<f64> {
    let (mut longest, mut failing_since) = (0.0_f64, None);
    for probe in probes {
        if !probe.good {
            failing_since.get_or_insert(probe.sent);
        }
        if let Some(since) = failing_since {
            longest = longest.max(probe.ended - since);
        }
        if probe.good {
            failing_since = None;
        }
    }
    (!probes.is_empty()).then(|| (longest * 1000.0).round() / 1000.0)
}

impl fmt::Display for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return f.write_str("nothing was deployed yet");
        }
        let head = ["release", "when", "who", "outcome", "seconds", "gap", "image", "what"];
        let rows: Vec<[String; 8]> = self.entries.iter().map(row).collect();
        write_table(f, &head, &rows, &[4, 5])?;
        if self.phases.is_empty() {
            return Ok(());
        }
        writeln!(f)?;
        let rows: Vec<[String; 4]> = self
            .phases
            .iter()
            .map(|it| {
                let seconds = |it: f64| format!("{it:.1}");
                [it.name.clone(), seconds(it.p50), seconds(it.p95), it.count.to_string()]
            })
            .collect();
        write_table(f, &["phase", "p50", "p95", "of"], &rows, &[1, 2, 3])
    }
}

fn row(entry: &Entry) -> [String; 8] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let release = entry.release.as_ref().map(|id| match entry.location.as_str() {
        LOCATION => id.to_string(),
        location => format!("{location} {id}"),
    });
    let outcome = match (entry.outcome, entry.verb.as_str()) {
        (Some(Ended::Done), "deploy") => "deployed".to_owned(),
        (Some(Ended::Done), "rollback" | "rollback.sh") => "rolled back".to_owned(),
        (Some(Ended::Done), "env rotate") => "rotated".to_owned(),
        (Some(outcome), "deploy") => outcome.to_string(),
        (Some(outcome), verb) => format!("{verb} {outcome}"),
        (None, verb) => format!("{verb} begun"),
    };
    let what = [&entry.git_subject, &entry.reason, &entry.why];
    let what: Vec<&str> = what.into_iter().flatten().map(String::as_str).collect();
    let promoted = entry.promoted.as_ref().map(|it| format!(" (promoted from {})", it.environment));
    let unproven = if entry.unproven { " (unproven)" } else { "" };
    [
        or_dash(release),
        entry.at.clone(),
        entry.by.clone(),
        outcome,
        or_dash(entry.seconds.map(|it| format!("{it:.1}"))),
        or_dash(entry.gap.map(|it| format!("{it:.1}"))),
        or_dash(entry.digest.as_ref().map(|it| short(it).to_owned())),
        what.join(": ") + &promoted.unwrap_or_default() + unproven,
    ]
}

/// The first twelve digits of a digest.
fn short(digest: &str) -> &str {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    digits.get(..12).unwrap_or(digits)
}

/// Writes rows under a head, in columns as wide as what is in them; the named ones are numbers.
fn write_table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    head: &[&str; N],
    rows: &[[String; N]],
    numbers: &[usize],
) -> fmt::Result {
    let head = head.map(str::to_owned);
    let all: Vec<&[String; N]> = std::iter::once(&head).chain(rows).collect();
    let width = |n: usize| all.iter().map(|it| it[n].chars().count()).max().unwrap_or(0);
    for row in &all {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            let width = width(n);
            line += &if numbers.contains(&n) {
                format!("{cell:>width$}  ")
            } else {
                format!("{cell:<width$}  ")
            };
        }
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{Phase, Promoted};

    fn entry(verb: &str, day: u8, outcome: Ended) -> Entry {
        let mut entry = Entry::new(verb, "ana@laptop".into(), format!("2026-11-{day}T14:22:33Z"));
        entry.outcome = Some(outcome);
        entry
    }

    fn deploy(day: u8, outcome: Ended, start: f64) -> Entry {
        let phase = |name: &str, seconds| Phase { name: name.into(), seconds };
        Entry {
            release: Some(format!("202611{day}-142233-abc1234").parse().unwrap()),
            git_subject: Some("Add an asset".into()),
            digest: Some("sha256:0123456789abcdef".into()),
            seconds: Some(9.25),
            gap: Some(0.0),
            phases: vec![phase("start", start), phase("switch", 0.1)],
            ..entry("deploy", day, outcome)
        }
    }

    fn log() -> String {
        let mut refused = entry("deploy", 14, Ended::Refused);
        refused.why = Some("`prod` is locked: deploy by ben@desk".into());
        let mut promoted = deploy(12, Ended::Done, 2.0);
        let (environment, release) = ("staging".into(), "20261110-142233-abc1234".parse().unwrap());
        promoted.promoted = Some(Promoted { environment, release });
        let mut unproven = deploy(11, Ended::Done, 3.0);
        unproven.unproven = true;
        let mut undone = deploy(15, Ended::Undone, 60.0);
        undone.why = Some("the test job `test_job` did not succeed".into());
        let mut broken = entry("lock break", 16, Ended::Done);
        broken.reason = Some("ben is on holiday".into());
        let mut back = deploy(17, Ended::Done, 1.0);
        back.verb = "rollback".into();
        back.location = "reports".parse().unwrap();
        back.gap = None;
        let entries = [
            unproven,
            promoted,
            entry("deploy", 13, Ended::NothingToDo),
            refused,
            undone,
            broken,
            back,
        ];
        let lines: Vec<String> = entries.iter().map(Entry::json).collect();
        format!("{{\"verb\":\"dep\n{}\n{{\"of\":\"tomorrow\"}}\n", lines.join("\n"))
    }

    #[test]
    fn releases_are_told_newest_first_with_the_times_of_those_that_were_done() {
        expect![[r#"
            release                          when                  who         outcome      seconds  gap  image         what
            reports 20261117-142233-abc1234  2026-11-17T14:22:33Z  ana@laptop  rolled back      9.2    -  0123456789ab  Add an asset
            20261115-142233-abc1234          2026-11-15T14:22:33Z  ana@laptop  undone           9.2  0.0  0123456789ab  Add an asset: the test job `test_job` did not succeed
            -                                2026-11-14T14:22:33Z  ana@laptop  refused            -    -  -             `prod` is locked: deploy by ben@desk
            20261112-142233-abc1234          2026-11-12T14:22:33Z  ana@laptop  deployed         9.2  0.0  0123456789ab  Add an asset (promoted from staging)
            20261111-142233-abc1234          2026-11-11T14:22:33Z  ana@laptop  deployed         9.2  0.0  0123456789ab  Add an asset (unproven)

            phase   p50  p95  of
            start   2.0  3.0   3
            switch  0.1  0.1   3
        "#]]
        .assert_eq(&AuditLog::read(&log(), false, None, 20).to_string());
    }

    #[test]
    fn every_verb_is_told_when_asked_for() {
        let history = AuditLog::read(&log(), true, None, 3);
        let outcomes: Vec<String> = history.entries.iter().map(|it| row(it)[3].clone()).collect();
        assert_eq!(outcomes, ["rolled back", "lock break done", "undone"]);
        assert_eq!(AuditLog::read(&log(), true, None, 20).entries.len(), 7);
    }

    #[test]
    fn each_code_location_has_its_own() {
        let count = |of: &str| {
            let of = of.parse().unwrap();
            AuditLog::read(&log(), false, Some(&of), 20).entries.len()
        };
        assert_eq!((count("reports"), count("dagster_core")), (1, 4));
    }

    #[test]
    fn an_empty_log_says_so() {
        assert_eq!(AuditLog::read("", false, None, 20).to_string(), "nothing was deployed yet");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<f64> = (1..=40).map(f64::from).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 95)), (20.0, 38.0));
        assert_eq!((percentile(&[7.0], 50), percentile(&[7.0], 95)), (7.0, 7.0));
    }

    #[test]
    fn the_gap_is_the_longest_stretch_from_the_first_failed_probe_to_the_next_good_answer() {
        let probes = |text: &str| -> Vec<Probed> {
            let probe = |(n, it): (usize, char)| {
                let sent = f64::from(u32::try_from(n).unwrap()) / 10.0;
                Probed { sent, ended: sent + 0.05, good: it == '.' }
            };
            text.chars().enumerate().map(probe).collect()
        };
        assert_eq!(gap(&probes("")), None);
        assert_eq!(gap(&probes(".......")), Some(0.0));
        assert_eq!(gap(&probes("..x....")), Some(0.15));
        assert_eq!(gap(&probes(".x.xxx..")), Some(0.35));
        assert_eq!(gap(&probes("...xx")), Some(0.15), "it never came back");
    }
}
