//! Templates as users write them.

use super::*;
use serde_json::json;

fn data() -> Value {
    json!({
        "Id": "abc", "Name": "web", "Size": 1234, "Ratio": 0.5, "Nothing": null, "On": true,
        "State": {"ExitCode": 3, "Running": false, "Pid": 0},
        "Config": {"Labels": {"team": "x", "com.example.a": "1"}, "Env": ["A=1", "B=2"], "Cmd": [], "Volumes": {}},
        "Mounts": [{"Source": "/a", "Destination": "/b", "RW": true}, {"Source": "/c", "Destination": "/d", "RW": false}],
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "81/tcp": null}},
        "Hostile": "{{.Id}}\u{1b}[2J",
    })
}

fn render(source: &str) -> Result<String, String> {
    let template = Template::new(source, false).map_err(|fault| fault.what)?;
    template.render(&[data()], |text| text.into()).map_err(|e| format!("{e:#}"))
}

#[test]
fn what_users_write() {
    for (source, expected) in [
        ("{{.State.ExitCode}}", "3"),
        ("{{.ID}} {{ .Id }} {{$.Name}}", "abc abc web"),
        ("{{range .Mounts}}{{.Source}}:{{.Destination}} {{end}}", "/a:/b /c:/d "),
        ("{{range .Mounts}}{{.Src}}>{{.Dst}};{{end}}", "/a>/b;/c>/d;"),
        ("{{range $i, $m := .Mounts}}{{if $i}}, {{end}}{{$i}}={{$m.Source}}{{end}}", "0=/a, 1=/c"),
        ("{{range $m := .Mounts}}{{$m.RW}}{{end}}", "truefalse"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "com.example.a=1;team=x;"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ("{{range .Nothing}}x{{else}}none{{end}}", "none"),
        ("{{range .Config.Env}}{{if eq . \"B=2\"}}{{continue}}{{end}}{{.}}{{end}}", "A=1"),
        ("{{range .Config.Env}}{{.}}{{break}}{{end}}", "A=1"),
        ("{{if .State.Running}}up{{else if eq .State.ExitCode 3}}three{{else}}down{{end}}", "three"),
        ("{{with .State}}{{.Pid}} {{$.Name}}{{end}}", "0 web"),
        ("{{with .Nothing}}x{{else with .Name}}{{.}}{{end}}", "web"),
        ("{{json .State}}", r#"{"ExitCode":3,"Pid":0,"Running":false}"#),
        ("{{json .Config.Env}} {{json .Nothing}} {{.Name | json}}", r#"["A=1","B=2"] null "web""#),
        ("{{join .Config.Env \", \"}}", "A=1, B=2"),
        ("{{index .Config.Labels \"team\"}}|{{index .Config.Labels \"none\"}}|", "x||"),
        ("{{.Config.Labels.team}} {{.Config.Labels.none}}", "x <no value>"),
        ("{{.Config.Labels}}", "map[com.example.a:1 team:x]"),
        ("{{.Config.Env}} {{.Config.Cmd}}", "[A=1 B=2] []"),
        ("{{(index .Mounts 1).Source}}", "/c"),
        ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080"),
        (
            "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}->{{range $c}}{{.HostIP}}:{{.HostPort}}{{end}} {{end}}",
            "80/tcp->0.0.0.0:8080 81/tcp-> ",
        ),
        ("{{len .Mounts}} {{len .Name}} {{len .Nothing}}", "2 3 0"),
        ("{{slice .Id 1 2}} {{slice .Config.Env 1}}", "b [B=2]"),
        ("{{printf \"%-6s|%04d\" .Name .Size}}", "web   |1234"),
        ("{{print .Size .Size}} {{print .Name .Name}} {{println 1 2}}", "1234 1234 webweb 1 2\n"),
        (
            "{{upper .Name}} {{title \"a b\"}} {{lower \"AB\"}} {{truncate .Id 2}} {{pad .Id 1 1}}|{{trim \" a \"}}",
            "WEB A B ab ab  abc |a",
        ),
        ("{{range split \"a,b\" \",\"}}[{{.}}]{{end}}", "[a][b]"),
        ("{{if and .On (gt .Size 1000) (not .State.Running)}}yes{{end}}", "yes"),
        ("{{or .Nothing \"else\"}} {{and .On .Nothing}}", "else <no value>"),
        ("{{if or .On (index .Config.Env 99)}}lazy{{end}}", "lazy"),
        ("{{eq .Name \"a\" \"web\"}} {{ne 1 2}} {{lt 1 2.5}} {{ge \"b\" \"a\"}}", "true true true true"),
        ("{{$x := .Name}}{{if .On}}{{$x = \"changed\"}}{{end}}{{$x}}", "changed"),
        ("{{$x := 1}}{{if .On}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
        ("{{$n := \"\"}}{{range .Mounts}}{{$n = .Source}}{{end}}{{$n}}", "/c"),
        ("{{- /* comment */ -}} {{.Id}} {{- \" x\" }}", "abc x"),
        ("{{.Ratio}} {{.On}} {{.Nothing}} {{1.0}}", "0.5 true <no value> 1"),
        ("{{\"a\" | printf \"%s%s\" \"b\"}}", "ba"),
        ("a\\tb", "a\tb"),
        ("{{\"a\\tb\"}}", "a\tb"),
        ("{{html \"<a>\"}}", "&lt;a&gt;"),
        ("{{.Config.Labels.team.x}}", "error"),
    ] {
        let expected = if expected == "error" { None } else { Some(format!("{expected}\n")) };
        assert_eq!(render(source).ok(), expected, "{source}");
    }
}

#[test]
fn what_is_wrong_and_where() {
    for (source, said) in [
        ("{{.Bogus}}", "template 1:3: can't evaluate field Bogus in ."),
        ("a\n {{.State.Bogus}}", "template 2:4: can't evaluate field Bogus in .State"),
        ("{{range .Mounts}}{{.Bogus}}{{end}}", "template 1:20: can't evaluate field Bogus"),
        ("{{$x := .State}}{{$x.Bogus}}", "template 1:19: can't evaluate field Bogus in $x"),
        ("{{.Name.X}}", "field X in .Name, which is a string"),
        ("{{len 3}}", "template 1:3: len: a number has no length"),
        ("{{index .Mounts 7}}", "there is no element 7 of 2"),
        ("{{index .Mounts -1}}", "there is no element -1 of 2"),
        ("{{eq .Name 1}}", "can't be compared"),
        ("{{eq .Name}}", "it doesn't take 1 arguments"),
        ("{{range .Name}}{{end}}", "range can't go through a string"),
        ("{{upper .Size}}", "it takes a string, not a number"),
        ("{{.Name \"x\"}}", "no function takes no arguments"),
        ("{{pad \"x\" 99999999 9999999}}", "too many"),
        ("{{slice .Name 2 1}}", "outside"),
    ] {
        let failure = render(source).unwrap_err();
        assert!(failure.contains(said), "{source}: {failure}");
    }
    let failure =
        Template::new("{{.State.Bogus}}", false).unwrap().render(&[data()], |text| text.into()).unwrap_err();
    assert_eq!(crate::error::hint(&failure), Some("it has ExitCode, Pid, Running"));
}

#[test]
fn bounds() {
    let doubling = format!("{{{{$x := \"0123456789\"}}}}{}", "{{$x = print $x $x}}".repeat(40));
    assert!(render(&doubling).unwrap_err().contains("longer than"));
    let nested = |depth: usize, body: &str| {
        format!("{}{body}{}", "{{range $.Config.Env}}".repeat(depth), "{{end}}".repeat(depth))
    };
    assert!(render(&nested(30, "xxxxxxxxxxxxxxxxxxxxxxx")).unwrap_err().contains("longer than"));
    assert!(render(&nested(30, "")).unwrap_err().contains("steps"));
}

#[test]
fn a_value_is_no_template_and_steers_no_terminal() {
    assert_eq!(render("{{.Hostile}}").unwrap(), "{{.Id}}\u{1b}[2J\n");
    let rendered =
        Template::new("\x1b[1m{{.Hostile}}", false).unwrap().render(&[data()], for_terminal).unwrap();
    assert_eq!(rendered, "\x1b[1m{{.Id}}\\u{1b}[2J\n");
    assert_eq!(for_terminal("a\tb\nc\r"), "a\tb\nc\\r");
}

#[test]
fn tables() {
    let rows = [
        json!({"ID": "1", "RunningFor": "a\tb", "Label": {"k": "v"}}),
        json!({"ID": "2", "RunningFor": "c", "Label": {}}),
    ];
    let columns = |noheading| Columns { row: "", headings: &[("ID", "CONTAINER ID")], noheading };
    for (source, noheading, expected) in [
        (
            "{{.ID}}\\t{{.RunningFor}}",
            false,
            "CONTAINER ID  RUNNING FOR\n1             a\\tb\n2             c\n",
        ),
        ("{{.ID}} {{.Label \"k\"}}", false, "CONTAINER ID  LABEL\n1             v\n2\n"),
        ("{{.ID}}\t{{upper .RunningFor}}", true, "1           A\\tB\n2           C\n"),
    ] {
        let table = Template::new(source, true).unwrap().render_table(&rows, &columns(noheading)).unwrap();
        assert_eq!(table, expected, "{source}");
    }
    let own = Template::new("{{range .}}{{.ID}},{{end}}", false).unwrap();
    assert_eq!(own.render(&rows, |text| text.into()).unwrap(), "1,2,\n");
}

#[test]
fn headings() {
    for (field, heading) in
        [("RunningFor", "RUNNING FOR"), ("ImageID", "IMAGE ID"), ("CIDFile", "CID FILE"), ("Tag", "TAG")]
    {
        assert_eq!(capitals(field), heading);
    }
}

#[test]
fn formats() {
    for (text, json) in
        [("json", true), (" json ", true), ("{{json}}", true), ("{{ json. }}", true), ("{{json .}}", false)]
    {
        assert_eq!(matches!(text.parse(), Ok(Format::Json)), json, "{text}");
    }
    assert!(matches!("table".parse(), Ok(Format::Default)) && matches!("".parse(), Ok(Format::Default)));
    assert!("table {{.ID".parse::<Format>().is_err());
}
