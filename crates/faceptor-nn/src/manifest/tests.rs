//! Manifests that are read, and refusals of those that contradict themselves.

use super::*;

const MINIMAL: &str = r#"
    format = 1
    name = "n"
    version = "0"
    [[part]]
    name = "p"
    file = "p.onnx"
    sha256 = ""
    inputs = ["image"]
    outputs = ["y"]
"#;

#[test]
fn minimal_is_read() {
    assert_eq!(Manifest::parse(MINIMAL).unwrap().parts[0].outputs, ["y"]);
}

#[test]
fn another_format_is_reported_as_such() {
    let text = MINIMAL.replace("format = 1", "format = 2");
    assert!(matches!(Manifest::parse(&text), Err(ManifestError::Format { found: 2 })));
}

#[test]
fn task_of_an_absent_part_is_refused() {
    let text = format!("{MINIMAL}\n[[task]]\nname='age'\nkind='age'\npart='q'\noutput='y'");
    assert!(matches!(Manifest::parse(&text), Err(ManifestError::Content(t)) if t.contains("part q")));
}

#[test]
fn flip_must_list_pairs() {
    let read = |more: &str| {
        let input = "[input]\ntensor='image'\nsize=8\nmean=[0,0,0]\nstd=[1,1,1]";
        let frame = "[frame]\ntemplate=[[0.4,0.4],[0.6,0.4],[0.5,0.5],[0.4,0.6],[0.6,0.6]]";
        let task = "[[task]]\nname='t'\nkind='landmarks'\npart='p'\noutput='y'";
        Manifest::parse(&format!("{MINIMAL}\n{input}\n{frame}\n{task}\n{more}"))
    };
    assert!(read("flip=[1, 0, 2]\nmirror=true").is_ok_and(|manifest| manifest.tasks[0].mirror));
    assert!(read("").is_ok_and(|manifest| !manifest.tasks[0].mirror));
    assert!(matches!(read("mirror=true"), Err(ManifestError::Content(t)) if t.contains("mirror needs flip")));
    for (flip, index) in [("[1, 2, 0]", 0), ("[0, 3, 2]", 1), ("[0, 0]", 1)] {
        let index = format!("index {index}");
        let found = read(&format!("flip={flip}"));
        assert!(matches!(found, Err(ManifestError::Content(t)) if t.contains(&index)), "{flip}");
    }
}

#[test]
fn groups_replace_input_and_frame_and_every_task_finds_its_group() {
    let group = |name: &str| {
        let head = format!("[[group]]\nname = '{name}'\ntensor = 'image_{name}'\nsize = 8\n");
        format!("{head}mean = [0, 0, 0]\nstd = [1, 1, 1]\nframe = {{ align = 'box', box_scale = 1.0 }}\n")
    };
    let part = |name: &str, input: &str| {
        let names = format!("name = '{name}'\ninputs = ['{input}']\noutputs = ['o_{name}']\n");
        format!("[[part]]\n{names}file = 'shared.onnx'\nsha256 = ''\ngraph_inputs = ['x']\ngraph_outputs = ['y']\n")
    };
    let task =
        |name: &str| format!("[[task]]\nname = '{name}'\nkind = 'classes'\npart = '{name}'\noutput = 'o_{name}'\n");
    let text = format!("format = 1\nname = 'n'\nversion = '0'\n{}{}", group("a"), group("b"));
    let parts = part("first", "image_b") + &part("second", "o_first");
    let manifest = Manifest::parse(&format!("{text}{parts}{}", task("second"))).unwrap();
    assert_eq!(manifest.group_of(&manifest.tasks[0]).map(|g| g.name.as_str()), Some("b"));
    assert_eq!(manifest.parts[1].file_inputs(), ["x"]);
    let without = Manifest::parse(&format!("{text}{}{}", part("second", "image_c"), task("second")));
    assert!(matches!(without, Err(ManifestError::Content(t)) if t.contains("task second")));
    let uneven = parts.replacen("['y']", "['y', 'z']", 1);
    assert!(matches!(Manifest::parse(&(text + &uneven)), Err(ManifestError::Content(t)) if t.contains("graph_inputs")));
}

#[test]
fn a_group_beside_the_shared_input_serves_the_tasks_that_read_it() {
    let input = "[input]\ntensor = 'image'\nsize = 8\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n";
    let frame = "[frame]\ntemplate = [[0.4,0.4],[0.6,0.4],[0.5,0.5],[0.4,0.6],[0.6,0.6]]\n";
    let group = |tensor: &str| {
        let align = "frame = { align = 'box', box_scale = 1.0 }";
        format!("[[group]]\nname = 'own'\ntensor = '{tensor}'\nsize = 8\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n{align}\n")
    };
    let task = |name: &str, input: &str| {
        let part = format!(
            "[[part]]\nname = '{name}'\nfile = 'f'\nsha256 = ''\ninputs = ['{input}']\noutputs = ['o_{name}']\n"
        );
        format!("{part}[[task]]\nname = '{name}'\nkind = 'recognition'\npart = '{name}'\noutput = 'o_{name}'\n")
    };
    let tasks = task("ours", "image") + &task("own", "image_own");
    let read = |head: &str, group: &str| {
        Manifest::parse(&format!("format = 1\nname = 'n'\nversion = '0'\n{head}{group}{tasks}"))
    };
    let manifest = read(&format!("{input}{frame}"), &group("image_own")).unwrap();
    assert_eq!(manifest.group_of(&manifest.tasks[0]), None);
    assert_eq!(manifest.group_of(&manifest.tasks[1]).map(|group| group.name.as_str()), Some("own"));
    assert_eq!(manifest.image_tensors().collect::<Vec<_>>(), ["image", "image_own"]);
    for (head, tensor, reason) in [
        (input, "image_own", "both or neither"),
        ("", "image_own", "task ours"),
        (&format!("{input}{frame}"), "image", "twice"),
    ] {
        let found = read(head, &group(tensor));
        assert!(matches!(found, Err(ManifestError::Content(text)) if text.contains(reason)), "{reason}");
    }
}

