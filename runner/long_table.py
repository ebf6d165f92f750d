"""The long table: one row per prompt, edited owner, condition, draw, role and sweep value.

Rows are streamed to an Arrow file while the run goes on, because a Parquet file without its last bytes cannot
be read. When the table is closed the stream becomes ``results.parquet``; after a crash the stream is still
there and is read as far as it goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from runner.atomic import refusals, whole
from runner.observe import Row
from specs.language.errors import RunError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PARQUET", "STREAM", "LongTable", "read_table", "table_schema"]

PARQUET = "results.parquet"
STREAM = "results.arrows"
FORMAT = b"1"
REMEDY = "make room and run again; what was computed is kept in the cache"
Axes = Mapping[str, Sequence[float | str]]


def table_schema(axes: Axes, measures: Sequence[str]) -> pa.Schema:
    """Give the columns: what was asked, one per sweep, the scores of the answers, one per measure, reasons.

    ``purpose`` is ``score``, or ``tune`` for questions on which a value of a sweep was chosen: they are in no mean. In
    rows that are scored the sweep's column then holds the chosen value. A sweep is a number column if all its values
    are numbers. A measure is a number (``text@n``: a text) or null with its reason in ``reasons``. ``attributes`` are
    those of the entity and of the fact, as text. ``scores`` holds every accepted answer with its log probability in
    nats (``-inf`` where the number format has no smaller one) and the worst rank along its tokens. Raises
    ValueError for a sweep or a measure whose name is a fixed column.
    """
    import pyarrow as pa

    text = pa.string()
    before = [
        ("intervention", text),
        ("edited", text),
        ("condition", text),
        ("draw", pa.int32()),
        ("role", text),
        ("purpose", text),
    ]
    prompt = [
        ("prompt_id", pa.int64()),
        ("prompt", text),
        *((column, text) for column in ("entity", "variant", "relation", "phrasing", "language", "template", "part")),
        ("attributes", pa.map_(text, text)),
        ("answers", pa.list_(text)),
        ("known", pa.bool_()),
    ]
    score = pa.struct([("text", text), ("log_probability", pa.float64()), ("worst_rank", pa.int32())])
    after = [("scores", pa.list_(score)), ("reasons", pa.map_(text, text))]
    fixed = {name for name, _ in (*before, *prompt, *after)}
    if taken := sorted(fixed & {*axes, *measures} | set(axes) & set(measures)):
        raise ValueError(f"two columns of the long table would be called {taken[0]!r}")
    swept = [
        (axis, text if any(isinstance(value, str) for value in values) else pa.float64())
        for axis, values in axes.items()
    ]
    measured = [(word, text if word.partition("@")[0] == "text" else pa.float64()) for word in measures]
    return pa.schema([*before, *swept, *prompt, *measured, *after], metadata={b"run-spec.format": FORMAT})


class LongTable:
    """A table that grows: every ``append`` is on the disk when it returns."""

    def __init__(self, folder: Path, axes: Axes, measures: Sequence[str]) -> None:
        import pyarrow as pa

        self.path = folder / PARQUET
        self._stream = folder / STREAM
        self._schema = table_schema(axes, measures)
        self._axes = tuple(axes)
        self._measures = tuple(measures)
        self._texts = {axis for axis in axes if self._schema.field(axis).type == pa.string()}
        self.n_rows = 0
        with refusals(folder, REMEDY):
            # Not a file object of Python's: a Ctrl-C would then be able to strike in the middle of a batch.
            self._file = pa.OSFile(str(self._stream), "wb")
            try:
                self._writer = pa.ipc.new_stream(self._file, self._schema)
                self._write([])  # puts the columns on the disk
            except BaseException:
                self._file.close()
                self._stream.unlink(missing_ok=True)
                raise

    def append(self, rows: Sequence[Row]) -> None:
        """Add measured rows as one batch. Raises DiskFull, and ValueError for a sweep without a column."""
        if rows:
            with refusals(self.path.parent, REMEDY):
                self._write([self._record(row) for row in rows])
            self.n_rows += len(rows)

    def _write(self, records: Sequence[Mapping[str, Any]]) -> None:
        import pyarrow as pa

        self._writer.write_batch(pa.RecordBatch.from_pylist(records, schema=self._schema))

    def _record(self, row: Row) -> dict[str, Any]:
        asked = row.asked
        if extra := sorted({*asked.axes, *asked.tuned} - set(self._axes)):
            raise ValueError(f"{asked.intervention} has the sweep {extra[0]!r}, which has no column")
        record: dict[str, Any] = {
            "intervention": asked.intervention,
            "edited": asked.edited,
            "condition": asked.condition,
            "draw": asked.draw,
            "role": asked.role,
            "purpose": asked.purpose,
            "prompt_id": asked.prompt_id,
            "prompt": asked.prompt,
            "entity": asked.entity,
            "variant": asked.variant,
            "relation": asked.relation,
            "phrasing": asked.phrasing,
            "language": asked.language,
            "template": asked.template,
            "part": asked.part,
            "attributes": [(name, _as_text(value)) for name, value in asked.columns.items()],
            "answers": list(asked.answers),
            "known": row.known,
            "scores": [
                {"text": a.text, "log_probability": sum(a.logps), "worst_rank": max(a.ranks)}
                for a in row.observation.answers
            ],
            "reasons": list(row.reasons.items()),
        }
        for axis, value in {**asked.axes, **asked.tuned}.items():
            record[axis] = _as_text(value) if axis in self._texts else value
        for word in self._measures:
            record[word] = row.values.get(word)
        return record

    def close(self) -> None:
        """Turn the stream into ``results.parquet``. Raises DiskFull, and keeps the stream then."""
        import pyarrow.parquet as pq

        if self._file.closed:
            return
        with refusals(self.path.parent, REMEDY):
            self._file.close()
            table = _read_stream(self._stream)
            if table.num_rows < self.n_rows:
                raise RunError(
                    f"{self._stream} holds {table.num_rows} of {self.n_rows} rows",
                    remedy="the disk lost what was written to it; run the spec again",
                )
            # The stream's batches are as small as the run made them; row groups should not be.
            with whole(self.path) as scratch, scratch.open("wb") as sink:
                pq.write_table(table, sink, compression="zstd", row_group_size=1 << 17)
            self._stream.unlink()

    def __enter__(self) -> LongTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _as_text(value: float | str) -> str:
    return value if isinstance(value, str) else format(value, ".12g")


def read_table(folder: Path) -> pa.Table:
    """Read the long table of a run folder; of a run that was cut off, as many whole batches as there are.

    Raises RunError when there is no table, or when it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, stream = folder / PARQUET, folder / STREAM
    try:
        if path.exists():
            with path.open("rb") as file:
                return pq.read_table(file)
        if stream.exists():
            return _read_stream(stream)
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            f"{path if path.exists() else stream} cannot be read: {str(error).strip().splitlines()[0]}",
            remedy="run the spec again",
        ) from error
    raise RunError(f"{folder} has no long table", remedy="the run stopped before anything was asked")


def _read_stream(stream: Path) -> pa.Table:
    """Read the whole batches of a stream, up to its end or to where it was cut off."""
    import pyarrow as pa

    with stream.open("rb") as file:
        reader = pa.ipc.open_stream(file)
        batches = []
        while True:
            try:
                batches.append(reader.read_next_batch())
            except (StopIteration, OSError, pa.ArrowException):
                return pa.Table.from_batches(batches, schema=reader.schema)
