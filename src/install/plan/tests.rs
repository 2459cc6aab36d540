//! Tables for the plans: each version's folder and rules, each state of the files, and back.

use super::*;

const SHIPPED: &str = include_str!("../../../packaging/plugins.d/audit-relay.conf");
/// What audisp-syslog comes with: 2.8, 3.x and 4.x.
const SYSLOG_2: &str =
    "active = no\ndirection = out\npath = builtin_syslog\ntype = builtin\nargs = LOG_INFO\nformat = string\n";
const SYSLOG_3: &str = "# why\n\nactive = no\ndirection = out\npath = /sbin/audisp-syslog\ntype = always\nargs = LOG_INFO LOG_LOCAL6\nformat = string\n";

const VERSIONS: [&str; 5] = ["2.8.5", "3.0.9", "3.1.5", "4.0", "4.2.1"];

fn found(version: &str) -> Found {
    let version = Version::parse(version).unwrap();
    Found {
        version: Some(version),
        settings_faults: Vec::new(),
        plugins_off: None,
        folder: version.plugin_folder().into(),
        folder_exists: true,
        plugins: Vec::new(),
        own: State::Absent,
        syslog: State::Absent,
        settings: State::Absent,
        kill_mode: None,
        drop_in: State::Absent,
        program: Some(Facts { kind: Kind::File, uid: 0, gid: 0, mode: 0o755 }),
    }
}

fn wish() -> Wish {
    Wish {
        program: "/usr/sbin/audit-relay".into(),
        settings: ("/etc/audit-relay.toml".into(), true),
        settings_text: Some("to = [\"tcp://192.0.2.1\"]\n".to_owned()),
        usual_text: "to = [\"unix:/dev/log\"]\n".to_owned(),
        replace_syslog: false,
    }
}

fn plugin_of(found: &Found, name: &str, text: &str) -> Plugin {
    let conf = PluginConf::parse(text, found.version.unwrap());
    let faults = conf.faults.clone();
    Plugin { file: found.folder.join(name), conf: Some(conf), faults, facts: None, program: None }
}

/// What the machine is after the changes.
fn after(mut found: Found, wish: &Wish, changes: &[Change]) -> Found {
    for change in changes {
        let state = change.after.clone().map_or(State::Absent, |text| State::Text(text, change.rights));
        if change.path == wish.settings.0 {
            found.settings = state;
        } else {
            let name = change.path.file_name().unwrap().to_str().unwrap().to_owned();
            found.plugins.retain(|plugin| plugin.file != change.path);
            if let State::Text(text, _) = &state {
                let plugin = plugin_of(&found, &name, text);
                found.plugins.push(plugin);
            }
            if name == OWN { found.own = state } else { found.syslog = state }
        }
    }
    found
}

fn written(found: &Found, wish: &Wish, changes: &[Change]) -> Vec<(Change, State)> {
    let now = |change: &Change| match &change.path {
        path if *path == wish.settings.0 => found.settings.clone(),
        path if path.ends_with(OWN) => found.own.clone(),
        _ => found.syslog.clone(),
    };
    changes.iter().map(|change| (change.clone(), now(change))).collect()
}

