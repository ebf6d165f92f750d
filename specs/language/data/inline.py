"""Write what tables bring into the spec's tree, as entities and relations, and take `data:` out of it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from specs.language.data.choice import Tell, choose
from specs.language.data.tables import Row, Table
from specs.language.errors import Origin, Problem, SpecError
from specs.language.experiment import DataFile
from specs.language.facts import COLUMNS, DEFAULT_LANGUAGE
from specs.language.fields import is_condition
from specs.language.files import FileReader
from specs.language.meaning.names import RESERVED
from specs.language.meaning.naming import KINDS
from specs.language.meaning.prompts import stands_in
from specs.language.nodes import MappingNode, Node, ScalarNode, SequenceNode, is_null, plain, with_entry
from specs.language.origins import Origins
from specs.language.records import ImportedTable, LeftOut
from specs.language.references import looks_like_address
from specs.language.scalars import looks_like_number

__all__ = ["Import", "import_data", "is_clean"]

SIGNS = frozenset(" .,'’&()!?:_-")
"""What an id may hold beside letters, digits and their marks: what neither separates the parts of a reference nor
compares.
"""


@dataclass(frozen=True)
class Import:
    """What one data block brought: for the provenance and the report."""

    record: ImportedTable
    left_out: tuple[LeftOut, ...]


def import_data(root: MappingNode, reader: FileReader) -> tuple[MappingNode, list[Problem], list[Import]]:
    """Give the tree with its tables inlined, what is wrong with them, and what they brought.

    A data block that does not fit the grammar stays where it is, for the schema to report.
    """
    blocks = root.entries.get("data")
    if not isinstance(blocks, MappingNode):
        return root, [], []
    made = _Material(root)
    records: list[ImportedTable] = []
    wrong = False
    of_facts: dict[str, tuple[list[Row], Tell]] = {}
    for name, node in blocks.entries.items():
        if is_null(node):
            continue
        try:
            spec = DataFile.model_validate(plain(node))
        except ValidationError:
            wrong = True
            continue
        found = _read(name, spec, node, reader, made, of_facts)
        if found is not None:
            records.append(found)
    if not wrong:
        # Facts are told apart from what is said of them, so that the order of tables does not matter.
        for name, (rows, tell) in of_facts.items():
            number = made.describe_facts(name, rows, tell)
            records = [r.model_copy(update={"described": number}) if r.name == name else r for r in records]
        made.finish()
        root = made.root
    return root, made.problems, [Import(record, tuple(made.left_out.get(record.name, ()))) for record in records]


def _read(
    name: str,
    spec: DataFile,
    node: Node,
    reader: FileReader,
    made: _Material,
    of_facts: dict[str, tuple[list[Row], Tell]],
) -> ImportedTable | None:
    """Read one data block into the material; rows that describe facts of other tables go to ``of_facts``."""
    before = len(made.problems)

    def tell(message: str, *path: str | int, severity: str = "error") -> None:
        made.problems.append(made.origins.problem(message, "data", name, *path, severity=severity))

    named = node if isinstance(node, ScalarNode) else node.entries["from"] if isinstance(node, MappingNode) else node
    assert isinstance(named, ScalarNode)
    path = reader.find(named)
    if path is None:
        tell(reader.absent(named), "from_")
        return None
    try:
        tables = reader.tables(path, named.text, dict(spec.columns))
    except SpecError as error:
        for problem in error.problems:
            if problem.origin is not None:
                made.problems.append(problem)
            else:
                tell(problem.message, "from_")
        return None
    made.problems.extend(problem for table in tables for problem in table.problems)
    for column in dict.fromkeys(a for table in tables for a in table.attributes):
        if column in COLUMNS or column == "name":
            write = f"give it another name with `columns: {{my_{column}: {column}}}`"
            tell(f"the column '{column}' has the name of a column that every prompt has; {write}", "columns")
    if len(made.problems) > before:
        return None
    rows = choose(tables, spec, tell)
    if len(made.problems) > before:
        return None
    if not rows:
        tell("no row is left by the choices made here")
        return None
    describing = [row for row in rows if row.table.of_facts]
    if describing:
        of_facts[name] = describing, tell
    made.add(name, spec, tables, [row for row in rows if not row.table.of_facts], tell)
    relations = dict.fromkeys(made.relation_ids[row.relation] for row in made.last if row.relation is not None)
    return ImportedTable(
        name=name,
        file=path.name if Path(named.text).is_absolute() else named.text,
        kind=", ".join(dict.fromkeys(table.kind for table in tables)),
        sha256=_digest(tables),
        rows=sum(len(table.rows) for table in tables),
        entities=len(dict.fromkeys(row.identity for row in made.last)),
        relations=list(relations),
        facts=len({(row.identity, row.relation) for row in made.last if row.relation is not None}),
    )


def _digest(tables: list[Table]) -> str:
    """Give the sha256 of the file, or of the digests of the files of a folder in their order."""
    digests = [hashlib.sha256(table.path.read_bytes()).hexdigest() for table in tables]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


@dataclass
class _Entity:
    """An entity in the making."""

    node: Node | None
    origin: Origin
    names: dict[str | None, ScalarNode] = field(default_factory=dict)
    attributes: dict[str, ScalarNode] = field(default_factory=dict)


@dataclass
class _Relation:
    """A relation in the making; language None is the relation's own."""

    node: Node | None
    origin: Origin
    table: str
    foreign: bool
    """Whether its file is somebody else's, so that the user cannot be asked to mend an answer."""
    answers: dict[str | None, dict[str, dict[str, ScalarNode]]] = field(default_factory=dict)
    prompts: dict[str | None, list[str]] = field(default_factory=dict)
    phrasings: dict[str | None, dict[str, list[str]]] = field(default_factory=dict)
    attributes: dict[str, dict[str, ScalarNode]] = field(default_factory=dict)


