//! Audit rules as `auditctl -l` lists them, and whether they hold for the relay.
//!
//! Law: pure. What cannot be told from a rule (arguments of calls, groups, paths) counts as not holding: a warning about
//! a rule must be right.

use std::path::Path;

/// Calls that the relay makes again and again while records come.
const CALLS: [&str; 14] = [
    "all",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "write",
    "writev",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "epoll_wait",
    "epoll_pwait",
    "poll",
    "ppoll",
];

/// `auid` of what no login has started.
const UNSET: i64 = 4_294_967_295;

/// One rule.
#[derive(Debug, Default)]
struct Rule<'a> {
    never: bool,
    list: &'a str,
    calls: Vec<&'a str>,
    fields: Vec<&'a str>,
}

impl<'a> Rule<'a> {
    /// `None`: a watch, or nothing that is known.
    fn parse(line: &'a str) -> Option<Self> {
        let mut rule = Self::default();
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "-a" | "-A" => {
                    let (first, second) = words.next()?.split_once(',')?;
                    let (action, list) =
                        if matches!(first, "always" | "never") { (first, second) } else { (second, first) };
                    (rule.never, rule.list) = (action == "never", list);
                }
                "-S" => rule.calls.extend(words.next()?.split(',')),
                "-F" | "-C" => rule.fields.push(words.next()?),
                "-k" => drop(words.next()),
                _ => return None,
            }
        }
        (!rule.list.is_empty()).then_some(rule)
    }

    fn names_a_call_of_ours(&self) -> bool {
        self.calls.iter().any(|call| CALLS.contains(call))
    }

    fn holds(&self, program: &Path, uid: u32) -> bool {
        self.fields.iter().all(|field| holds(field, program, uid))
    }
}

/// The kernel compares files, not names, and /sbin is /usr/sbin on most machines.
fn is_same(one: &Path, other: &Path) -> bool {
    let plain = |path: &Path| {
        path.strip_prefix("/usr").map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
    };
    plain(one) == plain(other)
}

/// Whether a field of a rule certainly holds for the relay.
fn holds(field: &str, program: &Path, uid: u32) -> bool {
    let at = field.find(['=', '!', '<', '>', '&']).unwrap_or(field.len());
    let (name, rest) = field.split_at(at);
    let operator: String = rest.chars().take_while(|c| "=!<>&".contains(*c)).collect();
    let value = &rest[operator.len()..];
    match name {
        "arch" | "key" => true,
        "exe" => match operator.as_str() {
            "=" => is_same(Path::new(value), program),
            "!=" => !is_same(Path::new(value), program),
            _ => false,
        },
        "success" => (operator == "=") == (value == "1" || value == "yes"),
        "uid" | "euid" | "suid" | "fsuid" | "auid" | "loginuid" => {
            let ours = if matches!(name, "auid" | "loginuid") { UNSET } else { i64::from(uid) };
            let value = match value {
                "unset" | "-1" => Some(UNSET),
                "root" => Some(0),
                number => number.parse().ok(),
            };
            value.is_some_and(|value| match operator.as_str() {
                "=" => ours == value,
                "!=" => ours != value,
                ">" => ours > value,
                ">=" => ours >= value,
                "<" => ours < value,
                "<=" => ours <= value,
                _ => false,
            })
        }
        _ => false,
    }
}

/// The rule, if there is one, that makes records of what the relay does all the time: `program` running as `uid`, not
/// from a login. The first rule that matches decides.
pub(crate) fn that_audits<'a>(rules: &'a [String], program: &Path, uid: u32) -> Option<&'a str> {
    for line in rules {
        let Some(rule) = Rule::parse(line).filter(|rule| rule.list == "exit") else { continue };
        if !rule.holds(program, uid) {
            continue;
        }
        if rule.never && (rule.calls.is_empty() || rule.calls.contains(&"all")) {
            return None;
        }
        if !rule.never && rule.names_a_call_of_ours() {
            return Some(line);
        }
    }
    None
}

/// True for `-a never,task` without a condition.
pub(crate) fn switches_off_tasks(line: &str) -> bool {
    Rule::parse(line).is_some_and(|rule| {
        rule.never && rule.list == "task" && rule.fields.iter().all(|field| field.starts_with("key="))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_hold_for_the_relay() {
        let audits = |rules: &[&str]| {
            let rules: Vec<_> = rules.iter().map(|rule| (*rule).to_owned()).collect();
            that_audits(&rules, Path::new("/usr/sbin/audit-relay"), 65534).is_some()
        };
        let own = "-a never,exit -S all -F exe=/usr/sbin/audit-relay -F uid=65534";
        let broad = "-a always,exit -F arch=b64 -S sendto,connect -F key=net";
        for (rules, expected) in [
            (&[][..], false),
            (&[broad], true),
            (&[own, broad], false),
            (&["-a never,exit -S all -F exe=/sbin/audit-relay -F uid=65534", broad], false),
            (&[broad, own], true),
            (&["-a exit,always -F arch=b64 -S all"], true),
            // Unset is a large number: without `auid!=unset` the rule holds for daemons too.
            (&["-a always,exit -F arch=b64 -S write -F auid>=1000"], true),
            (&["-a always,exit -F arch=b64 -S write -F auid>=1000 -F auid!=-1"], false),
            (&["-a always,exit -F arch=b64 -S write -F auid>=1000 -F auid!=unset"], false),
            (&["-a always,exit -F arch=b64 -S write -F success=0"], false),
            (&["-a always,exit -F arch=b64 -S write -F exit=-EACCES"], false),
            (&["-a always,exit -F arch=b64 -S write -F uid=0"], false),
            (&["-a always,exit -F arch=b64 -S write -F uid=65534"], true),
            (&["-a always,exit -F arch=b64 -S execve"], false),
            (&["-a always,exit -S all -F dir=/etc -F perm=wa"], false),
            (&["-w /etc/passwd -p wa -k x"], false),
            // Excluded, but as another account, or as another program.
            (&["-a never,exit -S all -F exe=/usr/sbin/audit-relay -F uid=33", broad], true),
            (&["-a never,exit -S all -F exe=/usr/local/sbin/audit-relay -F uid=65534", broad], true),
            (&["-a always,exclude -F msgtype=CWD", broad], true),
            (&["No rules"], false),
        ] {
            assert_eq!(audits(rules), expected, "{rules:?}");
        }
    }

    #[test]
    fn tasks() {
        assert!(switches_off_tasks("-a never,task"));
        assert!(switches_off_tasks("-a task,never"));
        assert!(!switches_off_tasks("-a never,task -F uid=33"));
        assert!(!switches_off_tasks("-a never,exit"));
    }
}