/// Installs, installs again, removes: every version, every state of the file, both ways.
#[test]
fn there_and_back_again() {
    let mode = Rights::of_root(0o640);
    for version in VERSIONS {
        for (replace_syslog, own, syslog, settings) in [
            (false, State::Absent, State::Absent, State::Absent),
            (false, State::Text(SHIPPED.to_owned(), mode), State::Absent, State::Absent),
            (false, State::Absent, State::Text(SYSLOG_3.to_owned(), mode), State::Absent),
            (true, State::Absent, State::Absent, State::Absent),
            (true, State::Absent, State::Text(SYSLOG_2.to_owned(), mode), State::Absent),
            (
                true,
                State::Text(SHIPPED.to_owned(), mode),
                State::Text(SYSLOG_3.to_owned(), Rights { uid: 0, gid: 4, mode: 0o660 }),
                State::Absent,
            ),
            (
                true,
                State::Absent,
                State::Text(SYSLOG_3.to_owned(), mode),
                State::Text("to = []".to_owned(), Rights::of_root(0o644)),
            ),
        ] {
            let case = format!("{version} {replace_syslog} {own:?} {syslog:?}");
            let mut before = Found { own, syslog, settings, ..found(version) };
            for (name, state) in [(OWN, before.own.clone()), (SYSLOG, before.syslog.clone())] {
                if let State::Text(text, _) = &state {
                    let plugin = plugin_of(&before, name, text);
                    before.plugins.push(plugin);
                }
            }
            let keeps_settings = before.settings != State::Absent;
            let settings_text = if keeps_settings { None } else { wish().settings_text };
            let wish = Wish { replace_syslog, settings_text, ..wish() };
            let changes = install(&before, &wish).expect(&case);
            assert_eq!(changes.len(), if keeps_settings { 1 } else { 2 }, "{case}: {changes:?}");

            let installed = after(before.clone(), &wish, &changes);
            let started: Vec<_> = installed
                .plugins
                .iter()
                .filter(|plugin| plugin.is_active_and_leads_to("audit-relay"))
                .collect();
            assert_eq!(started.len(), 1, "{case}");
            assert!(
                started[0].is_started() && started[0].faults.is_empty(),
                "{case}: {:?}",
                started[0].faults
            );
            let conf = started[0].conf.as_ref().unwrap();
            assert_eq!(conf.path.as_deref(), Some(Path::new("/usr/sbin/audit-relay")), "{case}");
            let wanted = if replace_syslog { SYSLOG } else { OWN };
            assert_eq!(started[0].file, installed.folder.join(wanted), "{case}");
            // Once more changes nothing.
            assert_eq!(install(&installed, &wish), Ok(Vec::new()), "{case}");

            let removal =
                uninstall(&installed, "audit-relay", &written(&installed, &wish, &changes)).expect(&case);
            assert_eq!(removal.left, Vec::<String>::new(), "{case}");
            let back = after(after(installed, &wish, &removal.first), &wish, &removal.then);
            assert_eq!(
                (&back.own, &back.syslog, &back.settings),
                (&before.own, &before.syslog, &before.settings),
                "{case}"
            );
        }
    }
}

#[test]
fn what_is_refused_and_why() {
    let text = |text: &str| State::Text(text.to_owned(), Rights::of_root(0o640));
    let fault = crate::site::Fault { line: None, sentence: "belongs to user 7".to_owned(), rejects: true };
    type Spoil = Box<dyn Fn(&mut Found, &mut Wish)>;
    let cases: Vec<(&str, Spoil, &str)> = vec![
        ("no auditd", Box::new(|f, _| f.version = None), "there is no auditd here"),
        ("auditd.conf", Box::new(|f, _| f.settings_faults.push("line 3 x".to_owned())), "line 3 x"),
        (
            "plugins off",
            Box::new(|f, _| f.plugins_off = Some("auditd.conf names no `dispatcher`".to_owned())),
            "would start no plugin: auditd.conf names no `dispatcher`",
        ),
        ("no folder", Box::new(|f, _| f.folder_exists = false), "has no folder"),
        ("no program", Box::new(|f, _| f.program = None), "is not there"),
        (
            "a program of a user's",
            Box::new(|f, _| f.program = Some(Facts { kind: Kind::File, uid: 1000, gid: 0, mode: 0o755 })),
            "belongs to user 1000",
        ),
        ("a folder too short", Box::new(|_, w| w.program = "/x/audit-relay".into()), "would not be taken"),
        ("a space", Box::new(|_, w| w.settings.0 = "/etc/a b".into()), "no path with a space"),
        (
            "a long line",
            Box::new(|_, w| w.settings = (format!("/etc/{}", "x".repeat(150)).into(), false)),
            "bytes; auditd",
        ),
        ("another file", Box::new(move |f, _| f.settings = text("to = []\n")), "is not overwritten"),
        (
            "a link",
            Box::new(|f, _| {
                f.own = state_of(Some(&Facts { kind: Kind::Link, uid: 0, gid: 0, mode: 0o777 }), None);
            }),
            "is a symbolic link",
        ),
        (
            "twice",
            Box::new(|f, w| {
                w.replace_syslog = true;
                let plugin = plugin_of(f, OWN, &set(SHIPPED, "active", "yes"));
                f.plugins.push(plugin);
            }),
            "would be sent twice",
        ),
        (
            "a file with a fault of its own",
            Box::new(|f, _| f.own = State::Text("active=yes\n".to_owned(), Rights::of_root(0o640))),
            "would not be taken",
        ),
        (
            "words that the relay does not know",
            Box::new(|f, w| {
                w.replace_syslog = true;
                f.syslog = State::Text(SYSLOG_3.replace("LOG_INFO", "--nonsense"), Rights::of_root(0o640));
            }),
            "does not know its args",
        ),
        (
            "somebody else's fault",
            Box::new(move |f, _| {
                let mut plugin = plugin_of(f, "other.conf", "active = yes\npath = /sbin/other\n");
                plugin.faults.push(fault.clone());
                f.plugins.push(plugin);
            }),
            "belongs to user 7",
        ),
    ];
    for (case, spoil, part) in cases {
        // The one that only old versions refuse.
        let version = if case == "a long line" { "3.0.9" } else { "4.2.1" };
        let (mut found, mut wish) = (found(version), wish());
        spoil(&mut found, &mut wish);
        let refused = install(&found, &wish).expect_err(case);
        assert!(refused.contains(part), "{case}: {refused}");
    }
    // Before 4.2 somebody else's fault is nobody else's matter.
    let mut old = found("3.0.9");
    let mut plugin = plugin_of(&old, "other.conf", "active = yes\npath = /sbin/other\n");
    plugin.faults.push(crate::site::Fault { line: None, sentence: "x".to_owned(), rejects: true });
    old.plugins.push(plugin);
    assert!(install(&old, &wish()).is_ok());
}

