"""Read tables of facts: PopQA, LRE, known_1000, and CSV, TSV, JSON or JSONL with columns of one's own.

Nothing is chosen here. A row that cannot be read is a problem at its line.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from specs.language.errors import Origin, Problem, SpecError
from specs.language.scalars import suggest
from specs.language.text import decode, read_bytes

__all__ = ["OURS", "Row", "Table", "read_folder", "read_table"]

OURS = ("entity", "name", "relation", "answer", "prompt", "language")
"""Columns that have a meaning; all others are attributes."""
PHRASING = "prompt_"
"""A column `prompt_zs` holds the relation's question in the phrasing `zs`."""
POPQA = {"name": "subj", "relation": "prop", "answer": "possible_answers", "prompt": "question", "popularity": "s_pop"}
POPQA_IDS = ("subj_id", "s_uri")
KNOWN_1000 = {"name": "subject", "relation": "relation_id", "answer": "attribute", "prompt": "prompt"}
SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")
SLOT = "{{ entity }}"
MOST_TOLD = 10
"""Bad rows of one file that are shown; the others are counted."""


@dataclass(slots=True)
class Row:
    """One row: who it is about, what is asked, and every other column as it stands in the file."""

    table: Table
    line: int
    identity: Hashable
    """What tells its entity from all others; never the name alone where the file knows better."""
    hint: str
    """What the entity's id is made from: its id in tables of one's own, else its name."""
    name: str
    relation: str | None
    answer: Any
    language: str | None
    values: Mapping[str, Any]
    """Attributes and foreign columns, under our words."""

    def answers(self) -> list[str]:
        """List the accepted answers; raises ValueError for a value that is neither a text nor a list of texts."""
        return self.table.answers_of(self)

    def value(self, column: str) -> Any:
        """Give the value of a column, for conditions; None where the row has none."""
        if column == "entity":
            return [str(self.identity), self.name, self.hint] if isinstance(self.identity, str) else self.name
        if column == "answer":
            return self.answers() if self.answer is not None else None
        if column in ("name", "relation", "language"):
            return getattr(self, column)
        found = self.values.get(column)
        if isinstance(found, bool):
            return str(found).lower()
        return found if isinstance(found, (int, float)) else None if found in (None, "") else str(found)

    @property
    def origin(self) -> Origin:
        """Give the place of the row in its file."""
        return self.table.origin(self.line)


@dataclass
class Table:
    """The rows of one file."""

    path: Path
    called: str
    """How messages call the file."""
    kind: str
    """PopQA, LRE, known_1000, or table."""
    columns: tuple[str, ...] = ()
    """Every column, under our words."""
    attributes: tuple[str, ...] = ()
    """Those that say something about the entity."""
    rows: list[Row] = field(default_factory=list)
    wordings: dict[tuple[str, str | None], list[str]] = field(default_factory=dict)
    """(relation, language): its questions, as templates."""
    phrasings: dict[tuple[str, str | None], dict[str, list[str]]] = field(default_factory=dict)
    """(relation, language): label, and its questions."""
    of_facts: bool = False
    """Whether its rows say something about facts that other tables bring, and ask nothing themselves."""
    text: str = ""
    problems: list[Problem] = field(default_factory=list)

    @cached_property
    def lines(self) -> list[str]:
        """Split the file into lines, for messages."""
        return self.text.split("\n")

    def origin(self, line: int) -> Origin:
        """Give the place of a line."""
        if not 0 < line <= len(self.lines):
            return Origin(self.called)
        shown = self.lines[line - 1].rstrip("\r")
        return Origin(self.called, line, 1, 1, shown if len(shown) <= 120 else shown[:117] + "...")

    def tell(self, message: str, line: int = 0) -> None:
        """Note a problem of the file, at a line if it has one."""
        self.problems.append(Problem(message, origin=self.origin(line), level="meaning"))

    def answers_of(self, row: Row) -> list[str]:
        """List the accepted answers of a row, each once."""
        raw = row.answer
        if isinstance(raw, str) and raw.startswith("["):
            try:
                raw = json.loads(raw)
            except ValueError:
                raise ValueError(f"the answer begins like a list, and is none: {raw[:60]}") from None
        first = row.values.get("obj") if self.kind == "PopQA" else None
        listed = [first, *raw] if isinstance(raw, list) else [raw] if first is None else [first, raw]
        found: dict[str, None] = {}
        for item in listed:
            if isinstance(item, (dict, list)):
                raise ValueError(f"an answer is a text, and this is {json.dumps(item)[:60]}")
            text = _text(item)
            if text:
                found[text] = None
        return list(found)


