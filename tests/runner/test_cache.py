"""The stage cache: what is kept comes back bit for bit or not at all."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import atomic
from runner.cache import Kept, StageCache, key

KEY = key({"model": "tiny"})
ARRAYS = {
    "score": np.arange(6, dtype=np.float32).reshape(2, 3),
    "trump/ids": np.array([3, 1], dtype=np.int64),
}
META = {"passes": 3, "note": "트럼프", "none": None}


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "stages")


def same(kept: Kept | None) -> bool:
    assert kept is not None
    return kept.meta == META and all(
        np.array_equal(kept.arrays[name], array) and kept.arrays[name].dtype == array.dtype
        for name, array in ARRAYS.items()
    )


def test_what_is_put_comes_back(cache: StageCache) -> None:
    assert cache.get(KEY) is None
    assert cache.put(KEY, ARRAYS, META)
    assert same(cache.get(KEY)) and cache.notes == []


def test_special_numbers_come_back(cache: StageCache) -> None:
    values = np.array([np.nan, -np.inf, -0.0, 5e-324])
    cache.put(KEY, {"values": values}, {})
    kept = cache.get(KEY)
    assert kept is not None and kept.arrays["values"].tobytes() == values.tobytes()


def test_the_key_is_of_the_contents_and_not_of_their_order() -> None:
    parts = {"ids": [[1, 2], [3]], "edits": {"scale": -1.0, "site": "mlp.neurons"}}
    assert key(parts) == key({"edits": {"site": "mlp.neurons", "scale": -1}, "ids": ((1, 2), (3,))})
    assert key(parts) != key({**parts, "ids": [[1], [2, 3]]})
    assert key(parts) != key({**parts, "edits": {"scale": -1.5, "site": "mlp.neurons"}})
    assert key({"a": "1"}) != key({"a": 1}) != key({"a": True})
    assert key({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists), st.text())
def test_every_document_has_a_key_that_another_name_changes(value: object, name: str) -> None:
    assert key({name: value}) == key({name: value}) != key({name + "x": value})


@pytest.mark.parametrize("value", [object(), np.float32(1), {1: 2}, {"a"}, b"x"])
def test_what_json_does_not_have_is_no_key(value: object) -> None:
    with pytest.raises(TypeError):
        key({"a": value})


def test_a_number_that_is_not_finite_is_no_key() -> None:
    with pytest.raises(ValueError):
        key({"a": float("nan")})


@pytest.mark.parametrize("where", [0, 20, 90, 150, -1, None])
def test_a_damaged_entry_is_a_miss_that_is_said_and_removed(cache: StageCache, where: int | None) -> None:
    cache.put(KEY, ARRAYS, META)
    path = cache.path(KEY)
    data = bytearray(path.read_bytes())
    if where is None:
        del data[-20:]
    else:
        data[where] ^= 1
    path.write_bytes(data)
    assert cache.get(KEY) is None
    assert len(cache.notes) == 1 and "damaged and is computed again" in cache.notes[0]
    assert not path.exists()
    assert cache.put(KEY, ARRAYS, META) and same(cache.get(KEY))


def test_an_empty_file_is_a_miss(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)
    cache.path(KEY).write_bytes(b"")
    assert cache.get(KEY) is None and cache.notes


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, limit=40_000)
    keys = [key({"n": n}) for n in range(4)]
    for age, name in enumerate(keys[:3]):
        cache.put(name, {"a": np.zeros(1500)}, {})
        os.utime(cache.path(name), (1000 + age, 1000 + age))
    assert cache.get(keys[0]) is not None  # now the latest used
    cache.put(keys[3], {"a": np.zeros(1500)}, {})
    assert [cache.path(name).exists() for name in keys] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.stage")) <= 40_000


def test_a_stage_larger_than_the_cache_is_not_kept_and_said(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, limit=100)
    assert not cache.put(KEY, {"a": np.zeros(1000)}, {})
    assert "was not kept" in cache.notes[0] and cache.get(KEY) is None


def test_a_full_disk_costs_the_entry_and_not_the_run(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    assert not cache.put(KEY, ARRAYS, META)
    assert "not kept in the cache: the disk that holds" in cache.notes[0]
    assert list(cache.path(KEY).parent.iterdir()) == []


def test_scratch_files_of_killed_processes_are_removed(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)
    old, new = (cache.path(KEY).with_name(f".{n}.tmp") for n in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1000, 1000))
    cache.put(KEY, ARRAYS, META)
    assert not old.exists() and new.exists()


def test_many_writers_and_readers_of_one_key_see_whole_entries(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)

    def work(_: int) -> list[str]:
        mine = StageCache(cache.root)
        assert all(mine.put(KEY, ARRAYS, META) and same(mine.get(KEY)) for _ in range(10))
        return mine.notes

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [[]] * 4


def test_arrays_of_python_objects_are_refused(cache: StageCache) -> None:
    with pytest.raises(ValueError):
        cache.put(KEY, {"a": np.array([object()])}, {})
    assert list(cache.path(KEY).parent.iterdir()) == []


def test_the_place_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / "here"))
    assert StageCache().root == tmp_path / "here" / "stages"
