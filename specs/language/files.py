"""Find the files a spec names, beside the file that names them or among the shipped lists, and inline
lists.

Everything happens on nodes: the lines of a list file keep their places, and the resolved spec holds the
list itself.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from specs.language.data.pairs import read_pairs
from specs.language.data.tables import Table, read_folder, read_table
from specs.language.errors import Origin, Problem, SpecError
from specs.language.nodes import MappingNode, Node, ScalarNode, SequenceNode, with_entry
from specs.language.origins import join_path
from specs.language.scalars import suggest
from specs.language.text import read_yaml

__all__ = ["SHIPPED", "FileReader", "is_file_name"]

SHIPPED = Path(__file__).resolve().parent.parent
"""The folder of what is shipped: `prompts/neutral.yaml` is looked for here too."""

FILE_SUFFIXES = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet")
INLINED = (("prompts", "templates"), ("prompts", "texts"), ("prompts", "pairs"), ("placeholders", "from"))
NAMED_BY_PATH = (("neurons", "from"), ("vectors", "from"))


def is_file_name(text: str) -> bool:
    """Say whether a text names a file rather than something in the spec."""
    return "/" in text or "\\" in text or text.endswith(FILE_SUFFIXES)


class FileReader:
    """Replace the names of list files in a tree by the lists, and the names of other files by full paths."""

    def __init__(self) -> None:
        self.sources: list[Path] = []
        self._read = cache(self._read_list)
        self._read_pairs = cache(self._pairs)
        self._tables: dict[tuple[Path, tuple[tuple[str, str], ...]], list[Table]] = {}

    def resolve(self, root: MappingNode) -> tuple[MappingNode, list[Problem]]:
        """Give the tree with its lists inlined, and the problems of files that cannot be used."""
        problems: list[Problem] = []
        for block, field in (*INLINED, *NAMED_BY_PATH):
            definitions = root.entries.get(block)
            if not isinstance(definitions, MappingNode):
                continue
            for name, definition in definitions.entries.items():
                replaced = self._definition(block, field, name, definition, problems)
                if replaced is not definition:
                    definitions = with_entry(definitions, name, replaced)
            root = with_entry(root, block, definitions)
        return root, problems

    def _definition(self, block: str, field: str, name: str, definition: Node, problems: list[Problem]) -> Node:
        short = isinstance(definition, ScalarNode) and block == "placeholders"
        value = definition if short else definition.entries.get(field) if isinstance(definition, MappingNode) else None
        if not isinstance(value, ScalarNode) or value.is_null:
            return definition
        if block in ("prompts", "neurons") and not is_file_name(value.text):
            return definition
        path = join_path([block, name] if short else [block, name, field])
        if (block, field) in NAMED_BY_PATH:
            found = self.find(value)
            node: Node = ScalarNode(str(found or beside(value)), True, value.origin)
        else:
            found = self.find(value)
            if found is None:
                problems.append(Problem(self.absent(value), path, value.origin))
                return definition
            try:
                read = self._read_pairs if field == "pairs" else self._read
                node = read(found, value.text, value.origin)
            except SpecError as error:
                problems.extend(error.problems)
                return definition
        if short or block == "placeholders":
            return node
        assert isinstance(definition, MappingNode)
        return with_entry(definition, field, node)

    def tables(self, path: Path, named: str, columns: dict[str, str]) -> list[Table]:
        """Read the table at a path, or all tables of a folder; raises SpecError for what is none."""
        key = (path, tuple(columns.items()))
        if key not in self._tables:
            called = named if Path(named).is_absolute() else _called(path)
            found = read_folder(path, called, columns) if path.is_dir() else [read_table(path, called, columns)]
            self.sources.extend(table.path for table in found if table.path not in self.sources)
            self._tables[key] = found
        return self._tables[key]

    def find(self, value: ScalarNode) -> Path | None:
        """Look for a file beside the one that names it, then among what is shipped."""
        places = [beside(value)]
        if not Path(value.text).is_absolute():
            places.append(SHIPPED / value.text)
        return next((place.resolve() for place in places if place.exists()), None)

    def absent(self, value: ScalarNode) -> str:
        """Say that a file is not there, with what may have been meant."""
        place = beside(value).parent
        there = [
            p.name for folder in (place, (SHIPPED / value.text).parent) if folder.is_dir() for p in folder.iterdir()
        ]
        near = suggest(Path(value.text).name, there)
        return f"there is no file '{value.text}' beside this one or among the shipped lists{near}"

    def _read_list(self, path: Path, named: str, origin: Origin) -> SequenceNode:
        called = named if Path(named).is_absolute() else _called(path)
        node = read_yaml(path, called)
        if not isinstance(node, SequenceNode) or not node.items:
            raise SpecError([Problem("a file of texts is a YAML list: `- one text` on each line", origin=node.origin)])
        self.sources.append(path)
        return node

    def _pairs(self, path: Path, named: str, origin: Origin) -> SequenceNode:
        node = read_pairs(path, named if Path(named).is_absolute() else _called(path))
        self.sources.append(path)
        return node


def beside(value: ScalarNode) -> Path:
    """Give the path of a file relative to the one that names it."""
    folder = Path(".") if value.origin.file.startswith("--") else Path(value.origin.file).parent
    return folder / Path(value.text).expanduser()


def _called(path: Path) -> str:
    """Name a file in messages: relative to here if that is shorter, and without steps back (``a/../b``)."""
    path = Path(os.path.normpath(path))
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