#[test]
fn the_settings_that_are_named_already_stand_there() {
    let settings = State::Text(wish().settings_text.unwrap(), Rights::of_root(0o644));
    let changes = install(&Found { settings, ..found("3.0.9") }, &wish()).unwrap();
    assert_eq!(changes.len(), 1);
}

#[test]
fn what_was_changed_since_is_left_but_starts_nothing() {
    let wish = Wish { replace_syslog: true, ..wish() };
    let before = Found { syslog: State::Text(SYSLOG_3.to_owned(), Rights::of_root(0o640)), ..found("3.0.9") };
    let changes = install(&before, &wish).unwrap();
    let mut installed = after(before, &wish, &changes);
    let edited = format!("# edited\n{}", installed.syslog.text().unwrap());
    installed.syslog = State::Text(edited, Rights::of_root(0o640));
    installed.settings = State::Text("to = [\"udp://192.0.2.7\"]\n".to_owned(), Rights::of_root(0o644));
    let removal = uninstall(&installed, "audit-relay", &written(&installed, &wish, &changes)).unwrap();
    assert_eq!(removal.left.len(), 2, "{removal:?}");
    assert_eq!(removal.then, []);
    let text = removal.first[0].after.as_deref().unwrap();
    assert_eq!(text, format!("# edited\n{SYSLOG_3}"));
}

/// A file that led to the relay before install, and that auditd did not take, or that started another one.
#[test]
fn what_led_to_the_relay_before_install_starts_nothing_after_uninstall() {
    let on = set(SHIPPED, "active", "yes");
    let old_path = set(&on, "path", "/usr/local/sbin/audit-relay");
    let elsewhere = set(&old_path, "args", "--config /root/relay.toml");
    let filter = "active = yes\npath = /sbin/audisp-filter\nargs = /etc/a.conf /usr/sbin/audit-relay\n";
    for (before, mode, program) in [
        (on.as_str(), 0o664, "/usr/sbin/audit-relay"),
        (&set(&on, "args", "--to udp://192.0.2.1"), 0o640, "/usr/sbin/audit-relay"),
        (&old_path, 0o640, "/usr/sbin/audit-relay"),
        (&elsewhere, 0o640, "/usr/sbin/audit-relay"),
        (&old_path, 0o640, "/opt/sbin/audit-relay-2"),
        (filter, 0o640, "/usr/sbin/audit-relay"),
    ] {
        for version in ["3.0.9", "4.2.1"] {
            let case = format!("{before} {mode:o} {program} {version}");
            let wish = Wish { program: program.into(), ..wish() };
            let own = State::Text(before.to_owned(), Rights::of_root(mode));
            let mut there = Found { own, ..found(version) };
            let plugin = plugin_of(&there, OWN, before);
            there.plugins.push(plugin);
            let changes = install(&there, &wish).expect(&case);
            let installed = after(there, &wish, &changes);
            let removal =
                uninstall(&installed, "audit-relay", &written(&installed, &wish, &changes)).unwrap();
            let [change] = &removal.first[..] else { panic!("{case}: {removal:?}") };
            assert_eq!(change.after.as_deref(), Some(&*set(before, "active", "no")), "{case}");
            assert_eq!(change.rights.mode, mode, "{case}");
            let back = after(after(installed, &wish, &removal.first), &wish, &removal.then);
            for name in &removal.programs {
                assert!(back.plugins.iter().all(|plugin| !plugin.is_active_and_leads_to(name)), "{case}");
            }
            // And once more, with nothing on record.
            assert_eq!(uninstall(&back, "audit-relay", &[]).unwrap().first, [], "{case}");
        }
    }
}

