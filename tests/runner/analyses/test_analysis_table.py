from __future__ import annotations

from typing import get_args

from runner.analyses import ANALYSES
from specs.language.words import AnalysisVerb


def test_every_verb_is_an_analysis():
    assert set(ANALYSES) == set(get_args(AnalysisVerb))