fn framed(frame: &str) -> Result<Manifest, ManifestError> {
    let template = "[[0.4,0.4],[0.6,0.4],[0.5,0.5],[0.4,0.6],[0.6,0.6]]";
    Manifest::parse(&format!("{MINIMAL}\n[frame]\ntemplate = {template}\n{frame}"))
}

#[test]
fn a_warp_or_border_that_the_runtime_lacks_is_refused() {
    assert!(framed("warp = 'cubic'\nwarp_linear = 0.5\nborder = 'replicate'").is_ok());
    assert!(matches!(framed("border = 'mirror'"), Err(ManifestError::Syntax(t)) if t.contains("mirror")));
    for linear in ["0.0", "1.2", "nan"] {
        let found = framed(&format!("warp = 'cubic'\nwarp_linear = {linear}"));
        assert!(matches!(found, Err(ManifestError::Content(t)) if t.contains("warp_linear")), "{linear}");
    }
}

#[test]
fn table_of_impostor_scores_is_optional_and_checked() {
    let input = "[input]\ntensor='image'\nsize=8\nmean=[0,0,0]\nstd=[1,1,1]";
    let frame = "[frame]\ntemplate=[[0.4,0.4],[0.6,0.4],[0.5,0.5],[0.4,0.6],[0.6,0.6]]";
    let task = |kind: &str| format!("[[task]]\nname='who'\nkind='{kind}'\npart='p'\noutput='y'");
    let read = |kind: &str, table: &str| {
        Manifest::parse(&format!("{MINIMAL}\n{input}\n{frame}\n{}\n[impostors]\ntask='who'\n{table}", task(kind)))
    };
    let found = read("recognition", "rates=[0.1, 0.01]\nscores=[0.2, 0.3]").unwrap().impostors.unwrap();
    assert_eq!((found.rates, found.scores, found.people), (vec![0.1, 0.01], vec![0.2, 0.3], 0));
    assert!(Manifest::parse(MINIMAL).is_ok_and(|manifest| manifest.impostors.is_none()));
    for (kind, table, reason) in [
        ("age", "rates=[0.1, 0.01]\nscores=[0.2, 0.3]", "no recognition task"),
        ("recognition", "rates=[0.1]\nscores=[0.2]", "two or more"),
        ("recognition", "rates=[0.1, 0.01]\nscores=[0.2]", "two or more"),
        ("recognition", "rates=[0.01, 0.1]\nscores=[0.2, 0.3]", "rates do not fall"),
        ("recognition", "rates=[0.1, 0.0]\nscores=[0.2, 0.3]", "rates do not fall"),
        ("recognition", "rates=[0.1, nan]\nscores=[0.2, 0.3]", "rates do not fall"),
        ("recognition", "rates=[0.1, 0.01]\nscores=[0.3, 0.2]", "scores do not rise"),
        ("recognition", "rates=[0.1, 0.01]\nscores=[0.3, 1.2]", "scores do not rise"),
        ("recognition", "rates=[0.1, 0.01]\nscores=[nan, 0.2]", "scores do not rise"),
    ] {
        let found = read(kind, table);
        assert!(matches!(&found, Err(ManifestError::Content(t)) if t.contains(reason)), "{table}: {found:?}");
    }
}

#[test]
fn face_check_names_a_tensor_and_has_finite_weights() {
    let read = |more: &str| Manifest::parse(&format!("{MINIMAL}\n[face_check]\n{more}"));
    let good = read("tensor='y'\nbias=-1.5\nweights=[0.25, 2]").unwrap();
    let check = good.face_check.as_ref().unwrap();
    assert_eq!((check.tensor.as_str(), check.bias, check.weights.as_slice()), ("y", -1.5, [0.25, 2.0].as_slice()));
    assert!(Manifest::parse(MINIMAL).unwrap().face_check.is_none());
    for (more, problem) in [
        ("tensor='z'\nbias=0\nweights=[1]", "no part makes \"z\""),
        ("tensor='y'\nbias=0\nweights=[]", "0 weights"),
        ("tensor='y'\nbias=nan\nweights=[1]", "not finite"),
        ("tensor='y'\nbias=0\nweights=[inf]", "not finite"),
    ] {
        assert!(matches!(read(more), Err(ManifestError::Content(t)) if t.contains(problem)), "{more}");
    }
}
