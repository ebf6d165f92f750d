"""Composition: files, settings, matrix, interventions that extend each other; places survive all of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from specs.language.errors import SpecError
from specs.language.load import Loaded, load

BASE = """\
version: 1
name: base
description: A base.
model: {id: qwen2.5-coder-1.5b, dtype: float32}
entities: {trump: {name: Donald Trump, variants: {surname: Trump}}, obama: Barack Obama}
relations:
  wife:
    prompt: "Fact: the name of the wife of {{ entity }}:"
    answers: {trump: Melania, obama: Michelle}
localize:
  cell: stability
interventions:
  amnesia:
    edit: {scale: [0, -1, -3], neurons: cell}
    measure: answer_probability
  heir: {extends: amnesia, ask: wife}
expect:
  - cell/trump = L1.N5
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a file into an empty current folder."""
    monkeypatch.chdir(tmp_path)

    def put(name: str, text: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
        return path

    put("base.yaml", BASE)
    return put


def refused(path: Path, **how: object) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(path, **how)  # type: ignore[arg-type]
    return [p.headline() for p in caught.value.problems]


def only(loaded: Loaded) -> object:
    (cell,) = loaded.cells
    return cell.experiment


# --- files


def test_a_child_adds_names_replaces_fields_and_takes_the_rest(write: Write) -> None:
    path = write(
        "child.yaml",
        """\
        version: 1
        extends: base.yaml
        entities: {merkel: Angela Merkel, trump: {variants: {typo: Donlad Trump}}}
        interventions: {amnesia: {measure: pass@5}}
        """,
    )
    found = load(path).cells[0].experiment
    assert list(found.entities) == ["trump", "obama", "merkel"]
    assert found.entities["trump"].name == "Donald Trump"
    assert found.entities["trump"].variants == {"typo": ["Donlad Trump"]}, "what a field holds is replaced whole"
    assert found.interventions["amnesia"].measure == ["pass@5"]
    assert found.interventions["heir"].measure == ["pass@5"], "an override reaches the heirs"
    assert found.interventions["heir"].ask == ["wife"]


def test_name_description_only_and_expect_are_not_inherited(write: Write) -> None:
    write("base.yaml", BASE + "only: amnesia\n")
    found = load(write("child.yaml", "version: 1\nextends: base.yaml\n")).cells[0].experiment
    assert (found.name, found.description, found.only, found.expect) == ("child", None, None, [])


def test_a_model_is_replaced_whole(write: Write) -> None:
    found = load(write("child.yaml", "version: 1\nextends: base.yaml\nmodel: smollm2-135m\n")).cells[0].experiment
    assert (found.model.id, found.model.dtype) == ("smollm2-135m", "auto")


def test_a_short_form_replaces_the_main_field_alone(write: Write) -> None:
    write("mid.yaml", "version: 1\nextends: base.yaml\nlocalize: {cell: {top: 3}}\n")
    found = load(write("child.yaml", "version: 1\nextends: mid.yaml\nlocalize: {cell: z_score}\n"))
    assert (
        found.cells[0].experiment.localize["cell"].metric,
        found.cells[0].experiment.localize["cell"].top,
    ) == (
        "z_score",
        3,
    )


def test_null_removes_a_name_a_field_and_a_block(write: Write) -> None:
    path = write(
        "child.yaml",
        """\
        version: 1
        extends: base.yaml
        interventions: {heir: null, amnesia: {measure: null}}
        """,
    )
    found = load(path).cells[0].experiment
    assert list(found.interventions) == ["amnesia"]
    assert found.interventions["amnesia"].measure == ["knowledge_score", "answer_probability"]
    gone = write("gone.yaml", "version: 1\nextends: base.yaml\ninterventions: null\n")
    assert load(gone).cells[0].experiment.interventions == {}


def test_removing_a_name_that_is_not_there_is_refused(write: Write) -> None:
    path = write("child.yaml", "version: 1\nextends: base.yaml\ninterventions: {amnesi: null}\n")
    assert refused(path) == [
        "child.yaml:3:17: interventions.amnesi: the files extended here have no 'amnesi' to remove; "
        "did you mean 'amnesia'?"
    ]


def test_a_problem_in_a_base_is_shown_in_the_base(write: Write) -> None:
    write("deep/base.yaml", BASE.replace("cell: stability", "cell: stabilty"))
    path = write("child.yaml", "version: 1\nextends: deep/base.yaml\n")
    assert refused(path) == [
        "deep/base.yaml:11:9: localize.cell: 'stabilty' is not a metric; did you mean 'stability'?"
    ]


def test_an_inherited_problem_is_told_once_where_it_is_written(write: Write) -> None:
    path = write("a.yaml", BASE.replace("scale: [0, -1, -3]", "scale: x"))
    assert refused(path) == ["a.yaml:14:19: interventions.amnesia.edit.scale: 'x' is not a number"]


def test_two_bases_that_define_a_name_differently_are_refused(write: Write) -> None:
    write("other.yaml", "interventions: {amnesia: {edit: {scale: 0, neurons: cell}}}\n")
    path = write("child.yaml", "version: 1\nextends: [base.yaml, other.yaml]\n")
    assert refused(path) == [
        "child.yaml:2:10: extends: two of the files extended here define interventions.amnesia differently; "
        "define it in this file, or rename one"
    ]


def test_what_two_bases_say_alike_is_no_conflict(write: Write) -> None:
    write("other.yaml", "localize: {cell: {metric: stability}}\n")
    found = load(write("child.yaml", "version: 1\nextends: [base.yaml, other.yaml]\n")).cells[0].experiment
    assert found.localize["cell"].metric == "stability"


def test_the_files_own_definition_settles_a_conflict_and_stands_alone(write: Write) -> None:
    write("other.yaml", "interventions: {amnesia: {edit: {scale: 0, neurons: cell}}}\n")
    path = write(
        "child.yaml",
        """\
        version: 1
        extends: [base.yaml, other.yaml]
        interventions: {amnesia: {edit: {scale: -5, neurons: cell}}}
        """,
    )
    amnesia = load(path).cells[0].experiment.interventions["amnesia"]
    assert amnesia.edit[0].scale == -5
    assert amnesia.measure == ["knowledge_score", "answer_probability"], "nothing of either base is mixed in"


def test_two_bases_with_two_models_need_the_files_word(write: Write) -> None:
    write("other.yaml", "model: smollm2-135m\n")
    path = write("child.yaml", "version: 1\nextends: [base.yaml, other.yaml]\n")
    assert "define model differently" in refused(path)[0]
    path = write("child.yaml", "version: 1\nextends: [base.yaml, other.yaml]\nmodel: gemma3-270m\n")
    assert load(path).cells[0].experiment.model.id == "gemma3-270m"


def test_files_that_extend_each_other_are_refused(write: Write) -> None:
    write("a.yaml", "version: 1\nextends: b.yaml\n")
    path = write("b.yaml", "version: 1\nextends: a.yaml\n")
    assert refused(path) == ["a.yaml:2:10: extends: these files extend each other: b.yaml -> a.yaml -> b.yaml"]


def test_a_missing_base_is_shown_where_it_is_named(write: Write) -> None:
    path = write("child.yaml", "version: 1\nextends: bse.yaml\n")
    (told,) = refused(path)
    assert told.startswith("child.yaml:2:10: extends: there is no file 'bse.yaml'; did you mean ")


def test_a_fragment_says_that_it_is_one(write: Write) -> None:
    path = write("models.yaml", "localize: {cell: stability}\n")
    assert refused(path) == [
        "models.yaml: this file has no `version: 1`, so it is a fragment: other specs can extend it, "
        "and it is not run by itself"
    ]


def test_a_fragment_is_checked_all_the_same(write: Write) -> None:
    path = write("models.yaml", "localize: {cell: stabilty}\n")
    assert len(refused(path)) == 2


def test_the_files_that_were_read_are_listed(write: Write, tmp_path: Path) -> None:
    write("names.yaml", "- X\n- Y\n")
    path = write("child.yaml", "version: 1\nextends: base.yaml\nplaceholders: {nobody: names.yaml}\n")
    assert load(path).sources == tuple(tmp_path / n for n in ("child.yaml", "base.yaml", "names.yaml"))


# --- interventions that extend each other


def test_interventions_inherit_in_a_chain(write: Write) -> None:
    path = write("a.yaml", BASE.replace("expect:", "  third: {extends: heir, measure: null}\nexpect:"))
    third = load(path).cells[0].experiment.interventions["third"]
    assert third.ask == ["wife"]
    assert third.measure == ["knowledge_score", "answer_probability"], "null takes an inherited field away"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x: {extends: amnesa}", "'amnesa' is not an intervention; did you mean 'amnesia'?"),
        ("x: {extends: x}", "'x' extends itself"),
        ("x: {extends: y}\n  y: {extends: x}", "these interventions extend each other: x -> y -> x"),
        ("x: {extends: [amnesia]}", "`extends` names one other intervention"),
    ],
)
def test_a_wrong_base_is_one_problem(write: Write, text: str, told: str) -> None:
    path = write("a.yaml", BASE.replace("  heir:", f"  {text}\n  heir:"))
    (problem,) = refused(path)
    assert problem.endswith(f".extends: {told}")


# --- settings


def test_a_setting_is_typed_by_its_field(write: Write) -> None:
    write("base.yaml", BASE)
    loaded = load(
        "base.yaml",
        sets=[
            "seed=3",
            "name=NO",
            "model=smollm2-135m",
            "localize.cell.top=5",
            "interventions.amnesia.edit.scale=[0, 1e-1]",
            "relations.wife.answers.trump=1946",
            "entities.obama.variants={typo: Obma}",
        ],
    )
    found = loaded.cells[0].experiment
    assert (found.seed, found.name, found.model.id, found.model.dtype) == (3, "NO", "smollm2-135m", "auto")
    assert (found.localize["cell"].metric, found.localize["cell"].top) == ("stability", 5)
    assert found.interventions["amnesia"].edit[0].scale == [0, 0.1]
    assert found.interventions["heir"].edit[0].scale == [0, 0.1], "a setting reaches the heirs"
    assert found.relations["wife"].answers["trump"] == ["1946"]
    assert found.entities["obama"].variants == {"typo": ["Obma"]}
    assert len(loaded.sets) == 7


def test_a_setting_inside_what_is_inherited_changes_the_heir_alone(write: Write) -> None:
    found = load("base.yaml", sets=["interventions.heir.edit.scale=-5"]).cells[0].experiment
    assert found.interventions["heir"].edit[0].neurons == "cell"
    assert found.interventions["heir"].edit[0].scale == -5
    assert found.interventions["amnesia"].edit[0].scale == [0, -1, -3]


def test_a_setting_may_say_which_of_a_list(write: Write) -> None:
    for sets in (["interventions.amnesia.edit.0.scale=-5"], ["interventions.amnesia.edit.scale=-5"]):
        assert load("base.yaml", sets=sets).cells[0].experiment.interventions["amnesia"].edit[0].scale == -5
    one = ["interventions.amnesia.edit.scale.1=-5"]
    assert load("base.yaml", sets=one).cells[0].experiment.interventions["amnesia"].edit[0].scale == [
        0,
        -5,
        -3,
    ]


def test_a_setting_of_nothing_takes_a_field_away(write: Write) -> None:
    found = load("base.yaml", sets=["interventions.amnesia.measure="]).cells[0].experiment
    assert found.interventions["amnesia"].measure == ["knowledge_score", "answer_probability"]


def test_a_name_that_holds_a_dot_is_quoted(write: Write) -> None:
    write("base.yaml", BASE.replace("obama: Barack Obama", '"Dr. John": John, obama: Barack Obama'))
    found = load("base.yaml", sets=['entities."Dr. John".name=Malcolm=']).cells[0].experiment
    assert found.entities["Dr. John"].name == "Malcolm="


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (
            "localize.cel.site=mlp.out",
            "--set localize.cel.site=mlp.out: 'localize.cel.site': localize has no 'cel'; did you mean 'cell'?",
        ),
        (
            "localise.cell=random",
            "--set localise.cell=random: 'localise.cell': 'localise' is not a key here; did you mean 'localize'?",
        ),
        (
            "localize.cell.tpo=3",
            "--set localize.cell.tpo: localize.cell.tpo: 'tpo' is not a key here; did you mean 'top'?",
        ),
        (
            "localize.cell=stabilty",
            "--set localize.cell: localize.cell: 'stabilty' is not a metric; did you mean 'stability'?",
        ),
        (
            "localize.cell.metric.x=1",
            "--set localize.cell.metric.x=1: 'localize.cell.metric.x': localize.cell.metric holds one value "
            "(stability) and has no parts",
        ),
        (
            "interventions.amnesia.edit.scale.7=1",
            "--set interventions.amnesia.edit.scale.7=1: 'interventions.amnesia.edit.scale.7': "
            "interventions.amnesia.edit.scale is a list; say which of them, 0 to 2",
        ),
        ("seed=x", "--set seed: seed: 'x' is not a whole number"),
        ("seed", "--set seed: write PATH=VALUE, such as localize.cell.top=3"),
        ("seed=[1", "--set seed: the list that opens here lacks a comma or its ']', in [1"),
        ("seed=!x 1", "--set seed: YAML tags (!x) are not allowed: a spec is plain data, in !x 1"),
        (
            "a..b=1",
            "--set a..b: 'a..b' is not a dotted path such as localize.cell.top; "
            "a name that holds a dot is put "
            'in double quotes: entities."Dr. John".name',
        ),
        ("extends=x.yaml", "--set extends=x.yaml: `extends` cannot be set; write it in the file"),
    ],
)
def test_a_wrong_setting_is_told_as_a_setting(write: Write, setting: str, told: str) -> None:
    assert refused(Path("base.yaml"), sets=[setting]) == [told]


def test_only_can_be_said_from_outside(write: Write) -> None:
    assert load("base.yaml", only=["amnesia"]).cells[0].experiment.only == ["amnesia"]


# --- matrix


MATRIX = BASE + "matrix:\n  localize.cell: [stability, {metric: z_score, top: 2}]\n  seed: [1, 2]\n"


def test_a_matrix_makes_one_experiment_for_each_combination(write: Write) -> None:
    cells = load(write("a.yaml", MATRIX)).cells
    assert [c.label for c in cells] == [
        "localize.cell=stability, seed=1",
        "localize.cell=stability, seed=2",
        "localize.cell=z_score, seed=1",
        "localize.cell=z_score, seed=2",
    ]
    assert cells[3].axes == {"localize.cell": "z_score", "seed": "2"}
    assert (cells[3].experiment.localize["cell"].top, cells[3].experiment.seed) == (2, 2)
    assert len({c.hash for c in cells}) == 4


def test_a_value_of_the_matrix_replaces_its_place_whole(write: Write) -> None:
    text = MATRIX.replace("cell: stability\n", "cell: {metric: stability, top: 7}\n")
    assert [c.experiment.localize["cell"].top for c in load(write("a.yaml", text)).cells] == [1, 1, 2, 2]


def test_a_model_may_come_from_the_matrix_alone(write: Write) -> None:
    text = BASE.replace("model: {id: qwen2.5-coder-1.5b, dtype: float32}\n", "")
    cells = load(write("a.yaml", text + "matrix: {model: [a, {id: b, dtype: float32}]}\n")).cells
    assert [(c.experiment.model.id, c.label) for c in cells] == [("a", "model=a"), ("b", "model=b")]


def test_labels_tell_values_apart_that_share_their_main_field(write: Write) -> None:
    text = BASE + "matrix: {localize.cell: [{metric: stability, top: 1}, {metric: stability, top: 2}]}\n"
    assert [c.axes["localize.cell"] for c in load(write("a.yaml", text)).cells] == [
        "{metric: stability, top: 1}",
        "{metric: stability, top: 2}",
    ]


def test_null_removes_an_axis(write: Write) -> None:
    write("base.yaml", MATRIX)
    path = write("child.yaml", "version: 1\nextends: base.yaml\nmatrix: {seed: null}\n")
    assert [c.label for c in load(path).cells] == ["localize.cell=stability", "localize.cell=z_score"]
    path = write("child.yaml", "version: 1\nextends: base.yaml\nmatrix: null\n")
    assert [c.label for c in load(path).cells] == [""]


def test_a_mistake_in_every_cell_is_told_once(write: Write) -> None:
    assert len(refused(write("a.yaml", MATRIX.replace("measure: answer_probability", "measure: pas@5")))) == 1


@pytest.mark.parametrize(
    ("matrix", "told"),
    [
        (
            "{localize.cel: [a]}",
            "2:10: matrix.\"localize.cel\": 'localize.cel': localize has no 'cel'; did you mean 'cell'?",
        ),
        ("{localize.cell: []}", '2:10: matrix."localize.cell": this axis has no values'),
        ("{seed: [1, 1]}", "2:20: matrix.seed: this axis has 1 twice"),
        ("{version: [1, 2]}", "2:10: matrix.version: 'version' cannot be an axis of the matrix"),
        (
            "[a]",
            "2:9: matrix: `matrix` is a block of dotted paths, each with its values: `localize.cell.top: [1, 5]`",
        ),
        ("{seed: [1, x]}", "2:20: seed: 'x' is not a whole number"),
    ],
)
def test_a_wrong_axis_is_told_at_its_place(write: Write, matrix: str, told: str) -> None:
    text = BASE.replace("version: 1\n", f"version: 1\nmatrix: {matrix}\n")
    assert refused(write("a.yaml", text)) == [f"a.yaml:{told}"]


def test_an_axis_that_another_one_makes_impossible_is_told(write: Write) -> None:
    inner = "interventions.amnesia.edit: [[{scale: 1, neurons: cell}]], interventions.amnesia.edit.scale: [0, 1]"
    path = write("a.yaml", f"{BASE}matrix: {{{inner}}}\n")
    (told,) = refused(path)
    assert told.endswith("interventions.amnesia.edit is a list; say which of them, 0 to 0")


def test_an_axis_cannot_remove_a_name(write: Write) -> None:
    (told,) = refused(write("a.yaml", f"{BASE}matrix: {{localize.cell: [stability, null]}}\n"))
    assert told.endswith("an axis cannot remove a name; leave it out with `only:`")


def test_a_wrong_axis_a_wrong_setting_and_a_wrong_word_are_told_at_once(write: Write) -> None:
    text = BASE.replace("cell: stability", "cell: stabilty") + "matrix: {localize.cel: [random]}\n"
    assert len(refused(write("a.yaml", text), sets=["sed=3"])) == 3


def test_a_matrix_of_too_many_experiments_is_refused(write: Write) -> None:
    text = BASE + f"matrix: {{seed: {list(range(40))}, localize.cell.top: {list(range(1, 41))}}}\n"
    assert refused(write("a.yaml", text))[0].endswith("this matrix makes 1,600 experiments; the most is 1,000")


def test_a_setting_that_the_matrix_would_overwrite_is_refused(write: Write) -> None:
    write("a.yaml", MATRIX)
    (told,) = refused(Path("a.yaml"), sets=["localize.cell.top=3"])
    assert told.endswith(
        "the matrix sets 'localize.cell' and would overwrite it; "
        "change the axis: --set 'matrix.\"localize.cell\"=[...]'"
    )
    cells = load("a.yaml", sets=['matrix."localize.cell"=[random]', "matrix.seed="]).cells
    assert [c.label for c in cells] == ["localize.cell=random"]


# --- list files


def test_list_files_are_read_beside_the_file_that_names_them(write: Write) -> None:
    write("deep/names.yaml", "- X\n- Y Z\n")
    write("deep/base.yaml", BASE + "placeholders: {nobody: names.yaml}\n")
    found = load(write("child.yaml", "version: 1\nextends: deep/base.yaml\n")).cells[0].experiment
    assert found.placeholders["nobody"] == ["X", "Y Z"]


def test_shipped_lists_are_found_from_anywhere(write: Write) -> None:
    path = write("a.yaml", BASE + "prompts: {neutral: {texts: prompts/neutral.yaml}}\n")
    texts = load(path).cells[0].experiment.prompts["neutral"].texts
    assert isinstance(texts, list) and len(texts) > 10


def test_a_problem_in_a_list_file_is_shown_in_the_list_file(write: Write) -> None:
    write("names.yaml", "- X\n- Fact: Y\n")
    path = write("a.yaml", BASE + "placeholders: {nobody: names.yaml}\n")
    assert refused(path) == ["names.yaml:2:3: placeholders.nobody.1: this text holds ': ' and must be quoted"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "placeholders: {n: nams.yaml}",
            "there is no file 'nams.yaml' beside this one or among the shipped lists; did you mean 'names.yaml'?",
        ),
        ("placeholders: {n: map.yaml}", "a file of texts is a YAML list: `- one text` on each line"),
    ],
)
def test_a_list_file_that_cannot_be_used_is_refused(write: Write, text: str, told: str) -> None:
    write("names.yaml", "- X\n")
    write("map.yaml", "a: b\n")
    assert refused(write("a.yaml", f"{BASE}{text}\n"))[0].endswith(told)