class _Material:
    """Entities and relations: those written in the spec, and what tables add to them."""

    def __init__(self, root: MappingNode) -> None:
        self.root = root
        self.origins = Origins(root)
        self.problems: list[Problem] = []
        self.left_out: dict[str, list[LeftOut]] = {}
        self.last: list[Row] = []
        self.before: set[str] = set()
        self.ids: dict[Hashable, str] = {}
        self.relation_ids: dict[str, str] = {}
        self.entities: dict[str, _Entity] = {}
        self.relations: dict[str, _Relation] = {}
        self.names: dict[str, str] = {}
        self.taken: set[str] = set(RESERVED)
        for block in KINDS:
            node = root.entries.get(block)
            if block not in ("entities", "data") and isinstance(node, MappingNode):
                self.taken |= set(node.entries)
        for key, node in self._written("entities").items():
            self.entities[key] = _Entity(node, node.origin)
            for name in _names_of(node):
                self.names.setdefault(name, key)

    def _written(self, block: str) -> dict[str, Node]:
        node = self.root.entries.get(block)
        return {k: n for k, n in node.entries.items() if not is_null(n)} if isinstance(node, MappingNode) else {}

    # -- adding rows

    def add(self, table: str, spec: DataFile, tables: list[Table], rows: list[Row], tell: Tell) -> None:
        """Add chosen rows, entity by entity, up to the limit; leave out entities whose name is another's too."""
        place = self.origins.key("data", table) or Origin("")
        self.before = set(self.entities)
        for relation in dict.fromkeys(row.relation for row in rows if row.relation is not None):
            self._relation_id(relation)
        by_entity: dict[Hashable, list[Row]] = {}
        for row in rows:
            by_entity.setdefault(row.identity, []).append(row)
        varying = _varying(by_entity.values())
        by_fact: dict[Hashable, list[Row]] = {}
        for row in rows:
            by_fact.setdefault((row.identity, row.relation), []).append(row)
        within = _varying(by_fact.values())
        of_facts = [column for column in varying if column not in within]
        for column, (one, other) in within.items():
            tell(
                f"'{column}' differs between the rows of one fact (lines {one.line} and {other.line} of "
                f"{one.table.called}), so it says nothing about it and is not taken as an attribute",
                severity="warning",
            )
        left_out: list[LeftOut] = []
        self.last = []
        taken = 0
        for identity, members in by_entity.items():
            if spec.limit is not None and taken == spec.limit:
                break
            key = self._id(identity, members[0])
            same = None if key in self.entities else self.names.get(members[0].name)
            if same is not None:
                what = f"{members[0].name} ({members[0].origin})"
                reason = f"its name is also that of '{same}', which comes first: a prompt cannot tell them apart"
                left_out.append(LeftOut(what=what, reason=reason, where=f"data.{table}"))
                continue
            taken += 1
            self.ids[identity] = key
            self._take_entity(key, members, spec, varying, place)
            for row in members:
                self._take_fact(key, row, spec, place, table, of_facts)
            self.last += members
        for source in tables:
            for (relation, language), prompts in source.wordings.items():
                key = self.relation_ids.get(relation, "")
                if key in self.relations:
                    self.relations[key].prompts.setdefault(_plain_language(language or spec.language), prompts)
            for (relation, language), phrasings in source.phrasings.items():
                key = self.relation_ids.get(relation, "")
                if key in self.relations:
                    own = _plain_language(language or spec.language)
                    self.relations[key].phrasings.setdefault(own, {}).update(phrasings)
        if left_out:
            n = len(left_out)
            whose = "1 entity has" if n == 1 else f"{n:,} entities have"
            tell(
                f"{whose} a name that another one has too, and {'is' if n == 1 else 'are'} left out: {left_out[0].what}"
                + (", ..." if n > 1 else ""),
                severity="warning",
            )
            self.left_out.setdefault(table, []).extend(left_out)

    def _id(self, identity: Hashable, row: Row) -> str:
        """Give the id of an entity: the one it has, what the file says, or its name made clean and unique."""
        if identity in self.ids:
            return self.ids[identity]
        if isinstance(identity, str) and row.table.kind == "table" and self._is_id(identity):
            return identity
        text = identity if isinstance(identity, str) and identity != row.hint and is_clean(identity) else ""
        return self._free(row.hint, text or _tag(repr(identity)))

    def _is_id(self, text: str) -> bool:
        """Say whether a table of one's own means an entity by its id: one in the spec, or of an earlier table.

        Not one whose id was made of another name: `0%` may have become `0`.
        """
        entity = self.entities.get(text)
        if entity is None or entity.node is not None:
            return entity is not None
        own = entity.names.get(None)
        return text in self.before and own is not None and own.text == text

    def _relation_id(self, name: str) -> str:
        """Give the id of a relation: its name, made clean and unique unless it is written so in the spec."""
        if name not in self.relation_ids:
            key = name if name in self._written("relations") else self._free(name, _tag(name))
            self.relation_ids[name] = key
            self.taken.add(key)
        return self.relation_ids[name]

    def _free(self, name: str, tag: str) -> str:
        clean = name if is_clean(name) else _cleaned(name)
        return clean if clean not in self.taken and clean not in self.entities else f"{clean}_{tag}"

    def _take_entity(self, key: str, members: list[Row], spec: DataFile, varying: Iterable[str], place: Origin) -> None:
        if key not in self.entities:
            self.entities[key] = _Entity(None, place)
        entity = self.entities[key]
        for row in members:
            language = _language(row, spec)
            if language not in entity.names:
                entity.names[language] = ScalarNode(row.name, True, row.origin)
                self.names.setdefault(row.name, key)
            for column in row.table.attributes:
                value = row.value(column)
                if value is not None and column not in varying:
                    entity.attributes.setdefault(column, _value_node(value, row))

    def _take_fact(
        self, key: str, row: Row, spec: DataFile, place: Origin, table: str, of_facts: Iterable[str]
    ) -> None:
        if row.relation is None:
            return
        relation = self._relation_id(row.relation)
        if relation not in self.relations:
            written = self._written("relations").get(relation)
            self.relations[relation] = _Relation(written, place, table, row.table.kind != "table")
        answers = self.relations[relation].answers.setdefault(_language(row, spec), {}).setdefault(key, {})
        try:
            found = row.answers()
        except ValueError as error:
            row.table.tell(str(error), row.line)
            self.problems.append(row.table.problems[-1])
            return
        for answer in found:
            answers.setdefault(answer, ScalarNode(answer, True, row.origin))
        for column in of_facts:
            value = row.value(column)
            if value is not None:
                self.relations[relation].attributes.setdefault(column, {}).setdefault(key, _value_node(value, row))

    def describe_facts(self, table: str, rows: list[Row], tell: Tell) -> int:
        """Add to facts what rows say of them; give of how many. Rows about facts that are not asked are left out.

        Rows are joined by relation and by the entity's id or, if no id is meant, by its name.
        """
        named: dict[str, str] = {}
        for key, entity in self.entities.items():
            for name in (*_names_of(entity.node or entity.names.get(None)), *(n.text for n in entity.names.values())):
                named.setdefault(name, key)
        described: set[tuple[str, str]] = set()
        absent: list[Row] = []
        unequal: dict[str, tuple[Row, Row]] = {}
        given: dict[tuple[str, str, str], Row] = {}
        for row in rows:
            who = str(row.identity)
            key = who if who in self.entities else named.get(who, named.get(row.name, ""))
            relation = self._relation_id(row.relation) if row.relation in self.relation_ids else str(row.relation)
            if not key or not self._is_asked(relation, key):
                absent.append(row)
                continue
            described.add((relation, key))
            if relation not in self.relations:
                node = self._written("relations")[relation]
                self.relations[relation] = _Relation(node, node.origin, table, False)
            for column in row.table.attributes:
                value = row.value(column)
                if value is None:
                    continue
                first = given.setdefault((column, relation, key), row)
                if first.value(column) != value:
                    unequal.setdefault(column, (first, row))
                self.relations[relation].attributes.setdefault(column, {}).setdefault(key, _value_node(value, row))
        for column, (one, other) in unequal.items():
            tell(
                f"'{column}' is given twice for one fact, and differently (lines {one.line} and {other.line} of "
                f"{one.table.called}); keep one"
            )
        if absent:
            first = absent[0]
            what = f"{len(absent):,} of {len(rows):,} rows, first {first.relation}/{first.identity} ({first.origin})"
            reason = "they are about facts that nobody is asked here"
            self.left_out.setdefault(table, []).append(LeftOut(what=what, reason=reason, where=f"data.{table}"))
        if not described:
            tell(f"no row is about a fact of this spec; the first is about {absent[0].relation}/{absent[0].identity}")
        return len(described)

    def _is_asked(self, relation: str, entity: str) -> bool:
        """Say whether an entity has an answer in a relation, from a table or as it is written."""
        if relation in self.relations and entity in self.relations[relation].answers.get(None, {}):
            return True
        node = self._written("relations").get(relation)
        answers = node.entries.get("answers") if isinstance(node, MappingNode) else None
        return isinstance(answers, MappingNode) and entity in answers.entries

    # -- the tree

    def finish(self) -> None:
        """Put everything into the tree and take the tables out."""
        entities = {key: _entity_node(entity) for key, entity in self.entities.items()}
        self._put("entities", entities, {key: entity.origin for key, entity in self.entities.items()})
        relations: dict[str, Node] = {}
        for key, relation in self.relations.items():
            if relation.node is not None and not isinstance(relation.node, MappingNode):
                continue  # no relation; the schema says so
            if relation.foreign:
                self._drop_told(key, relation)
            node = _relation_node(relation)
            if "prompt" not in node.entries:
                message = (
                    f"'{key}' of '{relation.table}' has no question: the table has none; "
                    f'write it in the spec: `relations: {{{key}: {{prompt: "... {{{{ entity }}}} ..."}}}}`'
                )
                if relation.answers and None not in relation.answers and relation.node is None:
                    message = (
                        f"'{relation.table}' translates '{key}', a relation that this spec has not; name those that "
                        f"are meant (`data: {{{relation.table}: {{from: ..., relations: [...]}}}}`), or bring it"
                    )
                self.problems.append(self.origins.problem(message, "data", relation.table))
            else:
                relations[key] = node
        self._put("relations", relations, {key: relation.origin for key, relation in self.relations.items()})
        self.root = with_entry(self.root, "data", None)

    def _drop_told(self, key: str, relation: _Relation) -> None:
        """Leave out answers that the question itself tells, unless it is a choice between all of them."""
        answers = relation.answers.get(None, {})
        bodies = _relation_node(relation).entries.get("prompt")
        nodes = bodies.items if isinstance(bodies, SequenceNode) else (bodies,)
        texts = [re.sub(r"\{\{.*?\}\}", "\0", node.text) for node in nodes if isinstance(node, ScalarNode)]
        own = relation.phrasings.get(None, {}).values()
        texts += [re.sub(r"\{\{.*?\}\}", "\0", text) for wordings in own for text in wordings]
        every = dict.fromkeys(answer for accepted in answers.values() for answer in accepted)
        told = [answer for answer in every if any(stands_in(answer, text) for text in texts)]
        if len(told) > 1 and len(told) == len(every):
            return
        for entity, accepted in answers.items():
            for answer in [answer for answer in told if answer in accepted]:
                what = f"'{answer}' among the answers of {key}/{entity} ({accepted.pop(answer).origin})"
                reason = "the question itself tells it"
                self.left_out.setdefault(relation.table, []).append(
                    LeftOut(what=what, reason=reason, where=f"data.{relation.table}")
                )

    def _put(self, block: str, nodes: dict[str, Node], origins: dict[str, Origin]) -> None:
        held = self.root.entries.get(block)
        if not nodes or not (held is None or is_null(held) or isinstance(held, MappingNode)):
            return
        old = held if isinstance(held, MappingNode) else MappingNode({}, {}, next(iter(origins.values())))
        keys = {key: old.keys.get(key) or _key(key, origins[key]) for key in nodes}
        made = MappingNode({**old.entries, **nodes}, {**old.keys, **keys}, old.origin)
        self.root = with_entry(self.root, block, made)


