//! Logs of other kinds, recognised by name: a line of HAProxy looks much like one of nginx, and nothing says so but its name.

/// What a file is whose first line is `first`, if it is none that can be read.
pub(in super::super) fn whole_file(first: &[u8]) -> Option<&'static str> {
    let first = String::from_utf8_lossy(first.get(..first.len().min(4 << 10)).unwrap_or(first));
    let line = first.trim_start_matches('\0');
    if line.starts_with("#Software: Microsoft Internet Information Services") {
        return Some("is a log of IIS (W3C extended format), which is not read; convert it to CSV, or to the combined format");
    }
    if ["#Version:", "#Fields:", "#Software:", "#Date:"].iter().any(|mark| line.starts_with(mark)) {
        return Some("is a log in the W3C extended format (CloudFront, IIS), which is not read; convert it to CSV");
    }
    None
}

/// Whether a line is of a kind, and what that is called.
type Kind = (fn(&str) -> bool, &'static str);

/// What a line is that could not be read.
pub(super) fn line(line: &str) -> Option<&'static str> {
    let kinds: [Kind; 6] = [
        (is_haproxy, "a line of HAProxy's own format, which is not read; `option httplog clf` writes one that is"),
        (is_load_balancer, "a line of an AWS load balancer, which is not read; convert it to CSV"),
        (is_cloudfront, "a line of CloudFront, which is not read; convert it to CSV"),
        (is_error_log, "a line of an error log; the access log is read"),
        (is_bucket, "a line of an S3 bucket's access log, which is not read; convert it to CSV"),
        (|line| line.starts_with('#'), "a comment"),
    ];
    kinds.iter().find(|(is_one, _)| is_one(line)).map(|(_, name)| *name)
}

/// `[06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750`.
fn is_haproxy(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("] ") else { return false };
    let mut words = rest.split(' ').skip(1);
    let is_server = words.next().is_some_and(|word| word.contains('/'));
    let is_number = |part: &str| part.trim_start_matches(['-', '+']).parse::<u32>().is_ok();
    is_server && words.next().is_some_and(|timers| timers.split('/').count() >= 3 && timers.split('/').all(is_number))
}

/// `https 2018-07-02T22:23:00.186641Z app/name/id 192.0.2.1:2817 10.0.0.1:80 …`, or without the first word and with the name alone.
fn is_load_balancer(line: &str) -> bool {
    let words: Vec<&str> = line.splitn(6, ' ').collect();
    let is_time = |at: usize| words.get(at).is_some_and(|word| word.contains('T') && crate::event::time::parse(word.as_bytes()).is_some());
    let is_client = |at: usize| words.get(at).is_some_and(|word| word.contains(':') && crate::event::address::parse(word).is_some());
    is_time(0) && is_client(2) || is_time(1) && is_client(3)
}

fn is_cloudfront(line: &str) -> bool {
    let mut cells = line.split('\t');
    let is_day = cells.next().is_some_and(|day| day.len() == 10 && day.matches('-').count() == 2);
    is_day && cells.count() > 15
}

/// `2024/10/10 13:55:36 [error] 811#811: …`, `[Wed Oct 11 14:32:52.123 2000] [core:error] …`.
fn is_error_log(line: &str) -> bool {
    const DAYS: [&str; 7] = ["[Mon ", "[Tue ", "[Wed ", "[Thu ", "[Fri ", "[Sat ", "[Sun "];
    const LEVELS: [&str; 8] = ["debug", "info", "notice", "warn", "error", "crit", "alert", "emerg"];
    let level =
        line.split_once(" [").and_then(|(_, rest)| rest.split_once(']')).map(|(level, _)| level.rsplit(':').next().unwrap_or(level));
    let is_dated =
        DAYS.iter().any(|day| line.starts_with(day)) || line.as_bytes().get(4) == Some(&b'/') && line.as_bytes().get(7) == Some(&b'/');
    is_dated && level.is_some_and(|level| LEVELS.contains(&level))
}

/// The owner's id of 64 digits in front.
fn is_bucket(line: &str) -> bool {
    line.split(' ').next().is_some_and(|owner| owner.len() == 64 && owner.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_other_kinds_are_told_by_name() {
        for (text, name) in [
            (
                r#"10.0.1.2:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {a} {} "GET / HTTP/1.1""#,
                "HAProxy",
            ),
            (
                r#"https 2018-07-02T22:23:00.186641Z app/lb/50dc 192.168.131.39:2817 10.0.0.1:80 0.086 200 200 0 57 "GET https://x:443/ HTTP/1.1" "curl""#,
                "load balancer",
            ),
            (
                r#"2015-05-13T23:39:43.945958Z lb 192.168.131.39:2817 10.0.0.1:80 0.000073 0.001 0.00004 200 200 0 29 "GET http://x:80/ HTTP/1.1" "curl""#,
                "load balancer",
            ),
            (
                "2019-12-04\t21:02:31\tLAX1\t392\t192.0.2.100\tGET\td.cloudfront.net\t/index.html\t200\t-\tMozilla\t-\t-\tHit\tid\td\thttps\t23\t0.001\t-",
                "CloudFront",
            ),
            ("2024/10/10 13:55:36 [error] 811#811: *1 open() failed, client: 203.0.113.7", "error log"),
            ("[Wed Oct 11 14:32:52.123 2000] [core:error] [pid 1] [client 203.0.113.7:5] denied", "error log"),
            (&format!("{} bucket [06/Feb/2019:00:00:38 +0000] 192.0.2.3", "a1".repeat(32)), "S3"),
        ] {
            assert!(line(text).is_some_and(|found| found.contains(name)), "{text}");
        }
        for text in ["", "nonsense", r#"203.0.113.7 - - [10/Oct/2024:13:55:36 +0000] "GET /a/b HTTP/1.1" 200 5"#] {
            assert_eq!(line(text), None, "{text}");
        }
        assert!(whole_file(b"#Software: Microsoft Internet Information Services 10.0").is_some_and(|name| name.contains("IIS")));
        assert!(whole_file(b"#Version: 1.0").is_some_and(|name| name.contains("CloudFront")));
        assert_eq!(whole_file(b"203.0.113.7 - - ["), None);
    }
}
