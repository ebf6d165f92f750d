"""Provenance: what is recorded, what is left unsaid, and what is said to be missing."""

from __future__ import annotations

import getpass
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from runner import provenance
from runner.provenance import collect, git_state, shown, shown_path
from tests.runner.sample_results import sample

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=N", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one committed spec, as the working folder."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    folder = tmp_path / "work"
    (folder / "specs").mkdir(parents=True)
    (folder / "specs" / "trump.yaml").write_text("version: 1\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "x")
    monkeypatch.chdir(folder)
    return folder


def collected(spec: Path, **more: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"spec_hash": "abc", "overrides": ["seed=1"], "seed": 1, "started": STARTED}
    return collect(spec_files=[spec], **{**facts, **more})


def test_a_run_is_described_by_its_command_files_commit_versions_and_machine(checkout: Path) -> None:
    spec = checkout / "specs" / "trump.yaml"
    found = collected(
        spec,
        finished=STARTED + timedelta(seconds=40),
        command=["/opt/bin/run-spec", "specs/trump.yaml", "--set", "model=tiny one"],
        model=sample().model,
        file_hashes={"model.safetensors": "ff", "config.json": "00"},
        tokenizer_hash="aa",
        device_reason="as asked",
        remarks=["de-quantised"],
    )
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True).stdout.strip()
    assert found["command"] == "run-spec specs/trump.yaml --set 'model=tiny one'"
    assert (found["started"], found["finished"]) == ("2026-01-02T03:04:05+00:00", "2026-01-02T03:04:45+00:00")
    assert found["spec"] == {
        "hash": "abc",
        "files": {"specs/trump.yaml": hashlib.sha256(b"version: 1\n").hexdigest()},
        "overrides": ["seed=1"],
    }
    assert found["git"]["spec"] == {"commit": head, "dirty": False, "tracked": True}
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["versions"]["mlflow"].startswith("3.")
    assert found["machine"]["cores"] >= 1 and found["machine"]["cpu"]
    assert found["model"]["dtype_reason"] == "auto: the CPU computes in bfloat16 (AMX)"
    assert found["model"]["attention"] == "sdpa" and found["model"]["tokenizer"] == "aa"
    assert list(found["model"]["files"]) == ["config.json", "model.safetensors"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_times_are_written_in_utc_and_need_a_time_zone(checkout: Path) -> None:
    there = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=9)))
    assert collected(checkout / "specs" / "trump.yaml", started=there)["started"] == "2026-01-01T18:04:05+00:00"
    with pytest.raises(ValueError, match="time zone"):
        collected(checkout / "specs" / "trump.yaml", started=datetime(2026, 1, 1))


def test_a_changed_checkout_is_dirty_and_a_new_file_is_not_tracked(checkout: Path) -> None:
    spec, new = checkout / "specs" / "trump.yaml", checkout / "specs" / "new.yaml"
    new.write_text("version: 1\n")
    assert git_state(spec)["dirty"] is False
    assert git_state(new)["tracked"] is False
    spec.write_text("version: 1\nseed: 2\n")
    assert git_state(spec)["dirty"] is True


def test_a_checkout_without_a_commit_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init", "-q")
    assert git_state(tmp_path / "a.yaml") == {"commit": None, "reason": "the git checkout has no commit yet"}


def test_a_folder_without_git_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_state(tmp_path / "a.yaml") == {"commit": None, "reason": "not in a git checkout"}
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path / "a.yaml") == {"commit": None, "reason": "git is not installed"}


def test_a_checkout_of_somebody_else_runs_none_of_its_programs(checkout: Path) -> None:
    trap = checkout / "trap.sh"
    trap.write_text("#!/bin/sh\ntouch sprung\n")
    trap.chmod(0o755)
    git(checkout, "config", "core.fsmonitor", str(trap))
    assert git_state(checkout / "specs" / "trump.yaml")["commit"]
    assert not list(checkout.rglob("sprung"))


def test_an_installed_package_is_no_checkout_of_the_folder_it_lies_in(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = checkout / "venv" / "lib"
    (site / "runner").mkdir(parents=True)
    (site / "runner" / "provenance.py").touch()
    monkeypatch.setattr(provenance, "SOURCE", site)
    assert git_state(site / "runner" / "provenance.py") == {
        "commit": None,
        "reason": "installed as a package, not a checkout",
    }


def test_no_home_folder_no_user_name_and_no_password_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    assert shown("/home/alice/specs/a.yaml") == "~/specs/a.yaml"
    assert shown("model=/home/alice") == "model=~"
    assert shown("/home/alicent/a.yaml") == "/home/alicent/a.yaml"
    assert shown("/data/alice/a.yaml") == "/data/USER/a.yaml"
    assert shown("https://alice:secret@mlflow.example.org/x") == "https://mlflow.example.org/x"
    assert shown_path(Path("/home/alice/specs/a.yaml")) == "~/specs/a.yaml"
    found = collected(
        Path("/home/alice/a.yaml"),
        command=["run-spec", "/home/alice/a.yaml", "--tracking-uri", "http://alice:secret@host:5000"],
        overrides=["model=/home/alice/model"],
        model=sample().model.model_copy(update={"id": "/home/alice/model", "weights_origin": "/data/alice"}),
    )
    assert "alice" not in json.dumps(found) and "secret" not in json.dumps(found)


def test_a_spec_that_is_gone_meanwhile_is_said_to_be(tmp_path: Path) -> None:
    files = collected(tmp_path / "gone.yaml")["spec"]["files"]
    assert next(iter(files.values())) == "could not be read again (No such file or directory)"


def test_a_library_that_is_missing_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "LIBRARIES", ("no-such-library-at-all",))
    assert provenance.versions()["no-such-library-at-all"] == "not installed"


def test_collecting_loads_neither_torch_nor_mlflow(checkout: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from runner.provenance import collect\n"
        "f = collect(spec_files=[], spec_hash='', overrides=[], seed=0, started=datetime.now(UTC))\n"
        "assert f['machine']['gpu'].startswith('not looked for'), f\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'mlflow', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=provenance.SOURCE).returncode == 0