/// Edited since, and the program is called otherwise; or a filter was put before it.
#[test]
fn what_was_edited_since_starts_no_relay_of_any_name() {
    let wish = Wish { program: "/opt/sbin/audit-relay-2".into(), replace_syslog: true, ..wish() };
    let before = Found { syslog: State::Text(SYSLOG_3.to_owned(), Rights::of_root(0o640)), ..found("4.2.1") };
    let changes = install(&before, &wish).unwrap();
    let installed = after(before, &wish, &changes);
    let text = installed.syslog.text().unwrap();
    let filter =
        set(&set(text, "path", "/sbin/audisp-filter"), "args", "allowlist /etc/a /opt/sbin/audit-relay-2");
    let active = SYSLOG_3.replace("active = no", "active = yes");
    for edited in [format!("# edited\n{text}"), filter] {
        for was in [SYSLOG_3, &active] {
            let mut written = written(&installed, &wish, &changes);
            written[1].0.before = Some(was.to_owned());
            written[1].1 = State::Text(edited.clone(), Rights::of_root(0o640));
            let removal = uninstall(&installed, "audit-relay", &written).unwrap();
            let after = PluginConf::parse(removal.first[0].after.as_deref().unwrap(), Version::new(4, 2, 1));
            assert!(!(after.active && after.leads_to("audit-relay-2")), "{edited}: {after:?}");
        }
    }
}

/// It had come to the record, and not to the file.
#[test]
fn what_an_interrupted_install_did_not_come_to_is_not_called_changed() {
    let wish = Wish { replace_syslog: true, ..wish() };
    let there = Found { syslog: State::Text(SYSLOG_3.to_owned(), Rights::of_root(0o640)), ..found("3.0.9") };
    let changes = install(&there, &wish).unwrap();
    let removal = uninstall(&there, "audit-relay", &written(&there, &wish, &changes)).unwrap();
    let nothing = Removal { programs: vec!["audit-relay".to_owned()], ..Removal::default() };
    assert_eq!(removal, nothing);
    // The configuration goes, although the file that it did not come to names it.
    let own = State::Text(SHIPPED.to_owned(), Rights::of_root(0o640));
    let there = Found { own: own.clone(), ..found("3.0.9") };
    let changes = install(&there, &self::wish()).unwrap();
    let halfway = Found { own, ..after(there, &self::wish(), &changes) };
    let removal = uninstall(&halfway, "audit-relay", &written(&halfway, &self::wish(), &changes)).unwrap();
    assert_eq!((removal.first.len(), removal.then.len(), removal.left.len()), (0, 1, 0), "{removal:?}");
    // What led to the relay before, does so still.
    let on = set(SHIPPED, "active", "yes");
    let own = State::Text(on.clone(), Rights::of_root(0o664));
    let mut there = Found { own, ..found("4.2.1") };
    let plugin = plugin_of(&there, OWN, &set(&on, "path", "/usr/local/sbin/audit-relay"));
    there.plugins.push(plugin);
    let wish = Wish { program: "/opt/sbin/audit-relay".into(), ..self::wish() };
    let changes = install(&there, &wish).unwrap();
    let removal = uninstall(&there, "audit-relay", &written(&there, &wish, &changes)).unwrap();
    assert_eq!((removal.first[0].after.as_deref(), removal.left.len()), (Some(SHIPPED), 0), "{removal:?}");
}