def _key(name: str, origin: Origin) -> ScalarNode:
    return ScalarNode(name, True, origin)


def _value_node(value: Any, row: Row) -> ScalarNode:
    """Write the value of an attribute: a number without quotes."""
    text = str(value)
    return ScalarNode(text, not (isinstance(value, (int, float)) or looks_like_number(text)), row.origin)


def _language(row: Row, spec: DataFile) -> str | None:
    return _plain_language(row.language or spec.language)


def _plain_language(language: str | None) -> str | None:
    """Give None for the language that a relation's own question is in."""
    return None if language == DEFAULT_LANGUAGE else language


def _names_of(node: Node | None) -> list[str]:
    """List the forms of a written entity's name."""
    if isinstance(node, ScalarNode):
        return [node.text]
    found: list[str] = []
    if isinstance(node, MappingNode):
        name, variants = node.entries.get("name"), node.entries.get("variants")
        found += [name.text] if isinstance(name, ScalarNode) else []
        for forms in variants.entries.values() if isinstance(variants, MappingNode) else ():
            listed = forms.items if isinstance(forms, SequenceNode) else (forms,)
            found += [form.text for form in listed if isinstance(form, ScalarNode)]
    return found


def _varying(entities: Iterable[list[Row]]) -> dict[str, tuple[Row, Row]]:
    """Find the columns that differ between rows that belong together, each with two such rows."""
    found: dict[str, tuple[Row, Row]] = {}
    for members in entities:
        for column in members[0].table.attributes if len(members) > 1 else ():
            if column in found:
                continue
            with_value = [(row, value) for row in members if (value := row.value(column)) is not None]
            for row, value in with_value[1:]:
                if value != with_value[0][1]:
                    found[column] = (with_value[0][0], row)
                    break
    return found