def _text(value: Any) -> str:
    """Give a cell as text: without the spaces around it, a number as JSON writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(str(value).split())


def read_folder(folder: Path, called: str, columns: Mapping[str, str]) -> list[Table]:
    """Read every table below a folder, in the order of their names; raises SpecError if it has none."""
    files = sorted(p for p in folder.rglob("*") if p.suffix in SUFFIXES and p.is_file())
    if not files:
        raise SpecError([Problem(f"the folder '{called}' holds no table ({', '.join(SUFFIXES)})", level="meaning")])
    return [read_table(path, f"{called.rstrip('/')}/{path.relative_to(folder)}", columns) for path in files]


def read_table(path: Path, called: str, columns: Mapping[str, str]) -> Table:
    """Read one file; ``columns``: our word, their column.

    Raises SpecError, with the places, for a file that is no table; bad rows are in ``problems`` of the table.
    """
    table = Table(path, called, "table")
    table.text = decode(read_bytes(path, called), called)
    if path.suffix in (".csv", ".tsv"):
        records = _separated(table, "\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".jsonl":
        records = _json_lines(table)
    elif path.suffix == ".json":
        document = _json(table)
        if isinstance(document, dict) and "samples" in document:
            return _lre(table, document, columns)
        records = _json_list(table, document)
    else:
        message = f"'{called}' is no table: it ends in none of {', '.join(SUFFIXES)}"
        raise SpecError([Problem(message, level="meaning")])
    _fill(table, records, columns)
    if len(table.problems) > MOST_TOLD:
        more = len(table.problems) - MOST_TOLD
        table.problems[MOST_TOLD:] = [
            Problem(f"{more:,} more rows of '{called}' cannot be read", origin=Origin(called), level="meaning")
        ]
    return table


# -- records: (line, {column: value})

Record = tuple[int, dict[str, Any]]


def _separated(table: Table, delimiter: str) -> list[Record]:
    csv.field_size_limit(1 << 24)
    reader = csv.reader(io.StringIO(table.text, newline=""), delimiter=delimiter, strict=True)
    found: list[Record] = []
    head: list[str] = []
    before = 0
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not any(cells):
                continue
            if not head:
                head = [cell.strip() for cell in cells]
                twice = next((name for name in head if head.count(name) > 1), None)
                if twice is not None:
                    table.tell(f"two columns are called '{twice}'", line)
                    break
            elif len(cells) != len(head):
                table.tell(f"this row has {len(cells)} values, and there are {len(head)} columns", line)
            else:
                found.append((line, dict(zip(head, cells, strict=True))))
    except csv.Error as error:
        table.tell(f"this row cannot be read: {error}", reader.line_num)
    if not found and not table.problems:
        table.tell("this table has no rows")
    return found


def _json_lines(table: Table) -> list[Record]:
    found: list[Record] = []
    for number, line in enumerate(table.lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            table.tell(f"this line is not JSON: {error}", number)
            continue
        if isinstance(record, dict):
            found.append((number, record))
        else:
            table.tell("a row is one {...} on a line", number)
    if not found and not table.problems:
        table.tell("this table has no rows")
    return found


def _json(table: Table) -> Any:
    try:
        return json.loads(table.text)
    except json.JSONDecodeError as error:
        table.tell(f"this is not JSON: {error.msg}", error.lineno)
        return []


def _json_list(table: Table, document: Any) -> list[Record]:
    if not isinstance(document, list):
        table.tell("a table in JSON is a list of rows, or a relation of LRE with its `samples`")
        return []
    lines = _lines_of(table.text, next((k for item in document[:1] if isinstance(item, dict) for k in item), ""))
    found: list[Record] = []
    for n, item in enumerate(document):
        line = lines[n] if len(lines) == len(document) else 0
        if isinstance(item, dict):
            found.append((line, item))
        else:
            table.tell(f"row {n + 1} is not a {{...}}", line)
    if not found and not table.problems:
        table.tell("this table has no rows")
    return found


def _lines_of(text: str, key: str) -> list[int]:
    """List the lines on which a key stands: where each record begins, if every record has the key once."""
    found: list[int] = []
    line, at = 1, 0
    for match in re.finditer(rf'"{re.escape(key)}"\s*:', text) if key else ():
        line += text.count("\n", at, match.start())
        at = match.start()
        found.append(line)
    return found


# -- formats


def _lre(table: Table, document: dict[str, Any], columns: Mapping[str, str]) -> Table:
    """Read a relation of LRE: the name of the file is the relation's, its domain tells like names apart."""
    table.kind = "LRE"
    relation = table.path.stem
    properties = document.get("properties") or {}
    domain = _text(properties.get("domain_name"))
    values = {key: _text(value) for key, value in properties.items() if isinstance(value, (str, int, float))}
    values["domain"] = values.pop("domain_name", "")
    values = _renamed(table, values, columns)
    table.columns = tuple(dict.fromkeys((*OURS[:4], *values)))
    table.attributes = tuple(our for our, their in {"domain": "domain", **columns}.items() if their == "domain")
    slots = [str(t).replace("{}", SLOT) for t in document.get("prompt_templates") or ()]
    if slots:
        table.wordings[(relation, None)] = slots
    others = [str(t).replace("{}", SLOT) for t in document.get("prompt_templates_zs") or ()]
    if others:
        table.phrasings[(relation, None)] = {"zs": others}
    samples = document["samples"]
    lines = _lines_of(table.text, "subject")
    for n, sample in enumerate(samples if isinstance(samples, list) else ()):
        line = lines[n] if len(lines) == len(samples) else 0
        name = _text(sample.get("subject")) if isinstance(sample, dict) else ""
        if not name or not sample.get("object"):
            table.tell(f"sample {n + 1} lacks its subject or its object", line)
            continue
        table.rows.append(Row(table, line, (domain, name), name, name, relation, sample["object"], None, values))
    return table