#[test]
fn what_install_has_not_written_is_only_switched_off() {
    let on = set(SHIPPED, "active", "yes");
    let mut there = Found { own: State::Text(on.clone(), Rights::of_root(0o640)), ..found("4.2.1") };
    let plugin = plugin_of(&there, OWN, &on);
    there.plugins.push(plugin);
    let removal = uninstall(&there, "audit-relay", &[]).unwrap();
    assert_eq!(removal.first[0].after.as_deref(), Some(SHIPPED));
    let mut elsewhere = found("4.2.1");
    let plugin = plugin_of(&elsewhere, "mine.conf", &on);
    elsewhere.plugins.push(plugin);
    assert!(uninstall(&elsewhere, "audit-relay", &[]).unwrap_err().contains("active = no"));
    let nothing = Removal { programs: vec!["audit-relay".to_owned()], ..Removal::default() };
    assert_eq!(uninstall(&found("4.2.1"), "audit-relay", &[]), Ok(nothing));
}

/// What auditd does not look at neither starts a relay nor hinders a reload; what it refuses for another fault may start one
/// once that is repaired.
#[test]
fn copies_of_a_plugin_file_start_nothing() {
    let on = set(SHIPPED, "active", "yes");
    for (name, version, counts) in [
        (".audit-relay.conf.new", "3.0.9", false),
        (".audit-relay.conf.new", "4.2.1", false),
        (".audit-relay.conf.swp", "3.0.9", false),
        ("audit-relay.conf.bak", "4.2.1", false),
        ("audit-relay.conf.dpkg-old", "3.0.9", false),
        ("audit-relay.rpmsave", "4.2.1", false),
        ("audit-relay.rpmsave", "3.0.9", true),
        ("other.conf", "4.2.1", true),
    ] {
        for spoilt in [false, true] {
            let case = format!("{name} {version} {spoilt}");
            let mut there = found(version);
            let mut plugin = plugin_of(&there, name, &on);
            plugin.faults.extend(plugin::name_fault(name, there.version.unwrap()));
            if spoilt {
                let sentence = "may be written by everybody (mode 0666)".to_owned();
                plugin.faults.push(crate::site::Fault { line: None, sentence, rejects: true });
            }
            there.plugins.push(plugin);
            let installed = install(&there, &wish());
            let removed = uninstall(&there, "audit-relay", &[]);
            if counts {
                assert!(installed.unwrap_err().contains("would be sent twice"), "{case}");
                assert!(removed.unwrap_err().contains("set active = no in it"), "{case}");
            } else {
                assert_eq!(installed.unwrap().len(), 2, "{case}");
                assert_eq!(removed.unwrap().first, [], "{case}");
            }
        }
    }
    // Whatever auditd is there, or comes: it may look at this one.
    let mut unknown = found("4.2.1");
    let plugin = plugin_of(&unknown, "audit-relay.rpmsave", &on);
    unknown.plugins.push(plugin);
    unknown.version = None;
    assert!(uninstall(&unknown, "audit-relay", &[]).is_err());
}

/// The relay's configuration stays where a plugin file stays that names it, and goes where nothing does.
#[test]
fn the_configuration_stays_with_an_edited_file_that_names_it() {
    let usual = PathBuf::from("/etc/audit-relay.toml");
    let other = PathBuf::from("/etc/relay/other.toml");
    for (settings, edit, stays) in [
        ((usual.clone(), true), "# edited\n", true),
        ((other.clone(), false), "# edited\n", true),
        ((other, false), "args = --config /etc/mine.toml\n", false),
        ((usual.clone(), true), "args = --to udp://192.0.2.7\n", true),
        ((usual, true), "path = /sbin/audisp-syslog\nargs = LOG_INFO\n", false),
    ] {
        let wish = Wish { settings, ..wish() };
        let changes = install(&found("4.2.1"), &wish).unwrap();
        let mut installed = after(found("4.2.1"), &wish, &changes);
        let edited = format!("{}{edit}", installed.own.text().unwrap());
        installed.own = State::Text(edited, Rights::of_root(0o640));
        let removal = uninstall(&installed, "audit-relay", &written(&installed, &wish, &changes)).unwrap();
        assert_eq!(removal.then.is_empty(), stays, "{edit} {removal:?}");
        let said =
            format!("{}, which /etc/audit/plugins.d/audit-relay.conf names", wish.settings.0.display());
        assert_eq!(removal.left.contains(&said), stays, "{edit} {removal:?}");
    }
}