def is_clean(name: str) -> bool:
    """Say whether a name can be an id as it is."""
    return (
        all(c in SIGNS or _is_letter(c) for c in name)
        and name == name.strip()
        and not is_condition(name)
        and not looks_like_address(name)
        and any(c.isalnum() for c in name)
    )


def _is_letter(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def _cleaned(name: str) -> str:
    """Make an id of a name: letters and digits stay, everything between them becomes one underscore."""
    clean = "_".join("".join(c if _is_letter(c) else " " for c in name).split())
    return clean if is_clean(clean) else "entity_" + _tag(name)


def _tag(text: str) -> str:
    """Give four hex digits that tell names with the same clean form apart."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:4]


def _entity_node(entity: _Entity) -> Node:
    """Write an entity: what the spec says of it stands, what tables say is added."""
    written = entity.node
    if written is not None and not isinstance(written, (ScalarNode, MappingNode)):
        return written
    own = next((n for language, n in entity.names.items() if language is None), None)
    variants = {language: node for language, node in entity.names.items() if language is not None}
    if written is None and not variants and not entity.attributes and own is not None:
        return own
    if isinstance(written, ScalarNode):
        if not variants and not entity.attributes:
            return written
        node = MappingNode({"name": written}, {"name": _key("name", written.origin)}, written.origin)
    else:
        node = written or MappingNode({}, {}, entity.origin)
    if "name" not in node.entries and (own is not None or variants):
        node = _with(node, "name", own or next(iter(variants.values())))
    for field_name, more in (("variants", variants), ("attributes", entity.attributes)):
        node = _joined(node, field_name, dict(more))
    return node


def _relation_node(relation: _Relation) -> MappingNode:
    """Write a relation: what the spec says of it stands, what tables say is added."""
    node = relation.node if isinstance(relation.node, MappingNode) else MappingNode({}, {}, relation.origin)
    own = relation.prompts.get(None)
    if own and ("prompt" not in node.entries or is_null(node.entries["prompt"])):
        node = _with(node, "prompt", _texts(own, relation.origin))
    node = _joined(node, "answers", _answer_nodes(relation.answers.get(None, {})))
    node = _joined(node, "phrasings", _phrasing_nodes(relation, None))
    attributes = node.entries.get("attributes")
    for column, values in relation.attributes.items():
        whole = attributes if isinstance(attributes, MappingNode) else MappingNode({}, {}, relation.origin)
        attributes = _joined(whole, column, dict(values))
    if relation.attributes and isinstance(attributes, MappingNode):
        node = _with(node, "attributes", attributes)
    for language, answers in relation.answers.items():
        if language is None:
            continue
        held = node.entries.get("translations")
        written = held.entries.get(language) if isinstance(held, MappingNode) else None
        one = written if isinstance(written, MappingNode) else MappingNode({}, {}, relation.origin)
        if language in relation.prompts and "prompt" not in one.entries:
            one = _with(one, "prompt", _texts(relation.prompts[language], relation.origin))
        one = _joined(one, "answers", _answer_nodes(answers))
        one = _joined(one, "phrasings", _phrasing_nodes(relation, language))
        whole = held if isinstance(held, MappingNode) else MappingNode({}, {}, relation.origin)
        node = _with(node, "translations", _with(whole, language, one))
    return node


def _phrasing_nodes(relation: _Relation, language: str | None) -> dict[str, Node]:
    return {label: _texts(texts, relation.origin) for label, texts in relation.phrasings.get(language, {}).items()}


def _answer_nodes(answers: dict[str, dict[str, ScalarNode]]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for key, accepted in answers.items():
        nodes = tuple(accepted.values())
        if nodes:
            found[key] = nodes[0] if len(nodes) == 1 else SequenceNode(nodes, nodes[0].origin)
    return found


def _texts(texts: list[str], origin: Origin) -> Node:
    nodes = tuple(ScalarNode(text, True, origin) for text in texts)
    return nodes[0] if len(nodes) == 1 else SequenceNode(nodes, origin)


def _with(node: MappingNode, key: str, value: Node) -> MappingNode:
    return with_entry(node, key, value, node.keys.get(key) or _key(key, value.origin))


def _joined(node: MappingNode, key: str, more: dict[str, Any]) -> MappingNode:
    """Add entries to a block of a block; those that are written stay."""
    held = node.entries.get(key)
    if not more or not (held is None or is_null(held) or isinstance(held, MappingNode)):
        return node
    old = held if isinstance(held, MappingNode) else MappingNode({}, {}, node.origin)
    keys = {name: _key(name, value.origin) for name, value in more.items()}
    return _with(node, key, MappingNode({**more, **old.entries}, {**keys, **old.keys}, old.origin))