def _renamed(table: Table, values: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    for our, their in columns.items():
        if their not in values:
            table.tell(f"there is no column '{their}'{suggest(their, values) or _listing(values)}")
        else:
            values[our] = values[their]
    return values


def _fill(table: Table, records: list[Record], columns: Mapping[str, str]) -> None:
    """Make rows of records, by the format that their columns show."""
    if not records:
        return
    known = dict.fromkeys(key for _, record in records for key in record)
    theirs, identity = _columns(table, known, columns)
    if table.problems and not theirs:
        return
    ours = {their: our for our, their in theirs.items()}
    special = {their for our, their in theirs.items() if our in OURS}
    renamed = {their: our for their, our in ours.items() if our not in OURS}
    table.columns = tuple(dict.fromkeys((*theirs, *known)))
    labels = [key for key in known if table.kind == "table" and _is_phrasing(key) and key not in renamed]
    if table.kind == "table":
        plain = [key for key in known if key not in special and key not in renamed and key not in labels]
        table.attributes = (*renamed.values(), *plain)
    else:
        table.attributes = tuple(renamed.values())
    prompts: dict[tuple[str, str | None], Counter[str]] = {}
    others: dict[tuple[str, str | None], dict[str, Counter[str]]] = {}

    def cell(record: dict[str, Any], our: str) -> str:
        return _text(record.get(theirs[our])) if our in theirs else ""

    for line, record in records:
        values = {renamed.get(key, key): value for key, value in record.items() if key not in special}
        nested = next((key for key in renamed.values() if isinstance(values.get(key), (dict, list))), None)
        name, relation = cell(record, "name"), cell(record, "relation") or None
        who = identity(record) or ((name, _text(values.get("popularity"))) if table.kind == "PopQA" else name)
        if table.kind == "table":
            name = name or cell(record, "entity")
        missing = [
            what
            for what, given in (
                ("a name" if table.kind != "table" else "an entity", name and who),
                ("a relation", relation or "relation" not in theirs),
                ("an answer", "answer" not in theirs or record.get(theirs["answer"]) not in (None, "", [])),
            )
            if not given
        ]
        if missing or nested:
            table.tell(f"this row lacks {' and '.join(missing)}" if missing else f"'{nested}' is not one value", line)
            continue
        hint = str(who) if table.kind == "table" else name
        language = cell(record, "language") or None
        answer = record.get(theirs["answer"]) if "answer" in theirs else None
        table.rows.append(Row(table, line, who, hint, name, relation, answer, language, values))
        template = _template(cell(record, "prompt"), name)
        if relation is not None and template is not None:
            prompts.setdefault((relation, language), Counter())[template] += 1
        for key in labels:
            template = _template(_text(record.get(key)), name)
            if relation is not None and template is not None:
                by_label = others.setdefault((relation, language), {})
                by_label.setdefault(key.removeprefix(PHRASING), Counter())[template] += 1
    for place, counts in prompts.items():
        table.wordings[place] = _commonest(table, counts)
    for place, by_label in others.items():
        table.phrasings[place] = {label: _commonest(table, counts) for label, counts in by_label.items()}


def _commonest(table: Table, counts: Counter[str]) -> list[str]:
    """Give the questions of a relation; where each row has its own, the one that is asked most often."""
    own = table.kind == "table" and all(SLOT in t for t in counts)
    return list(counts) if own and len(counts) <= 8 else [counts.most_common(1)[0][0]]


def _template(prompt: str, name: str) -> str | None:
    """Put the slot in place of the name; None for a question that does not hold it."""
    if re.search(r"\{\{\s*entity\s*\}\}", prompt):
        return prompt
    return prompt.replace(name, SLOT) if name and name in prompt else None


def _columns(
    table: Table, known: dict[str, None], columns: Mapping[str, str]
) -> tuple[dict[str, str], Callable[[dict[str, Any]], Hashable]]:
    """Give {our word: their column}, and how a record says who it is about."""
    for our, their in columns.items():
        if their not in known:
            table.tell(f"there is no column '{their}' for '{our}'{suggest(their, known) or _listing(known)}", 1)
    if table.problems:
        return {}, lambda record: None
    if {"subj", "prop"} <= set(known) and {"obj", "possible_answers"} & set(known):
        table.kind = "PopQA"
        theirs = {our: their for our, their in POPQA.items() if their in known}
        theirs.setdefault("answer", "obj")
        theirs |= columns
        key = columns.get("entity") or next((name for name in POPQA_IDS if name in known), None)
        return theirs, lambda record: _text(record.get(key)) if key is not None else None
    if {"subject", "attribute", "relation_id"} <= set(known):
        table.kind = "known_1000"
        theirs = {our: their for our, their in KNOWN_1000.items() if their in known} | dict(columns)
        return theirs, lambda record: None
    theirs = {our: our for our in OURS if our in known and our not in columns and our not in columns.values()}
    theirs |= columns
    if "entity" not in theirs:
        write = "say which it is: `columns: {entity: THEIRS}`"
        table.tell(f"there is no column 'entity'; {write}{_listing(known, '. There are')}", 1)
        return {}, lambda record: None
    if "answer" in theirs and "relation" not in theirs:
        table.tell(f"there are answers and no column 'relation'{_listing(known, '. There are')}", 1)
        return {}, lambda record: None
    column = theirs["entity"]
    table.of_facts = "relation" in theirs and "answer" not in theirs
    if table.of_facts and not [name for name in known if name not in theirs.values() and not _is_phrasing(name)]:
        message = "there are relations, no column 'answer', and no column that says something about a fact"
        table.tell(message + _listing(known, ". There are"), 1)
        return {}, lambda record: None
    return theirs, lambda record: _text(record.get(column))


def _is_phrasing(column: str) -> bool:
    return column.startswith(PHRASING) and column != PHRASING


def _listing(names: Mapping[str, Any], before: str = "; there are") -> str:
    return f"{before} {', '.join(names)}"