/// auditd was another one, or had another folder (`-c`), when the relay was installed.
#[test]
fn a_plugin_file_in_another_folder_starts_nothing_either() {
    let on = set(SHIPPED, "active", "yes");
    for before in [
        State::Absent,
        State::Text(on.clone(), Rights::of_root(0o664)),
        State::Text(SHIPPED.to_owned(), Rights::of_root(0o640)),
    ] {
        for edit in ["", "# edited\n"] {
            let there =
                Found { folder: "/srv/audit/plugins.d".into(), own: before.clone(), ..found("4.2.1") };
            let changes = install(&there, &wish()).unwrap();
            let mut installed = after(there, &wish(), &changes);
            let text = format!("{}{edit}", installed.own.text().unwrap());
            installed.own = State::Text(text, Rights::of_root(0o640));
            let written = written(&installed, &wish(), &changes);
            let now = found("4.2.1");
            let removal = uninstall(&now, "audit-relay", &written).unwrap();
            let [change] = &removal.first[..] else { panic!("{removal:?}") };
            let active = change
                .after
                .as_ref()
                .is_some_and(|text| PluginConf::parse(text, now.version.unwrap()).active);
            assert!(!active && change.path.starts_with("/srv"), "{removal:?}");
            assert_eq!(
                removal.left.iter().any(|left| left.contains("changed since")),
                !edit.is_empty(),
                "{removal:?}"
            );
        }
    }
}

/// A version that has kept neither, and somebody who has set another mode since.
#[test]
fn what_a_file_is_since_install_stays_where_its_owner_is_not_on_record() {
    let wish = Wish { replace_syslog: true, ..wish() };
    let before = Rights { uid: 0, gid: 4, mode: 0o660 };
    let there = Found { syslog: State::Text(SYSLOG_3.to_owned(), before), ..found("3.0.9") };
    let changes = install(&there, &wish).unwrap();
    assert_eq!((changes[1].rights, changes[1].was), (Rights { mode: 0o640, ..before }, Some(before)));
    let installed = after(there, &wish, &changes);
    let rights =
        |written: &[(Change, State)]| uninstall(&installed, "audit-relay", written).unwrap().first[0].rights;
    let mut written = written(&installed, &wish, &changes);
    assert_eq!(rights(&written), before);
    let since = Rights::of_root(0o600);
    written[1].1 = State::Text(changes[1].after.clone().unwrap(), since);
    assert_eq!(rights(&written), since);
    written[1].1 = State::Text(changes[1].after.clone().unwrap(), changes[1].rights);
    written[1].0.was = None;
    assert_eq!(rights(&written), changes[1].rights);
}

#[test]
fn a_program_of_another_name_is_known_from_what_install_has_written() {
    let (there, wish) = (found("3.0.9"), Wish { program: "/opt/sbin/audit-relay-2".into(), ..wish() });
    let changes = install(&there, &wish).unwrap();
    let installed = after(there, &wish, &changes);
    let written = written(&installed, &wish, &changes);
    let programs = |name: &str| uninstall(&installed, name, &written).unwrap().programs;
    assert_eq!(programs("audit-relay"), ["audit-relay", "audit-relay-2"]);
    assert_eq!(programs("audit-relay-2"), ["audit-relay-2"]);
}

#[test]
fn keys_are_set_and_nothing_else_is() {
    for (text, expected) in [
        ("active = no\n", "active = yes\n"),
        ("ACTIVE   =   No\npath = /x\n", "active = yes\npath = /x\n"),
        ("  active = no", "active = yes"),
        ("active = YES\n", "active = YES\n"),
        ("# active = no\n", "# active = no\nactive = yes\n"),
        ("active = no\nactive = no\n", "active = yes\nactive = yes\n"),
        ("path = /x", "path = /x\nactive = yes\n"),
        ("", "active = yes\n"),
    ] {
        assert_eq!(set(text, "active", "yes"), expected, "{text:?}");
    }
}

#[test]
fn changes_are_shown() {
    let change = |before: Option<&str>, after: Option<&str>| Change {
        path: "/etc/x".into(),
        before: before.map(str::to_owned),
        after: after.map(str::to_owned),
        rights: Rights::of_root(0o640),
        was: before.map(|_| Rights::of_root(0o640)),
    };
    for (change, shown) in [
        (change(None, Some("a\nb\n")), "/etc/x: new, root:root 0640\n  + a\n  + b\n"),
        (change(Some("a\nb\nc\n"), Some("a\nB\nc\n")), "/etc/x: changed\n  - b\n  + B\n"),
        (change(Some("a\n"), Some("a\nb\n")), "/etc/x: changed\n  + b\n"),
        (change(Some("a\n"), None), "/etc/x: removed\n  - a\n"),
        (
            Change { was: Some(Rights { uid: 0, gid: 4, mode: 0o660 }), ..change(Some("a\n"), Some("a\n")) },
            "/etc/x: 0:4 0660 becomes root:root 0640\n",
        ),
        (
            Change { was: Some(Rights::of_root(0o600)), ..change(Some("a\n"), Some("b\n")) },
            "/etc/x: changed, root:root 0600 becomes root:root 0640\n  - a\n  + b\n",
        ),
    ] {
        assert_eq!(show(&[change]), shown);
    }
}

/// auditd's own unit from 4.2 on has systemd kill the relay when auditd has ended.
#[test]
fn the_unit_is_told_to_wait_for_the_relay() {
    use unit::{OURS, kill_mode};
    let unit = "[Service]\nType=forking\nKillMode=mixed\n";
    let by = |path: &str| Some((KillMode::Mixed, PathBuf::from(path)));
    let mixed = Found { kill_mode: by("/usr/lib/systemd/system/auditd.service"), ..found("4.2.1") };
    let changes = install(&mixed, &wish()).unwrap();
    let change = changes.iter().find(|change| change.path == Path::new(OURS)).unwrap();
    let text = change.after.clone().unwrap();
    assert_eq!(
        kill_mode([("unit", unit), ("ours", &text)]),
        (KillMode::ControlGroup, Some("ours")),
        "{text}"
    );
    assert!(text.lines().all(|line| !line.starts_with(' ') && !line.is_empty()), "{text}");
    assert_eq!(overruled(&mixed), None);
    // Before auditd is told of the relay.
    assert_eq!(changes.iter().position(|change| change.path == Path::new(OURS)), Some(1), "{changes:?}");

    let touches =
        |found: &Found| install(found, &wish()).unwrap().iter().any(|change| change.path == Path::new(OURS));
    for mode in [KillMode::ControlGroup, KillMode::Process, KillMode::None] {
        let other = Found { kill_mode: Some((mode, "/x".into())), ..found("4.2.1") };
        assert_eq!((touches(&other), overruled(&other)), (false, None), "{mode:?}");
    }
    assert!(!touches(&Found { kill_mode: None, ..found("4.2.1") }));
    // Somebody else's drop-in decides, ours or not: who says it is named, and nothing is refused for it.
    let folder = "/etc/systemd/system/auditd.service.d";
    for (name, ours, written) in [
        ("override.conf", None, false),
        ("10-local.conf", None, true),
        ("override.conf", Some(text.as_str()), false),
        ("audit-relay.conf", Some("[Service]\nKillMode=mixed\n"), false),
    ] {
        let drop_in = ours.map_or(State::Absent, |text| State::Text(text.to_owned(), Rights::of_root(0o644)));
        let there = Found { kill_mode: by(&format!("{folder}/{name}")), drop_in, ..found("4.2.1") };
        assert_eq!(touches(&there), written, "{name}");
        let says = overruled(&there).map(|why| why.starts_with(&format!("{folder}/{name} leaves")));
        assert_eq!(says, (!written).then_some(true), "{name}");
    }

    // It goes when the relay has ended, and stays where it was changed.
    let with = |now: &str| vec![(change.clone(), State::Text(now.to_owned(), Rights::of_root(0o644)))];
    let removal = uninstall(&mixed, "audit-relay", &with(&text)).unwrap();
    assert_eq!(removal.then.iter().map(|change| change.after.clone()).collect::<Vec<_>>(), [None]);
    let removal = uninstall(&mixed, "audit-relay", &with("[Service]\nKillMode=process\n")).unwrap();
    assert!(removal.then.is_empty() && removal.left[0].starts_with(OURS), "{removal:?}");
}
